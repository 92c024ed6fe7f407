from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Tuple

import pytest

from edge.clock import SystemClock
from edge.config.schema import MqttConfig
from edge.publish.outbox.age import Timekeeper
from edge.publish.outbox.outbox import Outbox
from edge.publish.publisher import Publisher
from tests.mosquitto import Broker
from tests.publish.outboxes import limits

Failures = List[Tuple[str, BaseException]]


@pytest.fixture
def failures() -> Iterator[Failures]:
    """Threads that died; no test of this room may leave one."""
    died: Failures = []
    yield died
    assert died == []


@pytest.fixture
def make_outbox(failures: Failures, tmp_path: Path) -> Callable[..., Outbox]:
    """Makes outboxes, each on a file of its own unless told, not yet started."""
    numbers = itertools.count()

    def make(path: Optional[Path] = None, **settings: Any) -> Outbox:
        return Outbox(
            path or tmp_path / f"outbox-{next(numbers)}.db",
            limits(**settings),
            Timekeeper(SystemClock(), clock_synced=lambda: True),
            lambda name, error: failures.append((name, error)),
        )

    return make


@pytest.fixture
def make_publisher(
    failures: Failures, make_outbox: Callable[..., Outbox]
) -> Iterator[Callable[..., Publisher]]:
    """Makes publishers of device nx at a broker, not yet started; stops them at the end."""
    made: List[Publisher] = []

    def make(
        broker: Broker, session: int = 17, outbox: Optional[Outbox] = None, **settings: Any
    ) -> Publisher:
        config = MqttConfig.model_validate({"host": broker.host, "port": broker.port, **settings})
        made.append(
            Publisher(
                config,
                "nx",
                session,
                outbox or make_outbox(),
                lambda name, error: failures.append((name, error)),
            )
        )
        return made[-1]

    yield make
    for publisher in made:
        publisher.stop(deadline_s=1)
