"""The appliance as a device of Home Assistant: what is announced, again, and taken back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from edge.config.mqtt import HomeAssistantConfig
from edge.publish.announced import Announced
from edge.publish.home_assistant import HomeAssistant, discovery_topic
from edge.publish.metrics import METRICS
from edge.publish.payload import Appliance
from edge.publish.publisher import Publisher
from edge.publish.retained import Message
from edge.publish.topics import Topics
from tests.mosquitto import Broker, Subscriber, wait_for
from tests.publish import samples

TOPIC = "homeassistant/device/nx/config"
ON = {"home_assistant": {"discovery": True}}

MakePublisher = Callable[..., Publisher]


class Home:
    """Gets what would be sent."""

    def __init__(self, state_dir: Path, device: str = "nx", *, discovery: bool = True) -> None:
        self.sent: List[Message] = []
        self.appliance = HomeAssistant(
            HomeAssistantConfig(discovery=discovery),
            Topics("edge", device),
            Announced(state_dir),
            self.sent.append,
        )

    def last(self) -> Dict[str, Any]:
        message = self.sent[-1]
        assert (message.topic, message.qos, message.retain) == (TOPIC, 1, True)
        body: Dict[str, Any] = json.loads(message.payload)
        return body


def appliance(**changes: Any) -> Appliance:
    return dataclasses.replace(samples.appliance(), **changes)


@pytest.mark.parametrize(
    ("device", "topic"),
    [("nx-0421", "ha/device/nx-0421/config"), ("nx.0421", "ha/device/nx_0421/config")],
)
def test_topic(device: str, topic: str) -> None:
    assert discovery_topic("ha", device) == topic


def test_the_device_and_its_entities(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.appliance.introduce(appliance())
    body = home.last()
    assert body["dev"]["ids"] == ["nx"]
    assert body["o"]["name"] == "edge"
    assert body["avty_t"] == "edge/nx/availability"
    components = body["cmps"]
    assert all({"p", "unique_id", "name"} <= set(component) for component in components.values())
    assert len({component["unique_id"] for component in components.values()}) == len(components)
    link = components["dock1__link"]
    assert (link["p"], link["stat_t"]) == ("binary_sensor", "edge/nx/camera/dock1/status")
    count = components["gate__count__person"]
    assert count["stat_t"] == "edge/nx/camera/gate/count/person"
    assert [where["t"] for where in count["avty"]] == [
        "edge/nx/availability",
        "edge/nx/camera/gate/status",
    ]
    assert components["cpu_load_pct"]["stat_t"] == "edge/nx/health"
    assert "gpu_load_pct" not in components


def test_every_number_is_one_that_health_tells(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.appliance.introduce(appliance())
    home.appliance.read(METRICS)
    told = {key for key, c in home.last()["cmps"].items() if c["stat_t"] == "edge/nx/health"}
    assert told
    assert told <= set(METRICS)


def test_a_detector_of_many_classes_is_not_a_hundred_entities(tmp_path: Path) -> None:
    graph = appliance().graph
    assert graph is not None
    many = dataclasses.replace(graph, class_names=tuple(f"c{number}" for number in range(11)))
    home = Home(tmp_path)
    home.appliance.introduce(appliance(graph=many))
    assert [key for key in home.last()["cmps"] if "count" in key] == [
        "dock1__count__all",
        "gate__count__all",
    ]
    home.appliance.introduce(appliance(graph=many, expected=("c7",)))
    assert "dock1__count__c7" in home.last()["cmps"]


def test_what_the_sensors_tell_of_is_added_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.appliance.introduce(appliance())
    readings = {"temp_gpu_c": 51.0, "gpu_load_pct": 80.0, "cpu_load_pct": 3.0, "unheard_of": 1.0}
    for _ in range(3):
        home.appliance.read(readings)
    assert len(home.sent) == 2
    components = home.last()["cmps"]
    assert components["temp_gpu_c"]["dev_cla"] == "temperature"
    assert components["gpu_load_pct"]["unit_of_meas"] == "%"
    assert "unheard_of" not in components


def test_nothing_is_sent_twice(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.appliance.introduce(appliance())
    home.appliance.introduce(appliance())
    assert len(home.sent) == 1


def test_the_entities_of_a_camera_that_is_gone_are_removed_also_after_a_restart(
    tmp_path: Path,
) -> None:
    before = Home(tmp_path)
    before.appliance.introduce(appliance())
    after = Home(tmp_path)
    after.appliance.take_back()
    assert after.sent == []
    after.appliance.introduce(appliance(cameras=("dock1",)))
    components = after.last()["cmps"]
    assert components["gate__link"] == {"p": "binary_sensor"}
    assert components["gate__count__all"] == {"p": "sensor"}
    assert components["dock1__link"]["name"] == "dock1 link"


def test_switched_off_it_is_taken_back_and_never_announced_it_says_nothing(tmp_path: Path) -> None:
    never = Home(tmp_path, discovery=False)
    never.appliance.take_back()
    never.appliance.introduce(appliance())
    never.appliance.read({"temp_gpu_c": 51.0})
    assert never.sent == []
    assert list(tmp_path.iterdir()) == []
    Home(tmp_path).appliance.introduce(appliance())
    off = Home(tmp_path, discovery=False)
    off.appliance.take_back()
    off.appliance.introduce(appliance())
    assert off.sent == [Message(TOPIC, b"", qos=1, retain=True)]


def test_under_another_name_the_old_one_is_taken_back(tmp_path: Path) -> None:
    Home(tmp_path).appliance.introduce(appliance())
    renamed = Home(tmp_path, "ny")
    renamed.appliance.take_back()
    assert renamed.sent == [Message(TOPIC, b"", qos=1, retain=True)]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"a": 1}', '{"a": {"b": 1}}', '"\\ud800"'], ids=repr
)
def test_a_damaged_memory_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "home-assistant.json").write_text(text)
    home = Home(tmp_path)
    home.appliance.introduce(appliance())
    assert "dock1__link" in home.last()["cmps"]
    assert TOPIC in json.loads((tmp_path / "home-assistant.json").read_text())


def test_a_memory_that_cannot_be_written_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    home = Home(tmp_path / "file")
    home.appliance.introduce(appliance())
    assert home.last()["dev"]["ids"] == ["nx"]
    assert "cannot be" in caplog.text


def test_it_answers_home_assistants_birth_after_a_while(tmp_path: Path) -> None:
    home = Home(tmp_path).appliance
    delays = [home.resend_delay_s(b"online") for _ in range(50)]
    assert all(delay is not None and 0 <= delay <= 10 for delay in delays)
    assert len(set(delays)) > 10
    assert home.resend_delay_s(b"offline") is None
    assert Home(tmp_path, discovery=False).appliance.resend_delay_s(b"online") is None


def test_on_the_wire_it_is_announced_again_and_taken_back(
    broker: Broker,
    make_publisher: MakePublisher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.publish.home_assistant.RESEND_WITHIN_S", 0.1)
    witness = Subscriber(broker, TOPIC)
    try:
        publisher = make_publisher(broker, **ON)
        publisher.announce_to_home_assistant(tmp_path)
        publisher.publish_info(samples.appliance())
        publisher.start()
        witness.wait_for(lambda: witness.messages, "the announcement")
        wait_for(lambda: publisher.counters().queued == 0, "the acknowledgement")
        broker.publish("homeassistant/status", "online")
        witness.wait_for(lambda: len(witness.messages) == 2, "it to come again")
        assert witness.messages[0].payload == witness.messages[1].payload
        assert publisher.stop(deadline_s=10)
        off = make_publisher(broker)
        off.announce_to_home_assistant(tmp_path)
        off.start()
        witness.wait_for(lambda: len(witness.messages) == 3, "it to be taken back")
        assert witness.messages[2].payload == ""
    finally:
        witness.close()
