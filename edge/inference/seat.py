"""The place an engine serves in; another may take it between two batches."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from edge.geometry import Image
from edge.inference.chunks import ChunkedEngine


class EngineSeat:
    """Infers with the engine that is seated: every batch with one of them, none with two."""

    def __init__(self, engine: ChunkedEngine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        # Held by who is next: under load the lock alone goes to whoever held it last.
        self._turn = threading.Lock()

    @property
    def engine(self) -> ChunkedEngine:
        """The engine that is seated."""
        return self._engine

    def infer(self, frames: Image) -> NDArray[np.float32]:
        """Runs frames uint8 [n, H, W, 3] of any n; float32 [n, K, 6]. Raises EngineError."""
        with self._turn:
            self._lock.acquire()
        try:
            return self._engine.infer(frames)
        finally:
            self._lock.release()

    def exchange(self, engine: ChunkedEngine) -> ChunkedEngine:
        """Seats another engine once the running batch is done; the one before, to be closed."""
        with self._turn, self._lock:
            before, self._engine = self._engine, engine
        return before
