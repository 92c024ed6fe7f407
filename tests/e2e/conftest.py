from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from tests.contract import check_contract
from tests.e2e.daemon import Edge
from tests.mosquitto import Subscriber


@pytest.fixture(autouse=True)
def _every_message_keeps_the_contract() -> Iterator[None]:
    Subscriber.heard.clear()
    yield
    check_contract(m for m in Subscriber.heard if not m.topic.startswith("homeassistant/"))


@pytest.fixture
def edge() -> Iterator[Callable[..., Edge]]:
    """Starts `edge` commands and ends them with the test."""
    running: List[Edge] = []

    def start(*arguments: object, cwd: Path | None = None) -> Edge:
        running.append(Edge(*map(str, arguments), cwd=cwd))
        return running[-1]

    yield start
    for process in running:
        process.close()
