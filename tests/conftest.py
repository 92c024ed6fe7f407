"""Fixtures that several rooms and the end-to-end tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterator, List

import pytest
from hypothesis import settings

from tests.mosquitto import Broker, Subscriber

# A loaded machine may be slow; no test judges by the clock.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running mosquitto that lets everybody in and remembers nothing over a restart."""
    folder = tmp_path / "broker"
    folder.mkdir()
    running = Broker(folder)
    running.start()
    yield running
    running.kill()


@pytest.fixture
def subscribe(broker: Broker) -> Iterator[Callable[..., Subscriber]]:
    """Makes subscribers of `broker`: subscribe(topic="#", qos=1)."""
    subscribers: List[Subscriber] = []

    def make(topic: str = "#", qos: int = 1) -> Subscriber:
        subscribers.append(Subscriber(broker, topic, qos))
        return subscribers[-1]

    yield make
    for subscriber in subscribers:
        subscriber.close()
