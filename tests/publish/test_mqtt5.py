"""Version 5 of MQTT at a real broker: what messages say of themselves, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from edge.publish.about import About, about
from edge.publish.payload import ApplianceState
from edge.publish.publisher import Publisher
from edge.records import Alert, AlertSeverity
from tests.mosquitto import Broker, Subscriber, wait_for
from tests.publish import samples

MakePublisher = Callable[..., Publisher]

# Content type, expiry and user properties instead of the payload.
PROPERTIES = ["-V", "mqttv5", "-F", "message %r %t %C|%E|%P"]


@pytest.fixture
def narrow_broker(tmp_path: Path) -> Iterator[Broker]:
    """Takes few messages at a time, and lets the appliance write only below edge/nx/camera."""
    folder = tmp_path / "narrow"
    folder.mkdir()
    acl = folder / "acl"
    acl.write_text("topic readwrite edge/nx/camera/#\ntopic readwrite edge/nx/availability\n")
    acl.chmod(0o600)
    lines = ["max_inflight_messages 3", f"acl_file {acl}"]
    broker = Broker(folder, settings=lines)
    broker.start()
    yield broker
    broker.kill()


def describe(publisher: Publisher) -> None:
    publisher.publish_state(ApplianceState.READY)
    publisher.publish_info(samples.appliance())
    publisher.publish_camera_status(samples.camera_status())


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        pytest.param(
            b'{"schema":"edge.detections/1","device":"nx"}',
            About("application/json", "edge.detections/1", True),
            id="detections",
        ),
        pytest.param(
            b'{"schema":"edge.event/1","device":"nx"}',
            About("application/json", "edge.event/1", False),
            id="events wait for whoever is away",
        ),
        pytest.param(
            b'{"schema":"edge.camera.status/12","d":1}',
            About("application/json", "edge.camera.status/12", False),
            id="status",
        ),
        pytest.param(b'{"dev":{}}', About("application/json", "", False), id="other JSON"),
        pytest.param(b"\xff\xd8\xff\xe0", About("image/jpeg", "", False), id="a picture"),
        pytest.param(b"online", About("text/plain", "", False), id="bare"),
        pytest.param(b"12", About("text/plain", "", False), id="a number"),
    ],
)
def test_what_a_message_says_of_itself(payload: bytes, expected: About) -> None:
    assert about(payload) == expected


def test_every_payload_begins_with_its_schema(
    broker: Broker, make_publisher: MakePublisher
) -> None:
    publisher = make_publisher(broker)
    witness = Subscriber(broker, "edge/#")
    try:
        describe(publisher)
        publisher.start()
        wait_for(lambda: publisher.counters().connected, "the connection")
        publisher.publish_detections(samples.frame_result())
        publisher.publish_camera_stats(samples.camera_counters())
        publisher.publish_health(samples.machine_reading({"cpu_load_pct": 1.0}))
        witness.wait_for(lambda: witness.on("edge/nx/health"), "everything")
        for message in witness.messages:
            if message.payload.startswith("{"):
                assert (
                    about(message.payload.encode()).schema == json.loads(message.payload)["schema"]
                )
    finally:
        witness.close()


def test_messages_carry_their_kind(broker: Broker, make_publisher: MakePublisher) -> None:
    witness = Subscriber(broker, "edge/#", options=PROPERTIES)
    publisher = make_publisher(broker, version="5", expiry_s=90)
    try:
        describe(publisher)
        publisher.start()
        wait_for(lambda: publisher.counters().connected, "the connection")
        publisher.publish_detections(samples.frame_result())
        publisher.publish_health(samples.machine_reading({"cpu_load_pct": 1.0}))
        publisher.publish_snapshot("dock1", b"\xff\xd8 picture")
        camera = "edge/nx/camera/dock1"
        witness.wait_for(lambda: witness.on(f"{camera}/snapshot"), "everything")
        said = {message.topic: message.payload for message in witness.messages}
        assert said["edge/nx/state"] == "application/json||schema:edge.state/1"
        assert said["edge/nx/health"] == "application/json|90|schema:edge.health/1"
        assert said[f"{camera}/detections"] == "application/json|90|schema:edge.detections/1"
        assert said[f"{camera}/snapshot"] == "image/jpeg||"
        assert said["edge/nx/availability"] == "text/plain||"
        assert publisher.stop(deadline_s=10)
    finally:
        witness.close()


def test_the_will_and_everything_else_is_as_in_3_1_1(
    broker: Broker, make_publisher: MakePublisher
) -> None:
    publisher = make_publisher(broker, version="5", detections_qos=1)
    describe(publisher)
    publisher.start()
    witness = Subscriber(broker, "edge/#")
    try:
        wait_for(lambda: publisher.counters().connected, "the connection")
        broker.publish("edge/nx/availability", "offline", retain=True)
        witness.wait_for(
            lambda: witness.payloads("edge/nx/availability")[-1:] == ["online"], "the correction"
        )
        broker.restart()
        wait_for(lambda: not publisher.counters().connected, "the loss to be noticed")
        wait_for(lambda: publisher.counters().connected, "the next connection", timeout_s=60)
    finally:
        witness.close()


def test_a_broker_that_takes_few_messages_at_a_time_gets_no_more(
    narrow_broker: Broker, make_publisher: MakePublisher
) -> None:
    publisher = make_publisher(narrow_broker, version="5", detections_qos=1)
    describe(publisher)
    publisher.start()
    wait_for(lambda: publisher.counters().connected, "the connection")
    topic = "edge/nx/camera/dock1/detections"
    witness = Subscriber(narrow_broker, topic)
    try:
        for frame_id in range(300):
            publisher.publish_detections(samples.frame_result(frame_id=frame_id))
        witness.wait_for(lambda: len(witness.on(topic)) >= 300, "all of them")
        assert [m.json()["frame_id"] for m in witness.on(topic)] == list(range(300))
        assert publisher.last_error is None
    finally:
        witness.close()


def test_what_the_access_list_refuses_is_counted_and_said(
    narrow_broker: Broker, make_publisher: MakePublisher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    publisher = make_publisher(narrow_broker, version="5")
    describe(publisher)
    publisher.raise_alert(Alert("hot", AlertSeverity.WARNING, "hot", 5))
    publisher.start()
    wait_for(lambda: publisher.counters().connected, "the connection")
    wait_for(lambda: publisher.counters().queued == 0, "an answer to everything")

    def lines() -> List[Any]:
        return [record.getMessage() for record in caplog.records]

    wait_for(lambda: any("refuses messages: not authorized" in line for line in lines()), "words")
    refused = publisher.counters().dropped["refused"]
    assert refused == 3  # state, info and the alert
