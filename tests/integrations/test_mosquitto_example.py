"""The broker of docs/mqtt, with its access list, as appliances, gateways and strangers see it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Callable, Dict, Iterator, List

import pytest

from edge.publish.publisher import Publisher
from tests.certificates import Authority
from tests.integrations.conftest import EXAMPLES
from tests.mosquitto import PATIENCE_S, Broker, Subscriber, wait_for
from tests.publish import samples

USERS = ("nx-0421", "nx-0500", "gateway", "operator", "homeassistant")

MakeAppliance = Callable[..., Publisher]


class Site:
    """The example broker, with its paths led to a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        shown = self.authority.sign("broker")
        self.folder = folder
        (folder / "edge.acl").write_bytes((EXAMPLES / "edge.acl").read_bytes())
        (folder / "edge.acl").chmod(0o600)
        moved = {
            "/etc/mosquitto/certs/broker.pem": str(shown.certificate),
            "/etc/mosquitto/certs/broker.key": str(shown.key),
            "/etc/mosquitto/edge.acl": str(folder / "edge.acl"),
            "/var/lib/mosquitto/": f"{folder}/",
        }
        self.broker = Broker(folder, {user: f"of {user}" for user in USERS}, self._settings(moved))
        self.broker.host = "localhost"
        self.broker.start()

    @staticmethod
    def _settings(moved: Dict[str, str]) -> List[str]:
        text = (EXAMPLES / "mosquitto.conf").read_text()
        for path, place in moved.items():
            assert path in text
            text = text.replace(path, place)
        given = [line for line in text.splitlines() if line and not line.startswith("#")]
        # The test's broker brings its own listener, password file and rule about strangers.
        own = ("listener ", "password_file ", "allow_anonymous false", "persistence ")
        return [line for line in given if not line.startswith(own)]

    def credentials(self, user: str) -> List[str]:
        return ["-u", user, "-P", f"of {user}", "--cafile", str(self.authority.certificate)]

    def publish(self, user: str, topic: str, text: str) -> None:
        command = ["mosquitto_pub", "-h", "localhost", "-p", str(self.broker.port), "-q", "1"]
        command += ["-t", topic, "-m", text, *self.credentials(user)]
        subprocess.run(command, check=True, timeout=PATIENCE_S)

    def listen(self, user: str, topic: str) -> Subscriber:
        return Subscriber(self.broker, topic, options=self.credentials(user))

    def appliance(self, device: str) -> Dict[str, object]:
        return {
            "host": "localhost",
            "port": self.broker.port,
            "username": device,
            "password": f"of {device}",
            "tls": {"ca_file": self.authority.certificate},
        }


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    made = Site(folder)
    yield made
    made.broker.kill()


def test_an_appliance_is_heard_by_the_gateway(site: Site, make_appliance: MakeAppliance) -> None:
    gateway = site.listen("gateway", "edge/#")
    try:
        publisher = make_appliance("nx-0421", **site.appliance("nx-0421"))
        wait_for(lambda: publisher.counters().connected, "the connection")
        publisher.publish_detections(samples.frame_result())
        gateway.wait_for(
            lambda: gateway.on("edge/nx-0421/camera/dock1/detections"), "its detections"
        )
        assert gateway.payloads("edge/nx-0421/availability") == ["online"]
    finally:
        gateway.close()


def test_nobody_writes_where_he_has_no_business(site: Site, make_appliance: MakeAppliance) -> None:
    gateway = site.listen("gateway", "edge/#")
    try:
        # The broker acknowledges what it throws away, so each says something that arrives after.
        for user in ("nx-0500", "gateway", "operator", "homeassistant"):
            site.publish(user, "edge/nx-0421/state", f"by {user}")
        site.publish("nx-0500", "edge/nx-0421/cmd/restart", "{}")
        site.publish("gateway", "edge/nx-0421/cmd/restart", "{}")
        site.publish("operator", "edge/nx-0421/cmd/reload", "{}")
        site.publish("operator", "edge/nx-0421/camera/dock1/enabled/set", "false")
        site.publish("nx-0500", "edge/nx-0500/state", "its own")
        gateway.wait_for(lambda: gateway.on("edge/nx-0500/state"), "what is allowed")
        assert [(message.topic, message.payload) for message in gateway.messages] == [
            ("edge/nx-0421/cmd/reload", "{}"),
            ("edge/nx-0421/camera/dock1/enabled/set", "false"),
            ("edge/nx-0500/state", "its own"),
        ]
    finally:
        gateway.close()


def test_an_appliance_hears_its_commands_and_home_assistant(
    site: Site, make_appliance: MakeAppliance
) -> None:
    own = site.listen("nx-0421", "edge/#")
    home = site.listen("homeassistant", "homeassistant/device/#")
    try:
        site.publish("operator", "edge/nx-0500/cmd/reload", "another's")
        site.publish("operator", "edge/nx-0421/cmd/reload", "its own")
        own.wait_for(lambda: own.messages, "its command")
        assert [message.payload for message in own.messages] == ["its own"]
        settings = {**site.appliance("nx-0421"), "home_assistant": {"discovery": True}}
        publisher = make_appliance("nx-0421", **settings)
        wait_for(lambda: publisher.counters().connected, "the connection")
        home.wait_for(lambda: home.messages, "the announcement")
        assert home.messages[0].topic == "homeassistant/device/nx-0421/config"
    finally:
        own.close()
        home.close()


def test_a_stranger_and_a_wrong_password_are_told_why(
    site: Site, make_appliance: MakeAppliance
) -> None:
    settings = site.appliance("nx-0421")
    wrong = make_appliance("nx-0421", **{**settings, "password": "guessed"})
    wait_for(lambda: wrong.last_error, "the refusal")
    assert "user 'nx-0421' is not authorized" in str(wrong.last_error)
    del settings["username"], settings["password"]
    nobody = make_appliance("nx-0500", **settings)
    wait_for(lambda: nobody.last_error, "the refusal")
    assert "set mqtt.username and mqtt.password" in str(nobody.last_error)
