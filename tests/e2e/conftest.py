from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from tests.e2e.daemon import Edge


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
