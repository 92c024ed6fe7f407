"""Topics that come and go, at a real broker: counts, events, alerts, what earlier runs left."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, List

import pytest

from edge.errors import PublishError
from edge.publish.publisher import Publisher
from edge.records import (
    Alert,
    AlertSeverity,
    CameraState,
    Detections,
    Event,
    EventType,
)
from tests.contract import check_contract
from tests.mosquitto import Broker, Subscriber, wait_for
from tests.publish import samples

MakePublisher = Callable[..., Publisher]
Subscribe = Callable[..., Subscriber]

CAMERA = "edge/nx/camera/dock1/"


def start(publisher: Publisher) -> Publisher:
    publisher.publish_info(samples.appliance())
    publisher.publish_camera_status(samples.camera_status())
    publisher.start()
    settle(publisher)
    return publisher


def settle(publisher: Publisher) -> None:
    wait_for(
        lambda: publisher.counters().connected and publisher.counters().queued == 0,
        "the publisher to have delivered everything",
    )


def stored(broker: Broker, count: int = 1) -> Dict[str, str]:
    newcomer = Subscriber(broker, "edge/#")
    try:
        newcomer.wait_for(lambda: len(newcomer.messages) >= count, "the retained messages")
        return {message.topic: message.payload for message in newcomer.messages}
    finally:
        newcomer.close()


def event(type: EventType = EventType.NEW, **changes: Any) -> Event:  # noqa: A002 - the field's name
    made = Event(
        event_id="dock1-000412",
        type=type,
        frame=samples.frame_result().info,
        class_id=1,
        score=0.87346,
        box_xyxy=(-10.0, 270.0, 960.0, 1100.0),
        duration_ms=1250,
        zones=("gate",),
    )
    return dataclasses.replace(made, **changes)


def test_counts_are_told_when_they_change_and_stay_for_newcomers(
    broker: Broker, subscribe: Subscribe, make_publisher: MakePublisher
) -> None:
    witness = subscribe(f"{CAMERA}count/#")
    publisher = start(make_publisher(broker))
    one, none = samples.detections(), Detections.empty()
    for found in (one, one, none, none, one):
        publisher.publish_detections(samples.frame_result(found))
        settle(publisher)
    witness.wait_for(lambda: len(witness.on(f"{CAMERA}count/car")) >= 3, "three changes")
    assert witness.payloads(f"{CAMERA}count/car") == ["1", "0", "1"]
    assert witness.payloads(f"{CAMERA}count/all") == ["1", "0", "1"]
    kept = stored(broker, 5)
    assert kept[f"{CAMERA}count/car"] == "1"
    publisher.publish_camera_status(samples.camera_status(CameraState.STALLED, "no frame for 3 s"))
    settle(publisher)
    publisher.publish_detections(samples.frame_result())  # the last of its frames comes late
    settle(publisher)
    assert f"{CAMERA}count/car" not in stored(broker, 3)
    check_contract(witness.messages)


def test_counts_can_be_left_out(
    broker: Broker, subscribe: Subscribe, make_publisher: MakePublisher
) -> None:
    witness = subscribe("edge/#")
    publisher = start(make_publisher(broker, counts=False))
    publisher.publish_detections(samples.frame_result())
    witness.wait_for(lambda: witness.on(f"{CAMERA}detections"), "detections")
    assert not [m for m in witness.messages if "/count/" in m.topic]


def test_classes_that_the_user_named_are_counted_from_the_first_frame(
    broker: Broker, subscribe: Subscribe, make_publisher: MakePublisher
) -> None:
    witness = subscribe(f"{CAMERA}count/#")
    publisher = start(make_publisher(broker))
    publisher.publish_info(dataclasses.replace(samples.appliance(), expected=("person",)))
    publisher.publish_detections(samples.frame_result(Detections.empty()))
    witness.wait_for(lambda: len(witness.messages) >= 2, "two counts")
    assert {m.topic: m.payload for m in witness.messages} == {
        f"{CAMERA}count/all": "0",
        f"{CAMERA}count/person": "0",
    }


def test_an_alert_stays_until_it_is_cleared(
    broker: Broker, subscribe: Subscribe, make_publisher: MakePublisher
) -> None:
    witness = subscribe("edge/nx/alert/#")
    publisher = start(make_publisher(broker))
    publisher.raise_alert(Alert("gpu_hot", AlertSeverity.CRITICAL, "GPU at 97 °C", 5, 97.0, 95.0))
    witness.wait_for(lambda: witness.messages, "the alert")
    body = witness.messages[0].json()
    assert (body["id"], body["severity"], body["reason"]) == ("gpu_hot", "critical", "GPU at 97 °C")
    assert (body["value"], body["limit"], body["since_ms"]) == (97.0, 95.0, 5)
    assert "edge/nx/alert/gpu_hot" in stored(broker, 4)
    publisher.clear_alert("gpu_hot")
    witness.wait_for(lambda: witness.messages[-1].payload == "", "the end of the alert")
    assert "edge/nx/alert/gpu_hot" not in stored(broker, 3)
    check_contract(witness.messages)


def test_events_tell_of_one_object_in_order(
    broker: Broker, subscribe: Subscribe, make_publisher: MakePublisher
) -> None:
    witness = subscribe(f"{CAMERA}events")
    publisher = start(make_publisher(broker))
    for number, kind in enumerate((EventType.NEW, EventType.UPDATE, EventType.END)):
        publisher.publish_event(event(kind, duration_ms=100 * number))
    witness.wait_for(lambda: len(witness.messages) >= 3, "three messages")
    check_contract(witness.messages)
    bodies = [message.json() for message in witness.messages]
    assert [body["type"] for body in bodies] == ["new", "update", "end"]
    assert [body["seq"] for body in bodies] == [1, 2, 3]
    assert {body["id"] for body in bodies} == {"dock1-000412"}
    first = bodies[0]
    assert first["box"] == [0.0, 0.25, 0.5, 1.0]  # clipped to the frame
    assert (first["class"], first["score"], first["zones"]) == ("car", 0.8735, ["gate"])
    assert first["ts_ms"] == samples.CAPTURED_UNIX_MS
    assert first["replayed"] is False


def test_an_event_needs_a_model(broker: Broker, make_publisher: MakePublisher) -> None:
    with pytest.raises(PublishError, match="an event came before publish_info"):
        make_publisher(broker).publish_event(event())


@pytest.mark.parametrize("retain", [True, False])
def test_snapshots(
    retain: bool, broker: Broker, make_publisher: MakePublisher, subscribe: Subscribe
) -> None:
    witness = subscribe(f"{CAMERA}snapshot")
    publisher = start(make_publisher(broker, snapshot_retain=retain))
    assert publisher.publish_snapshot("dock1", b"\xff\xd8 picture")
    witness.wait_for(lambda: witness.messages, "the picture")
    settle(publisher)
    assert (f"{CAMERA}snapshot" in stored(broker, 3)) == retain


LEFT = {
    "a camera that was removed": "edge/nx/camera/gone/status",
    "its counts": "edge/nx/camera/gone/count/person",
    "its settings": "edge/nx/camera/gone/enabled/state",
    "its picture": "edge/nx/camera/gone/snapshot",
    "a class that was not seen yet": f"{CAMERA}count/person",
    "an alert that is over": "edge/nx/alert/gpu_hot",
}
KEPT = {
    "another appliance's camera": "edge/ny/camera/gone/status",
    "another prefix": "plant/nx/camera/gone/status",
    "somebody else's leaf": "edge/nx/notes",
}


def test_what_an_earlier_run_left_is_cleared_and_nothing_else(
    broker: Broker, make_publisher: MakePublisher
) -> None:
    for topic in [*LEFT.values(), *KEPT.values()]:
        broker.publish(topic, "1", retain=True)
    publisher = start(make_publisher(broker))
    publisher.raise_alert(Alert("still", AlertSeverity.WARNING, "as before", 5))
    newcomer = Subscriber(broker, "#")
    try:
        newcomer.wait_for(
            lambda: (
                {m.topic for m in newcomer.messages if not m.payload} >= set(LEFT.values())
                or not set(LEFT.values()) & {m.topic for m in newcomer.messages if m.retain}
            ),
            "the leftovers to be cleared",
        )
    finally:
        newcomer.close()
    settle(publisher)
    left: List[str] = list(stored(broker, 5))
    assert not set(LEFT.values()) & set(left)
    assert {"edge/ny/camera/gone/status", "edge/nx/notes", f"{CAMERA}status"} <= set(left)
    assert "edge/nx/alert/still" in left


def test_a_retained_picture_outlives_the_run_where_that_is_wanted(
    broker: Broker, make_publisher: MakePublisher
) -> None:
    broker.publish(f"{CAMERA}snapshot", "old picture", retain=True)
    broker.publish("edge/nx/alert/over", "1", retain=True)
    publisher = start(make_publisher(broker, snapshot_retain=True))
    wait_for(lambda: "edge/nx/alert/over" not in stored(broker, 3), "the sweep")
    settle(publisher)
    assert stored(broker, 4)[f"{CAMERA}snapshot"] == "old picture"


def test_a_camera_that_is_no_longer_there_is_forgotten(
    broker: Broker, subscribe: Subscribe, make_publisher: MakePublisher
) -> None:
    witness = subscribe(f"{CAMERA}#")
    publisher = start(make_publisher(broker))
    publisher.publish_detections(samples.frame_result())
    settle(publisher)
    publisher.publish_info(dataclasses.replace(samples.appliance(), cameras=("gate",)))
    witness.wait_for(
        lambda: (
            {m.topic for m in witness.messages if not m.payload}
            >= {f"{CAMERA}status", f"{CAMERA}count/all", f"{CAMERA}count/car"}
        ),
        "its topics to be cleared",
    )
    assert not [topic for topic in stored(broker, 2) if topic.startswith(CAMERA)]
    # It may come back.
    publisher.publish_info(samples.appliance())
    publisher.publish_camera_status(samples.camera_status())
    settle(publisher)
    assert f"{CAMERA}status" in stored(broker, 3)


def test_what_was_cleared_stays_so_when_an_old_broker_comes_back(
    broker: Broker, make_publisher: MakePublisher
) -> None:
    publisher = start(make_publisher(broker))
    publisher.raise_alert(Alert("hot", AlertSeverity.WARNING, "hot", 5))
    publisher.clear_alert("hot")
    settle(publisher)
    broker.stop()
    wait_for(lambda: not publisher.counters().connected, "the loss to be noticed")
    # As one that lost its newest memory in a crash.
    broker.start()
    broker.publish("edge/nx/alert/hot", "1", retain=True)
    settle(publisher)
    wait_for(lambda: "edge/nx/alert/hot" not in stored(broker, 3), "the old alert to go")
