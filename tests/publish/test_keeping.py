"""The publisher and its outbox at a real broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List

from edge.publish.outbox.outbox import Outbox
from edge.publish.publisher import Publisher
from tests.mosquitto import Broker, Subscriber, wait_for
from tests.publish import samples

DETECTIONS = "edge/nx/camera/dock1/detections"

MakePublisher = Callable[..., Publisher]
MakeOutbox = Callable[..., Outbox]
Subscribe = Callable[..., Subscriber]


def tell(publisher: Publisher, count: int) -> None:
    publisher.publish_info(samples.appliance())
    for number in range(count):
        publisher.publish_detections(samples.frame_result(frame_id=number))


def bodies(subscriber: Subscriber) -> List[Dict[str, Any]]:
    return [message.json() for message in subscriber.on(DETECTIONS)]


def test_what_no_broker_heard_is_told_by_the_next_run_as_it_was(
    broker: Broker,
    subscribe: Subscribe,
    make_publisher: MakePublisher,
    make_outbox: MakeOutbox,
    tmp_path: Path,
) -> None:
    path = tmp_path / "state" / "outbox.db"
    broker.stop()
    first = make_publisher(broker, session=1, outbox=make_outbox(path, detections=True))
    first.start()
    wait_for(lambda: first.last_error, "the first attempt")
    tell(first, 5)
    assert first.counters().kept == 5
    assert not first.stop(deadline_s=5)  # the broker did not hear of the end
    dropped = first.counters().dropped
    assert not any(count for cause, count in dropped.items() if cause.startswith("outbox_"))

    broker.start()
    witness = subscribe("edge/#")
    second = make_publisher(broker, session=2, outbox=make_outbox(path, detections=True))
    second.start()
    tell(second, 2)
    witness.wait_for(lambda: len(bodies(witness)) == 7, "all detections")
    told = bodies(witness)
    assert [(body["session"], body["seq"]) for body in told] == [
        *((1, number) for number in range(1, 6)),
        (2, 1),
        (2, 2),
    ]
    assert [body["replayed"] for body in told[:5]] == [True] * 5
    assert {body["ts_ms"] for body in told} == {samples.CAPTURED_UNIX_MS}
    wait_for(lambda: second.counters().kept == 0, "the last acknowledgement")
    assert second.stop(deadline_s=10)


def test_live_ones_never_touch_the_disk(
    broker: Broker,
    subscribe: Subscribe,
    make_publisher: MakePublisher,
    make_outbox: MakeOutbox,
    tmp_path: Path,
) -> None:
    witness = subscribe("edge/#")
    outbox = make_outbox(tmp_path / "outbox.db", detections=True, detections_commit_s=600)
    publisher = make_publisher(broker, outbox=outbox)
    publisher.start()
    tell(publisher, 20)
    witness.wait_for(lambda: len(bodies(witness)) == 20, "all detections")
    wait_for(lambda: outbox.is_empty, "the last acknowledgement")
    assert outbox.status().committed == 0
    assert publisher.stop(deadline_s=10)


def test_losses_and_troubles_are_told_once_each(
    broker: Broker,
    subscribe: Subscribe,
    make_publisher: MakePublisher,
    make_outbox: MakeOutbox,
    tmp_path: Path,
) -> None:
    witness = subscribe("edge/nx/outbox")
    outbox = make_outbox(tmp_path / "outbox.db", detections=True, max_bytes=1_000)
    publisher = make_publisher(broker, outbox=outbox)
    publisher.publish_outbox()
    publisher.start()
    witness.wait_for(lambda: witness.messages, "the first word")
    tell(publisher, 0)
    publisher.publish_detections(samples.frame_result(samples.detections(*many(20))))
    publisher.publish_outbox()
    publisher.publish_outbox()
    witness.wait_for(lambda: len(witness.messages) >= 2, "the loss")
    last = witness.messages[-1].json()
    assert last["losses"] == [{"cause": "too_large", "kind": "detections", "count": 1}]
    assert last["trouble"] == ""
    assert publisher.stop(deadline_s=10)
    assert [message.json()["seq"] for message in witness.messages] == [1, 2]


def many(count: int) -> Any:
    boxes = [(480.0, 270.0, 960.0, 1080.0)] * count
    return boxes, [0.9] * count, [1] * count
