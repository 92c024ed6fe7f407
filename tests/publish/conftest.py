from __future__ import annotations

from typing import Any, Callable, Iterator, List, Tuple

import pytest

from edge.clock import SystemClock
from edge.config.schema import MqttConfig
from edge.publish.publisher import Publisher
from tests.mosquitto import Broker

Failures = List[Tuple[str, BaseException]]


@pytest.fixture
def failures() -> Iterator[Failures]:
    """Threads that died; no test of this room may leave one."""
    died: Failures = []
    yield died
    assert died == []


@pytest.fixture
def make_publisher(failures: Failures) -> Iterator[Callable[..., Publisher]]:
    """Makes publishers of device nx at a broker, not yet started; stops them at the end."""
    made: List[Publisher] = []

    def make(broker: Broker, session: int = 17, **settings: Any) -> Publisher:
        config = MqttConfig.model_validate({"host": broker.host, "port": broker.port, **settings})
        made.append(
            Publisher(
                config,
                "nx",
                session,
                SystemClock(),
                lambda name, error: failures.append((name, error)),
                clock_synced=lambda: True,
            )
        )
        return made[-1]

    yield make
    for publisher in made:
        publisher.stop(deadline_s=1)
