"""Carries batches through an engine and hands on what it found, in order."""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from typing import Callable, Deque, Dict, List, NamedTuple, Optional, Protocol, Tuple

from edge.clock import NS_PER_S, Clock
from edge.inference.engine import Launcher, Pending
from edge.records import Batch, BatchResult, FrameInfo, Lane, OnBatchResult
from edge.threads import OnFailure, SupervisedThread

OnRoom = Callable[[], None]
"""Told that a batch's slot is free and one more batch can be taken; must return at once."""

OnStale = Callable[[FrameInfo], None]
"""Told of a frame that was too old when the engine took its batch; must return at once."""

_OnStaleBatch = Callable[[Batch, List[FrameInfo]], None]


class BatchQueue(Protocol):
    """Decides which batch goes next."""

    def put(self, batch: Batch) -> None:
        """Adds a batch; never blocks."""

    def exchange(self, waiting: Batch, batch: Batch) -> bool:
        """Puts a batch in the place of one that waits; False, and nothing, if that was taken."""

    def get(self) -> Optional[Batch]:
        """Waits for the next batch; None once the queue is closed and empty."""

    def close(self) -> None:
        """Lets `get` return None after what is queued."""


class _Launched(NamedTuple):
    """A batch on its way through the engine."""

    batch: Batch
    pending: Pending
    started_ns: int


class Pipeline:
    """One thread infers, another hands results on, so the engine never waits for a consumer.

    Where the engine works on several batches at once, a third thread waits for them, so that it
    does not wait for Python either. A batch leaves the queue when the engine can begin it: until
    then others may overtake it, or take its place.

    A batch is in flight from `submit` until its result is about to be handed on; while a slow
    consumer has one result, `depth` shared batches more are taken and no further. Frames that
    are stale when the engine takes their batch are left out of it. An exception of the engine
    or of `on_result` reaches `on_failure` once; no batch is taken after it.
    """

    def __init__(
        self,
        engine: Launcher,
        queue: BatchQueue,
        on_result: OnBatchResult,
        clock: Clock,
        on_failure: OnFailure,
        depth: int,
    ) -> None:
        if depth < 1:
            raise ValueError(f"depth must be positive, got {depth}")
        self._engine = engine
        self._is_synchronous = engine.in_flight == 1
        self._queue = queue
        self._on_result = on_result
        self._clock = clock
        self._on_failure = on_failure
        self._depth = depth
        self._lock = threading.Lock()
        self._in_flight: List[Batch] = []
        self._busy_ns = 0
        self._is_open = True
        self._is_cancelled = False
        # A token for each batch that the engine can begin now; False once it begins no more.
        self._berths: SimpleQueue[bool] = SimpleQueue()
        for _ in range(engine.in_flight):
            self._berths.put(True)
        self._launched: SimpleQueue[Optional[_Launched]] = SimpleQueue()
        self._results: SimpleQueue[Optional[BatchResult]] = SimpleQueue()
        # When the engine took what it has not done yet, the oldest first; and was last done.
        self._taken_ns: Deque[int] = deque()
        self._done_ns = 0
        self._threads: Tuple[SupervisedThread, ...] = ()

    def start(self, on_room: OnRoom, on_stale: OnStale, prefix: str = "") -> None:
        """Starts the threads; whom to tell comes from whoever feeds the pipeline.

        `prefix` goes before the threads' names.
        """

        def leave_out(batch: Batch, stale: List[FrameInfo]) -> None:
            for info in stale:
                on_stale(info)
            if len(stale) == len(batch.items):
                batch.slot.release()
                on_room()

        def hand_on(result: BatchResult) -> None:
            result.batch.slot.release()
            on_room()
            self._on_result(result)

        bodies: Dict[str, Callable[[], None]] = {
            "inference": lambda: self._launch_all(leave_out),
            "completion": self._collect_all,
            "results": lambda: self._hand_on_all(hand_on),
        }
        if self._is_synchronous:
            del bodies["completion"]
        self._threads = tuple(
            SupervisedThread(prefix + name, body, self._on_failure) for name, body in bodies.items()
        )
        for thread in self._threads:
            thread.start()

    def can_take(self) -> bool:
        """Tells whether a shared batch submitted now keeps within `depth`.

        Priority batches do not count: each has a slot of its own, and overtakes.
        """
        with self._lock:
            shared = sum(batch.lane is Lane.BATCH for batch in self._in_flight)
            return self._is_open and shared < self._depth

    def submit(self, batch: Batch) -> None:
        """Takes a closed batch without blocking; after a stop it counts as abandoned."""
        with self._lock:
            self._in_flight.append(batch)
            if self._is_open:
                self._queue.put(batch)

    def exchange(self, waiting: Batch, batch: Batch) -> bool:
        """Takes a batch in the place of one that was submitted, which is then the caller's again.

        False, and nothing, if the engine has taken that, or after a stop.
        """
        with self._lock:
            if not self._is_open or not self._queue.exchange(waiting, batch):
                return False
            self._in_flight[self._in_flight.index(waiting)] = batch
            return True

    @property
    def in_flight(self) -> int:
        """Batches taken whose results were not handed on yet."""
        with self._lock:
            return len(self._in_flight)

    @property
    def silent_since_ns(self) -> Optional[int]:
        """Since when the engine has been at its oldest batch; None while it has none."""
        with self._lock:
            return max(self._taken_ns[0], self._done_ns) if self._taken_ns else None

    @property
    def busy_ns(self) -> int:
        """Nanoseconds the engine has worked since the start."""
        with self._lock:
            return self._busy_ns

    @property
    def abandoned(self) -> Tuple[Batch, ...]:
        """After a stop: the batches taken that will have no result."""
        with self._lock:
            return () if self._is_open else tuple(self._in_flight)

    def close(self) -> None:
        """Takes no more; what was taken is still handed on."""
        self._close()
        self._queue.close()

    def stop(self, timeout_s: float) -> bool:
        """Takes no more and waits until what was taken is handed on.

        False where that took longer than `timeout_s` or a thread had failed: `abandoned` then
        tells what is lost.
        """
        deadline_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        self.close()
        has_ended = True
        for thread in self._threads:
            left_s = (deadline_ns - self._clock.monotonic_ns()) / NS_PER_S
            has_ended &= thread.join(left_s)
        with self._lock:
            self._is_cancelled = True
            return has_ended and not self._in_flight

    @property
    def has_ended(self) -> bool:
        """True once its threads have: nobody uses the engine any more."""
        return not any(thread.is_alive for thread in self._threads)

    def __repr__(self) -> str:
        return f"<Pipeline {self.in_flight} of {self._depth} in flight>"

    def _close(self) -> None:
        with self._lock:
            self._is_open = False

    def _launch_all(self, on_stale: _OnStaleBatch) -> None:
        try:
            while self._berths.get():
                batch = self._queue.get()
                if batch is None or self._is_cancelled:
                    return
                started_ns = self._clock.monotonic_ns()
                fresh = self._without_stale(batch, started_ns, on_stale)
                if fresh is None:
                    self._berths.put(True)
                else:
                    self._forward(self._launch(fresh, started_ns))
        finally:
            self._close()
            (self._results if self._is_synchronous else self._launched).put(None)

    def _launch(self, batch: Batch, now_ns: int) -> _Launched:
        with self._lock:
            self._taken_ns.append(now_ns)
        return _Launched(batch, self._engine.launch(batch.frames), now_ns)

    def _forward(self, launched: _Launched) -> None:
        if self._is_synchronous:
            self._results.put(self._collect(launched))
        else:
            self._launched.put(launched)

    def _without_stale(self, batch: Batch, now_ns: int, on_stale: _OnStaleBatch) -> Optional[Batch]:
        stale = [item.info for item in batch.items if item.is_stale(now_ns)]
        if not stale:
            return batch
        rows = [row for row, item in enumerate(batch.items) if not item.is_stale(now_ns)]
        fresh = batch.keeping(rows) if rows else None
        with self._lock:
            if self._is_cancelled:  # a stop has given all of it up
                return None
            place = self._in_flight.index(batch)
            self._in_flight[place : place + 1] = [] if fresh is None else [fresh]
        on_stale(batch, stale)
        return fresh

    def _collect_all(self) -> None:
        try:
            while True:
                launched = self._launched.get()
                if launched is None:
                    return
                self._results.put(self._collect(launched))
        finally:
            self._close()
            self._berths.put(False)
            self._results.put(None)

    def _collect(self, launched: _Launched) -> BatchResult:
        detections = launched.pending.wait()
        self._berths.put(True)
        done_ns = self._clock.monotonic_ns()
        with self._lock:
            # From its predecessor's end on where they overlapped: no moment is counted twice.
            busy_ns = done_ns - max(launched.started_ns, self._done_ns)
            self._busy_ns += busy_ns
            self._done_ns = done_ns
            self._taken_ns.popleft()
        return BatchResult(launched.batch, detections, launched.started_ns, done_ns, busy_ns)

    def _hand_on_all(self, hand_on: OnBatchResult) -> None:
        try:
            while True:
                result = self._results.get()
                if result is None or not self._claim(result.batch):
                    return
                hand_on(result)
        finally:
            self._close()

    def _claim(self, batch: Batch) -> bool:
        """Takes a batch off the books, unless a stop has given it up by then."""
        with self._lock:
            if self._is_cancelled:
                return False
            self._in_flight.remove(batch)
            return True
