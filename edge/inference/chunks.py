"""Runs any number of frames through an engine that takes only so many at once."""

from __future__ import annotations

import logging
from typing import Callable, Iterable, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.errors import EngineError, EngineOutOfMemory
from edge.geometry import Image
from edge.inference.engine import Engine

log = logging.getLogger(__name__)

# Frames of one call by module, where measurement has shown more to be unwise: the Xavier NX shares
# its 8 GB between CPU and GPU.
_MODULE_CAPS = (("Xavier NX", 8),)


def batch_cap(engine_max: int, configured: Optional[int], module: Optional[str]) -> Tuple[int, str]:
    """The largest batch of one call to the engine, and what decided it."""
    limits = [(engine_max, "the engine")]
    limits += [(cap, name) for name, cap in _MODULE_CAPS if module is not None and name in module]
    if configured is not None:
        limits.append((configured, "engine.max_batch"))
    return min(limits)


class ChunkedEngine:
    """Splits batches above the cap into chunks and rejoins their results in order.

    Out of memory halves the cap and runs the batch again, so that nothing is lost or doubled;
    `on_shrink` is told the new cap. Only at a single frame does the error get out.
    """

    def __init__(self, engine: Engine, cap: int, on_shrink: Callable[[int], None]) -> None:
        self._engine = engine
        self._on_shrink = on_shrink
        self._cap = cap
        self._shrinks = 0

    @property
    def cap(self) -> int:
        """Frames of one call at most."""
        return self._cap

    @property
    def shrinks(self) -> int:
        """How often memory ran out."""
        return self._shrinks

    def infer(self, frames: Image) -> NDArray[np.float32]:
        """Runs frames uint8 [n, H, W, 3] of any n; float32 [n, K, 6]. Raises EngineError."""
        while True:
            try:
                return self._infer_in_chunks(frames)
            except EngineOutOfMemory as error:
                tried = min(self._cap, len(frames))
                if tried == 1:
                    raise
                self._shrink(tried, error)

    def _infer_in_chunks(self, frames: Image) -> NDArray[np.float32]:
        results = [self._infer_chunk(chunk) for chunk in _chunks(frames, self._cap)]
        return results[0] if len(results) == 1 else np.concatenate(results)

    def _infer_chunk(self, frames: Image) -> NDArray[np.float32]:
        detections = self._engine.infer(frames)
        if len(detections) != len(frames):
            raise EngineError(
                f"the engine gave results for {len(detections)} of {len(frames)} frames"
            )
        return detections

    def _shrink(self, tried: int, error: EngineOutOfMemory) -> None:
        # Below what did not fit: a batch smaller than the cap would only fail again.
        while self._cap >= tried:
            self._cap //= 2
        self._shrinks += 1
        log.warning("%s; from here on at most %d frames at once", error, self._cap)
        self._on_shrink(self._cap)


def _chunks(frames: Image, size: int) -> Iterable[Image]:
    return (frames[start : start + size] for start in range(0, len(frames), size))
