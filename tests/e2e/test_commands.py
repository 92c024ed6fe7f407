"""Commands to a real `edge run` through a real broker."""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import jsonschema
import pytest
from paho.mqtt.publish import multiple

from edge.publish.schemas import all_schemas
from tests.e2e.daemon import Edge
from tests.e2e.test_reload import BELT, DOCK, Site
from tests.e2e.test_run import detections
from tests.mosquitto import Broker, Subscriber, wait_for

ALL = ["snapshot", "enable", "disable", "prioritize", "threshold", "rebuild", "reload", "restart"]
RESULT = "edge/nx/cmd/result"

StartEdge = Callable[..., Edge]
Subscribe = Callable[..., Subscriber]


class Operator:
    """Somebody at the gateway who gives commands and reads the answers."""

    def __init__(self, site: Site, broker: Broker) -> None:
        self.site = site
        self._broker = broker
        self._asked = 0

    @property
    def answers(self) -> List[Dict[str, Any]]:
        return [message.json() for message in self.site.gateway.on(RESULT)]

    def ask(self, verb: str, **keys: Any) -> Dict[str, Any]:
        """Asks with a new id and waits for the answer."""
        self._asked += 1
        return self.send(f"cmd/{verb}", json.dumps({"id": f"op-{self._asked}", **keys}))

    def set(self, camera: str, key: str, value: str) -> Dict[str, Any]:
        return self.send(f"camera/{camera}/{key}/set", value)

    def send(self, leaf: str, payload: str) -> Dict[str, Any]:
        before = len(self.answers)
        self._broker.publish(f"edge/nx/{leaf}", payload)
        self.site.wait(lambda: len(self.answers) > before, f"the answer to {leaf}")
        answer = self.answers[-1]
        jsonschema.validate(answer, all_schemas()["edge.command.result/1"])
        assert answer["topic"] == leaf
        assert not self.site.gateway.on(RESULT)[-1].retain
        return answer

    def wait_for_setting(self, camera: str, key: str, value: str) -> None:
        topic = f"edge/nx/camera/{camera}/{key}/state"
        self.site.wait(
            lambda: self.site.gateway.payloads(topic)[-1:] == [value], f"{key} {value} of {camera}"
        )


@pytest.fixture
def operate(
    tmp_path: Path, broker: Broker, subscribe: Subscribe, edge: StartEdge
) -> Callable[..., Operator]:
    def start(*cameras: Any, **sections: Any) -> Operator:
        site = Site(tmp_path, broker, subscribe("edge/#"), edge, *cameras, **sections)
        return Operator(site, broker)

    return start


def end(site: Site) -> None:
    site.daemon.signal(signal.SIGTERM)
    assert site.daemon.wait() == 0, site.daemon.stderr
    assert "Traceback" not in site.daemon.stderr


def test_cameras_are_changed_live_and_the_file_goes_first_when_it_is_read_again(
    operate: Callable[..., Operator],
) -> None:
    operator = operate(BELT, DOCK, commands={"allow": ALL})
    site = operator.site
    site.wait_for_detections("dock")
    operator.wait_for_setting("dock", "enabled", "ON")
    operator.wait_for_setting("dock", "priority", "OFF")
    operator.wait_for_setting("dock", "score_threshold", "0.25")

    answer = operator.ask("disable", camera="dock")
    assert (answer["status"], answer["camera"], answer["id"]) == ("done", "dock", "op-1")
    assert answer["message"] == (
        "camera dock is disabled until the next restart, or until the configuration is read again"
    )
    site.wait(lambda: site.last("camera/dock/status")["state"] == "disabled", "disabled")
    operator.wait_for_setting("dock", "enabled", "OFF")
    assert operator.ask("disable", camera="dock")["message"] == "camera dock is disabled already"
    assert operator.ask("snapshot", camera="dock")["message"] == "camera dock is disabled"

    answer = operator.set("dock", "enabled", "ON")
    assert (answer["status"], answer["verb"], "id" in answer) == ("done", "enable", False)
    operator.wait_for_setting("dock", "enabled", "ON")
    site.wait_for_detections("dock")

    operator.ask("prioritize", camera="dock")
    operator.wait_for_setting("dock", "priority", "ON")
    site.wait(lambda: detections(site.gateway, "dock")[-1]["batch"]["lane"] == "priority", "lane")

    operator.set("dock", "score_threshold", "0.9")
    operator.ask("threshold", score=0.4)
    operator.wait_for_setting("dock", "score_threshold", "0.9")
    operator.wait_for_setting("belt", "score_threshold", "0.4")

    answer = operator.ask("reload")
    assert answer["status"] == "done"
    assert answer["message"] == "changed dock; set postprocess.score_threshold"
    for key, value in (("enabled", "ON"), ("priority", "OFF"), ("score_threshold", "0.25")):
        operator.wait_for_setting("dock", key, value)
    site.wait(lambda: site.last("health").get("commands_done_total", 0) == 7, "the counters")
    assert site.last("health")["commands_refused_total"] == 1

    site.write(BELT, commands={"allow": ALL})
    assert operator.ask("reload")["message"] == "removed dock"
    site.wait(
        lambda: site.gateway.payloads("edge/nx/camera/dock/enabled/state")[-1:] == [""], "cleared"
    )
    end(site)
    ids = [message["frame_id"] for message in detections(site.gateway, "belt")]
    assert ids == sorted(set(ids))


def test_a_snapshot_is_the_newest_frame_and_a_threshold_one_cameras(
    operate: Callable[..., Operator],
) -> None:
    operator = operate(BELT, DOCK, commands={"allow": ["snapshot", "threshold"]})
    site = operator.site
    site.wait_for_detections("dock")
    told = detections(site.gateway, "belt")[-1]["frame_id"]
    answer = operator.ask("snapshot", camera="belt")
    assert answer["status"] == "done", answer
    frame_id, size, count = (
        answer["message"].replace(",", "").split()[index] for index in (1, 3, 4)
    )
    assert int(frame_id) >= told
    assert size == "160x120"
    (snapshot,) = site.gateway.on("edge/nx/camera/belt/snapshot")
    assert "JFIF" in snapshot.payload
    assert int(count) > 1000
    answer = operator.ask("snapshot", camera="gate")
    assert (answer["status"], answer["message"]) == (
        "refused",
        "there is no camera gate; there are: belt, dock",
    )

    def scores(camera: str, since: int = 0) -> List[float]:
        told = detections(site.gateway, camera)[since:]
        return [one["score"] for message in told for one in message["detections"]]

    site.wait(lambda: scores("dock") and scores("belt"), "objects of both")
    assert min(scores("dock")) < 0.999
    operator.set("dock", "score_threshold", "0.999")
    since = len(detections(site.gateway, "dock")) + 4  # some were on their way
    site.wait(lambda: len(detections(site.gateway, "dock")) > since + 5, "more")
    assert all(score >= 0.999 for score in scores("dock", since))
    assert any(score < 0.999 for score in scores("belt", since))
    end(site)


def test_what_is_wrong_not_allowed_retained_or_too_much_is_refused_or_ignored(
    operate: Callable[..., Operator], broker: Broker, tmp_path: Path
) -> None:
    # The broker has it in store before the daemon comes.
    broker.publish("edge/nx/cmd/restart", '{"id": "old"}', retain=True)
    operator = operate(
        BELT, commands={"allow": ["reload", "restart", "rebuild", "snapshot"], "per_minute": 4}
    )
    site = operator.site
    site.wait_for_detections("belt")
    assert operator.answers == []
    assert "cmd/restart ignored: the broker retains it" in site.daemon.stderr

    for leaf, payload, words in (
        ("cmd/dance", "{}", "there is no such command"),
        ("cmd/reload", "", "the request is not JSON"),
        ("cmd/reload", "{}", "id is required"),
        ("cmd/enable", '{"id": "1", "camera": "belt"}', "add it to commands.allow"),
        ("camera/belt/enabled/set", "OFF", "add it to commands.allow"),
        ("camera/belt/colour/set", "red", "there is no such setting"),
    ):
        answer = operator.send(leaf, payload)
        assert answer["status"] == "refused"
        assert words in answer["message"]
    assert not site.gateway.on("edge/nx/camera/belt/enabled/state")

    assert "not built" in operator.ask("rebuild")["message"]
    first = operator.send("cmd/reload", '{"id": "twice"}')
    again = operator.send("cmd/reload", '{"id": "twice"}')
    assert (first["status"], first["repeated"]) == ("done", False)
    assert (again["status"], again["repeated"]) == ("done", True)
    other = operator.send("cmd/restart", '{"id": "twice"}')
    assert "used before" in other["message"]

    (tmp_path / "config.yaml").write_text("cameras: [")
    answer = operator.ask("reload")
    assert answer["status"] == "failed"
    assert "all goes on as it was: " in answer["message"]
    assert "config.yaml:1:" in answer["message"]
    site.wait_for_reason("new configuration refused: ")
    assert operator.ask("reload")["status"] == "failed"
    assert "more than 4 commands in a minute" in operator.ask("reload")["message"]
    site.wait(lambda: site.last("health").get("commands_retained_total") == 1, "the counters")
    end(site)


def test_a_restart_stops_in_order_and_is_not_repeated_by_the_next_process(
    operate: Callable[..., Operator], edge: StartEdge, tmp_path: Path, broker: Broker
) -> None:
    operator = operate(BELT, commands={"allow": ["restart"]})
    site = operator.site
    site.wait_for_detections("belt")
    answer = operator.send("cmd/restart", '{"id": "now"}')
    assert (answer["status"], answer["message"]) == ("done", "it stops in order, with exit code 75")
    assert site.daemon.wait() == 75, site.daemon.stderr
    site.wait(lambda: site.gateway.payloads("edge/nx/availability")[-1:] == ["offline"], "end")
    assert site.last("state")["reason"] == "a restart was asked for (now)"
    assert "Traceback" not in site.daemon.stderr

    site.daemon = edge("run", "-c", tmp_path / "config.yaml")
    site.wait(lambda: site.gateway.payloads("edge/nx/availability")[-1:] == ["online"], "online")
    again = operator.send("cmd/restart", '{"id": "now"}')
    assert (again["status"], again["repeated"]) == ("done", True)
    site.wait_for_detections("belt")
    end(site)


WORDS = ["", "cmd", "belt", "gate", *ALL, "enabled", "priority", "score_threshold", "x" * 300, "ä"]
VALUES: List[object] = [
    None, True, 0.5, -1, 1e300, "belt", "gate", "", "\x1b[2J", "\ud7ff", [], {"id": {}}, 2**70,
]  # fmt: skip


def anything(rng: random.Random, number: int) -> Tuple[str, bytes]:
    """A topic and a payload that the daemon hears of; some are even right."""
    if rng.random() < 0.3:
        topic = f"edge/nx/camera/{rng.choice(WORDS)}/{rng.choice(WORDS)}/set"
    else:
        topic = f"edge/nx/cmd/{rng.choice(WORDS)}"
    keys = rng.sample(["id", "camera", "score", "priority", "schema", "x"], rng.randrange(6))
    request = {**{key: rng.choice(VALUES) for key in keys}, "id": f"{number}"}
    payload = rng.choice(
        [
            json.dumps(request).encode(),
            json.dumps({"id": f"{number}", "camera": rng.choice(["belt", "gate"])}).encode(),
            rng.choice([b"ON", b"OFF", b"0.5", b"NaN", b"1e999", b""]),
            bytes(rng.randrange(256) for _ in range(rng.randrange(60))),
            b'{"id": "' + b"x" * rng.randrange(5000) + b'"}',
            b"[" * rng.randrange(4000),
        ]
    )
    return topic, payload


def test_whatever_comes_is_answered_and_harms_nothing(
    operate: Callable[..., Operator], broker: Broker
) -> None:
    allowed = [verb for verb in ALL if verb != "restart"]
    operator = operate(BELT, commands={"allow": allowed, "per_minute": 600})
    site = operator.site
    site.wait_for_detections("belt")
    rng = random.Random(7)
    messages = [anything(rng, number) for number in range(250)]
    multiple(
        [(topic, payload, 1, False) for topic, payload in messages],
        hostname=broker.host,
        port=broker.port,
    )
    wait_for(
        lambda: len(operator.answers) == len(messages), f"250 answers, not {len(operator.answers)}"
    )
    statuses = Counter(answer["status"] for answer in operator.answers)
    assert statuses["done"] > 0
    assert statuses["refused"] > 100
    operator.ask("reload")
    operator.wait_for_setting("belt", "enabled", "ON")
    site.wait_for_detections("belt")
    end(site)


def test_a_flood_is_answered_and_takes_no_frame(
    operate: Callable[..., Operator], broker: Broker
) -> None:
    operator = operate(BELT, commands={"allow": ["reload"], "per_minute": 2})
    site = operator.site
    site.wait_for_detections("belt")
    broker.publish_lines("edge/nx/cmd/reload", [json.dumps({"id": str(i)}) for i in range(500)])
    wait_for(lambda: len(operator.answers) == 500, f"500 answers, not {len(operator.answers)}")
    statuses = [answer["status"] for answer in operator.answers]
    assert statuses.count("done") == 2
    assert statuses.count("refused") == 498
    assert {answer["id"] for answer in operator.answers} == set(map(str, range(500)))
    site.wait_for_detections("belt")
    end(site)
    ids = [message["frame_id"] for message in detections(site.gateway, "belt")]
    assert ids == list(range(len(ids)))
