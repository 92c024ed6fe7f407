from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from edge.clock import SystemClock
from edge.config.mqtt import MqttConfig
from edge.publish.outbox.age import Timekeeper
from edge.publish.outbox.outbox import Outbox
from edge.publish.publisher import Publisher
from tests.publish import samples
from tests.publish.outboxes import limits

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "docs" / "mqtt"

MakeAppliance = Callable[..., Publisher]


@pytest.fixture
def make_appliance(tmp_path: Path) -> Iterator[MakeAppliance]:
    """Starts publishers, each a device of its own with cameras dock1 and gate."""
    made: List[Publisher] = []
    died: List[str] = []

    def make(device: str, **settings: Any) -> Publisher:
        outbox = Outbox(
            tmp_path / f"{device}.db",
            limits(),
            Timekeeper(SystemClock(), clock_synced=lambda: True),
            lambda name, error: died.append(f"{name}: {error!r}"),
        )
        config = MqttConfig.model_validate(settings)
        publisher = Publisher(
            config, device, 1, outbox, lambda name, error: died.append(f"{name}: {error!r}")
        )
        made.append(publisher)
        publisher.publish_info(samples.appliance())
        publisher.publish_camera_status(samples.camera_status())
        publisher.start()
        return publisher

    yield make
    for publisher in made:
        publisher.stop(deadline_s=5)
    assert died == []
