"""The place an engine serves in; another may take it between two batches."""

from __future__ import annotations

import threading
from typing import Callable

import numpy as np
from numpy.typing import NDArray

from edge.geometry import Image
from edge.inference.chunks import ChunkedEngine
from edge.inference.engine import Pending


class EngineSeat:
    """Launches on the engine that is seated: every batch on one of them, none on two.

    From `close` on no other is seated.
    """

    def __init__(self, engine: ChunkedEngine) -> None:
        self._engine = engine
        self._changed = threading.Condition()
        self._out = 0
        self._is_exchanging = False
        self._is_closed = False

    @property
    def engine(self) -> ChunkedEngine:
        """The engine that is seated."""
        return self._engine

    @property
    def in_flight(self) -> int:
        """Batches that may be launched before one is waited for."""
        return self._engine.in_flight

    def launch(self, frames: Image) -> Pending:
        """Begins a batch of any size; waits while an exchange goes on. Raises EngineError."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_exchanging)
            engine = self._engine
            self._out += 1
        pending = None
        try:
            pending = engine.launch(frames)
        finally:
            if pending is None:
                self._came_back()
        return _Seated(pending, self._came_back)

    def exchange(self, engine: ChunkedEngine) -> ChunkedEngine:
        """Seats another engine once all that was launched is done; gives the one to be closed.

        That is the one before, or the other itself where the seat was closed meanwhile.
        """
        with self._changed:
            self._is_exchanging = True
            self._changed.wait_for(lambda: self._out == 0 or self._is_closed)
            self._is_exchanging = False
            self._changed.notify_all()
            if self._is_closed:
                return engine
            before, self._engine = self._engine, engine
            return before

    def close(self) -> None:
        """Closes the engine that is seated, all that was launched being done; may be repeated."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._engine.close()

    def _came_back(self) -> None:
        with self._changed:
            self._out -= 1
            self._changed.notify_all()


class _Seated:
    """A batch that the seat waits for before it is given to another engine."""

    def __init__(self, pending: Pending, came_back: Callable[[], None]) -> None:
        self._pending = pending
        self._came_back = came_back

    def wait(self) -> NDArray[np.float32]:
        try:
            return self._pending.wait()
        finally:
            self._came_back()
