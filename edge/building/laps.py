"""Runs batches one after the other, or overlapped, and notes when each came and went."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Callable, List, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from edge.errors import EngineError, EngineHangs
from edge.geometry import Image
from edge.inference.engine import Launcher, Pending
from edge.threads import SupervisedThread

# A batch that takes longer never ends.
_PATIENCE_S = 600
_STEP_S = 1

MonotonicNs = Callable[[], int]
FramesOf = Callable[[int], Image]
"""The frames of the n-th batch, uint8 [rows, H, W, 3]; untouched until it is done."""
IsEnough = Callable[[int], bool]
"""Asked before each batch, with how many there were."""
Collect = Callable[[NDArray[np.float32]], object]
"""What is done with a batch's detections [rows, K, 6] by whoever waited for them."""


class Moments(NamedTuple):
    """Of one batch, in ns: when its launch began and had returned, and when somebody began to wait
    for it and had its detections."""

    began_ns: int
    launched_ns: int
    waiting_ns: int
    done_ns: int

    @property
    def latency_ns(self) -> int:
        """From its launch to its detections."""
        return self.done_ns - self.began_ns


def exactly(batches: int) -> IsEnough:
    """So many and no more."""
    return lambda count: count >= batches


def serially(
    launch: Callable[[Image], Pending],
    frames_of: FramesOf,
    is_enough: IsEnough,
    monotonic_ns: MonotonicNs,
) -> List[Moments]:
    """Runs each batch when the one before is done. Raises what a batch fails with."""
    lap: List[Moments] = []
    while not is_enough(len(lap)):
        frames = frames_of(len(lap))
        began_ns = monotonic_ns()
        pending = launch(frames)
        launched_ns = monotonic_ns()
        pending.wait()
        lap.append(Moments(began_ns, launched_ns, launched_ns, monotonic_ns()))
    return lap


def overlapped(
    launcher: Launcher,
    frames_of: FramesOf,
    is_enough: IsEnough,
    monotonic_ns: MonotonicNs,
    collect: Collect = lambda detections: None,
) -> List[Moments]:
    """Runs batches as the daemon does: this thread launches, another waits and collects.

    Raises what a batch fails with, and EngineHangs where one is not done in ten minutes.
    """
    return _Overlap(launcher, monotonic_ns, collect).run(frames_of, is_enough)


class _Out(NamedTuple):
    began_ns: int
    launched_ns: int
    pending: Pending


class _Overlap:
    """One lap of batches on their way between two threads."""

    def __init__(self, launcher: Launcher, monotonic_ns: MonotonicNs, collect: Collect) -> None:
        self._launcher = launcher
        self._monotonic_ns = monotonic_ns
        self._collect = collect
        # Not the engine's own limit: where a batch fails, that may never have room again.
        self._room = threading.Semaphore(launcher.in_flight)
        self._out: SimpleQueue[Optional[_Out]] = SimpleQueue()
        self._lap: List[Moments] = []
        self._error: Optional[BaseException] = None

    def run(self, frames_of: FramesOf, is_enough: IsEnough) -> List[Moments]:
        thread = SupervisedThread("collecting", self._take, lambda _, error: self._fail(error))
        thread.start()
        try:
            self._launch(frames_of, is_enough)
        finally:
            self._out.put(None)
        _wait_for(thread.join)
        if self._error is not None:
            raise self._error
        return self._lap

    def _launch(self, frames_of: FramesOf, is_enough: IsEnough) -> None:
        launched = 0
        while not is_enough(launched):
            _wait_for(self._has_room)
            if self._error is not None:
                return
            frames = frames_of(launched)
            began_ns = self._monotonic_ns()
            try:
                pending = self._launcher.launch(frames)
            except (EngineError, MemoryError) as error:
                self._fail(error)  # raised once nothing is out any more
                return
            self._out.put(_Out(began_ns, self._monotonic_ns(), pending))
            launched += 1

    def _has_room(self, timeout_s: float) -> bool:
        return self._room.acquire(timeout=timeout_s)

    def _take(self) -> None:
        for began_ns, launched_ns, pending in iter(self._out.get, None):
            waiting_ns = self._monotonic_ns()
            try:
                detections = pending.wait()
            except (EngineError, MemoryError) as error:
                self._fail(error)  # and what is out besides is waited for
                continue
            self._lap.append(Moments(began_ns, launched_ns, waiting_ns, self._monotonic_ns()))
            self._room.release()
            self._collect(detections)

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._room.release()


def _wait_for(is_true_within: Callable[[float], bool]) -> None:
    """Waits in steps, so that a process that is stopped for a while does not blame the device."""
    if not any(is_true_within(_STEP_S) for _ in range(_PATIENCE_S // _STEP_S)):
        raise EngineHangs(f"no result for {_PATIENCE_S} s: the device hangs")
