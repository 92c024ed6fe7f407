"""Runs any number of frames through an engine that takes only so many at once."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections import deque
from typing import Callable, Deque, Iterable, List, Sequence

import numpy as np
from numpy.typing import NDArray

from edge.errors import EngineError, EngineOutOfMemory
from edge.geometry import Image
from edge.inference.engine import Done, Engine, Pending
from edge.records import EngineInfo, StageTimes

log = logging.getLogger(__name__)


class ChunkedEngine:
    """Splits batches above the cap into chunks and rejoins their results in order.

    Out of memory halves the cap and runs the batch again, so that nothing is lost or doubled;
    `on_shrink` is told the new cap. Only at a single frame does the error get out, and of a static
    engine, which has no use for fewer frames.
    """

    def __init__(self, engine: Engine, cap: int, on_shrink: Callable[[int], None]) -> None:
        self._engine = engine
        self._on_shrink = on_shrink
        self._cap = cap
        self._shrinks = 0
        self._turn = threading.Lock()

    @property
    def cap(self) -> int:
        """Frames of one call at most."""
        return self._cap

    @property
    def shrinks(self) -> int:
        """How often memory ran out."""
        return self._shrinks

    @property
    def info(self) -> EngineInfo:
        """What serves, with the batch it is allowed at present."""
        return dataclasses.replace(self._engine.info, max_batch=self._cap)

    @property
    def stage_times(self) -> Sequence[StageTimes]:
        """What the last sampled calls took on a GPU, the oldest first; empty on a CPU."""
        return self._engine.stage_times

    @property
    def in_flight(self) -> int:
        """Batches that may be launched before one is waited for."""
        return self._engine.in_flight

    def launch(self, frames: Image) -> Pending:
        """Begins a batch of any size. Raises EngineError."""
        if self._engine.in_flight == 1:
            return Done(self.infer(frames))
        # A batch of several chunks has the engine to itself until it is waited for: its chunks
        # overlap each other, and who waits for them launches them.
        self._turn.acquire()
        if len(frames) > self._cap:
            return _Deferred(self, frames, self._turn.release)
        try:
            return _Attempt(self, frames, self._launch_chunk(frames))
        except EngineOutOfMemory as error:
            self.shrink(len(frames), error)
            return Done(self.infer(frames))
        finally:
            self._turn.release()

    def infer(self, frames: Image) -> NDArray[np.float32]:
        """Runs frames uint8 [n, H, W, 3] of any n; float32 [n, K, 6]. Raises EngineError."""
        return self.infer_beside(frames, 0)

    def infer_beside(self, frames: Image, others: int) -> NDArray[np.float32]:
        """The same while so many batches are out that only the caller will wait for."""
        while True:
            try:
                return self._infer_in_chunks(frames, self._engine.in_flight - others)
            except EngineOutOfMemory as error:
                self.shrink(len(frames), error)

    def shrink(self, count: int, error: EngineOutOfMemory) -> None:
        """Lowers the cap after `count` frames did not fit; raises where fewer would not either."""
        if self._engine.info.is_static:
            raise EngineOutOfMemory(
                f"{error}; this engine needs as much for every batch, however small: set a smaller "
                "engine.max_batch, or export the model for a smaller batch"
            ) from error
        tried = min(self._cap, count)
        if tried == 1:
            raise error
        # Below what did not fit: a batch smaller than the cap would only fail again.
        while self._cap >= tried:
            self._cap //= 2
        self._shrinks += 1
        log.warning("%s; from here on at most %d frames at once", error, self._cap)
        self._on_shrink(self._cap)

    def close(self) -> None:
        """Frees what the engine holds, all that was launched being done. May be called again."""
        self._engine.close()

    def _infer_in_chunks(self, frames: Image, most_out: int) -> NDArray[np.float32]:
        results: List[NDArray[np.float32]] = []
        out: Deque[Pending] = deque()
        try:
            for chunk in _chunks(frames, self._cap):
                if len(out) == most_out:
                    results.append(out.popleft().wait())
                out.append(self._launch_chunk(chunk))
            while out:
                results.append(out.popleft().wait())
        except EngineError:
            # What is out must come back: it may be done again, or the engine exchanged or closed.
            for pending in out:
                with contextlib.suppress(EngineError):
                    pending.wait()
            raise
        return results[0] if len(results) == 1 else np.concatenate(results)

    def _launch_chunk(self, frames: Image) -> Pending:
        return _Counted(self._engine.launch(frames), len(frames))


class _Counted:
    """A chunk that must have a result for each of its frames."""

    def __init__(self, pending: Pending, count: int) -> None:
        self._pending = pending
        self._count = count

    def wait(self) -> NDArray[np.float32]:
        detections = self._pending.wait()
        if len(detections) != self._count:
            raise EngineError(
                f"the engine gave results for {len(detections)} of {self._count} frames"
            )
        return detections


class _Attempt:
    """A batch of one chunk; if memory runs out, smaller ones do it again."""

    def __init__(self, engine: ChunkedEngine, frames: Image, pending: Pending) -> None:
        self._engine = engine
        self._frames = frames
        self._pending = pending

    def wait(self) -> NDArray[np.float32]:
        try:
            return self._pending.wait()
        except EngineOutOfMemory as error:
            self._engine.shrink(len(self._frames), error)
            # All others may be out, and whoever waits for this batch waits for them afterwards.
            return self._engine.infer_beside(self._frames, self._engine.in_flight - 1)


class _Deferred:
    """A batch of several chunks, done when it is waited for; then the next has its turn."""

    def __init__(self, engine: ChunkedEngine, frames: Image, end_turn: Callable[[], None]) -> None:
        self._engine = engine
        self._frames = frames
        self._end_turn = end_turn

    def wait(self) -> NDArray[np.float32]:
        try:
            return self._engine.infer(self._frames)
        finally:
            self._end_turn()


def _chunks(frames: Image, size: int) -> Iterable[Image]:
    return (frames[start : start + size] for start in range(0, len(frames), size))
