"""A hundred appliances on one broker."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Callable, Dict, Iterator, List

import pytest

from edge.config.mqtt import MqttConfig
from edge.publish.outbox.outbox import Outbox
from edge.publish.payload import ApplianceState
from edge.publish.publisher import Publisher
from tests.contract import check_contract
from tests.mosquitto import Broker, Received, Subscriber, wait_for
from tests.publish import samples
from tests.publish.conftest import Failures

COUNT = 100
FRAMES = 5


@pytest.fixture
def fleet(
    broker: Broker, make_outbox: Callable[..., Outbox], failures: Failures
) -> Iterator[List[Publisher]]:
    made = []
    for number in range(COUNT):
        # Half of them on version 5, a tenth under another prefix with an id that is taken already.
        is_twin = number % 10 == 9
        config = MqttConfig.model_validate(
            {
                "host": broker.host,
                "port": broker.port,
                "version": "5" if number % 2 else "3.1.1",
                "prefix": "plant/b" if is_twin else "edge",
                "detections_qos": 1,
            }
        )
        device = f"nx-{number - 1 if is_twin else number}"
        publisher = Publisher(
            config,
            device,
            1,
            make_outbox(),
            lambda name, error: failures.append((name, error)),
        )
        made.append(publisher)
    yield made
    for publisher in made:
        publisher.stop(deadline_s=5)


def detections(gateway: Subscriber) -> List[Received]:
    return [m for m in list(gateway.messages) if m.topic.endswith("/detections")]


def tree_of(topic: str) -> str:
    """The part of a topic that belongs to one appliance."""
    levels = topic.split("/")
    device = next(n for n, level in enumerate(levels) if level.startswith("nx-"))
    return "/".join(levels[: device + 1])


def test_a_hundred_appliances_do_not_get_into_each_others_way(
    broker: Broker, fleet: List[Publisher], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    gateway = Subscriber(broker, "#")
    try:
        for publisher in fleet:
            publisher.publish_state(ApplianceState.READY)
            publisher.publish_info(samples.appliance())
            publisher.publish_camera_status(samples.camera_status())
            publisher.start()
        wait_for(lambda: all(p.counters().connected for p in fleet), "all connections", 60)
        for frame_id in range(FRAMES):
            for publisher in fleet:
                publisher.publish_detections(samples.frame_result(frame_id=frame_id))
        wait_for(lambda: all(p.counters().queued == 0 for p in fleet), "every message", 60)
        wait_for(lambda: len(detections(gateway)) >= COUNT * FRAMES, "all detections")
        for publisher in fleet:
            assert publisher.stop(deadline_s=10)
        wait_for(
            lambda: sum(m.payload == "offline" for m in list(gateway.messages)) >= COUNT, "the end"
        )
    finally:
        gateway.close()
    trees = {tree_of(message.topic) for message in gateway.messages}
    frames: Dict[str, List[int]] = defaultdict(list)
    for message in detections(gateway):
        assert tree_of(message.topic).endswith(f"/{message.json()['device']}")
        frames[tree_of(message.topic)].append(message.json()["frame_id"])
    assert len(trees) == COUNT
    assert all(told == list(range(FRAMES)) for told in frames.values())
    ends = Counter(m.payload for m in gateway.messages if m.topic.endswith("/availability"))
    assert ends == {"online": COUNT, "offline": COUNT}  # nobody was thrown out meanwhile
    check_contract(gateway.messages)
    assert not caplog.records
