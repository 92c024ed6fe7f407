"""The road to a real mosquitto: which step fails, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import pytest

from edge.clock import SystemClock
from edge.config.mqtt import MqttConfig
from edge.doctor.broker import walk
from edge.doctor.finding import Finding
from edge.doctor.road import Rehearsal, Road, judge_broker
from tests.certificates import Authority
from tests.mosquitto import Broker, Subscriber, free_port

TREE = "edge/nx/"
TOPIC = f"{TREE}doctor"


def looked_at(config: MqttConfig) -> Dict[str, Finding]:
    road = walk(config, "edge-nx-doctor", TOPIC, SystemClock())
    return {found.subject: found for found in judge_broker(road, config, TREE)}


def verdicts(found: Dict[str, Finding]) -> Dict[str, str]:
    return {subject: finding.verdict.value for subject, finding in found.items()}


def at(broker: Broker, **keys: Any) -> MqttConfig:
    return MqttConfig.model_validate({"host": "localhost", "port": broker.port, **keys})


class Guarded(NamedTuple):
    """A broker, and whom to ask whether it is the one."""

    broker: Broker
    ca_file: Path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Over TLS; `free` may do all, `deaf` only publish, `mute` only listen."""
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder)
    shown = authority.sign("broker")
    rules = folder / "rules.acl"
    rules.write_text(
        "user free\ntopic readwrite edge/nx/#\nuser deaf\ntopic write edge/nx/#\n"
        "user mute\ntopic read edge/nx/#\n"
    )
    rules.chmod(0o600)
    lines = [f"certfile {shown.certificate}", f"keyfile {shown.key}", f"acl_file {rules}"]
    broker = Broker(folder, {name: "right" for name in ("free", "deaf", "mute")}, lines)
    broker.start()
    yield Guarded(broker, authority.certificate)
    broker.kill()


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_all_is_well(broker: Broker, version: str) -> None:
    found = looked_at(at(broker, version=version))
    assert verdicts(found) == {
        "broker name": "ok", "broker port": "ok", "broker login": "ok", "broker access": "ok",
    }  # fmt: skip
    assert found["broker login"].words == f"accepted without a user, MQTT {version}"


def test_it_says_one_thing_that_is_not_kept(
    broker: Broker, subscribe: Callable[..., Subscriber]
) -> None:
    early = subscribe(f"{TREE}#")
    looked_at(at(broker))
    early.wait_for(lambda: early.messages, "the message")
    late = subscribe(f"{TREE}#")
    broker.publish(f"{TREE}end", "x")
    early.wait_for(lambda: early.on(f"{TREE}end"), "the end")
    late.wait_for(lambda: late.on(f"{TREE}end"), "the end")
    assert [message.topic for message in early.messages] == [TOPIC, f"{TREE}end"]
    assert [message.topic for message in late.messages] == [f"{TREE}end"]


def test_nobody_listens_at_the_port() -> None:
    config = MqttConfig(host="localhost", port=free_port())
    found = looked_at(config)
    assert verdicts(found) == {"broker name": "ok", "broker port": "fault"}
    assert "Connection refused" in found["broker port"].words


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".local"])
def test_the_name_has_no_address(host: str) -> None:
    found = looked_at(MqttConfig(host=host))
    assert verdicts(found) == {"broker name": "fault"}
    assert "mqtt.host" in found["broker name"].fix


def test_tls_from_unknown_authorities(guarded: Guarded) -> None:
    found = looked_at(at(guarded.broker, tls={}, username="free", password="right"))
    assert verdicts(found)["broker TLS"] == "fault"
    assert "ca_file" in found["broker TLS"].fix
    assert "broker login" not in found


@pytest.mark.parametrize(("user", "password"), [("free", "wrong"), ("nobody", "right")])
def test_wrong_login(guarded: Guarded, user: str, password: str) -> None:
    tls = {"ca_file": guarded.ca_file}
    found = looked_at(at(guarded.broker, tls=tls, username=user, password=password))
    assert verdicts(found)["broker TLS"] == "ok"
    assert verdicts(found)["broker login"] == "fault"
    assert "broker access" not in found
    assert f"{password}'" not in "".join(f"{f.words}{f.fix}" for f in found.values())


ACCESS: Dict[str, List[str]] = {
    "free": ["ok", "may publish and listen under edge/nx/"],
    "deaf": ["warning", "may publish under edge/nx/, not listen"],
    "mute": ["fault", "may not publish under edge/nx/ (not authorized)"],
}


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize("user", ACCESS)
def test_access_list(guarded: Guarded, user: str, version: str) -> None:
    tls = {"ca_file": guarded.ca_file}
    config = at(guarded.broker, tls=tls, username=user, password="right", version=version)
    access = looked_at(config)["broker access"]
    verdict, words = ACCESS[user]
    assert access.verdict.value == verdict
    assert access.words.startswith(words)
    if verdict != "ok":
        assert access.fix.endswith(f"for user {user}: topic readwrite edge/nx/#")


def test_a_broker_that_says_nothing(broker: Broker) -> None:
    broker.freeze()
    found = looked_at(at(broker))
    broker.thaw()
    assert verdicts(found)["broker login"] == "fault"
    assert "does not answer" in found["broker login"].words


HOST = "192.0.2.1"
ROADS: Dict[str, Any] = {
    "plaintext to another machine": ({}, Road(HOST), "broker TLS", "warning"),
    "TLS is good": ({"tls": {}}, Road(HOST), "broker TLS", "ok"),
    "never visited again": (
        {}, Road(HOST, rehearsal_trouble="refuses"), "broker access", "warning",
    ),
    "nothing acknowledged": ({}, Road(HOST, rehearsal=Rehearsal()), "broker access", "warning"),
    "swallowed in 3.1.1": (
        {}, Road(HOST, rehearsal=Rehearsal(is_confirmed=True)), "broker access", "fault",
    ),
    "told so in 3.1.1": (
        {}, Road(HOST, rehearsal=Rehearsal(is_confirmed=True, may_listen=False)),
        "broker access", "warning",
    ),
    "swallowed in 5": (
        {}, Road(HOST, rehearsal=Rehearsal(is_confirmed=True), is_version_5=True),
        "broker access", "warning",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("keys", "road", "subject", "verdict"), ROADS.values(), ids=ROADS)
def test_road(keys: Dict[str, Any], road: Road, subject: str, verdict: Optional[str]) -> None:
    config = MqttConfig.model_validate({"host": HOST, **keys})
    found = {finding.subject: finding for finding in judge_broker(road, config, TREE)}
    assert found[subject].verdict.value == verdict


def test_a_file_that_is_missing_says_nothing_good_of_the_broker(
    guarded: Guarded, tmp_path: Path
) -> None:
    absent = tmp_path / "absent.pem"
    found = looked_at(at(guarded.broker, tls={"ca_file": absent}))
    assert verdicts(found) == {"broker name": "ok", "broker port": "ok", "broker TLS": "fault"}
    words = f"mqtt.tls.ca_file {absent}: cannot be read: No such file or directory"
    assert found["broker TLS"].words == words
    assert found["broker TLS"].fix == "put a good file there, or correct the key"
