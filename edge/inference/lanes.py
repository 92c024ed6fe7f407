"""Two lanes on one engine each, once the priority lane has one of its own."""

from __future__ import annotations

import threading
from typing import Iterable, Optional, Set, Tuple

from edge.clock import NS_PER_S, Clock
from edge.inference.engine import Launcher
from edge.inference.pipeline import BatchQueue, OnRoom, OnStale, Pipeline
from edge.records import Batch, BatchResult, FrameInfo, Lane, OnBatchResult
from edge.threads import OnFailure


class _Turn:
    """A lock that goes to who waits for it; a plain one mostly goes back to who let it go."""

    def __init__(self) -> None:
        self._held = threading.Lock()
        self._next = threading.Lock()

    def __enter__(self) -> None:
        with self._next:
            self._held.acquire()

    def __exit__(self, *error: object) -> None:
        self._held.release()

    def give_way(self) -> None:
        """Lets whoever waits have a turn first; only for who has it."""
        if self._next.locked():
            self._held.release()
            with self._next:
                self._held.acquire()


class Lanes:
    """A pipeline for all batches, beside which `open_priority` makes one for the priority lane.

    It is used as a Pipeline is, and keeps the promises of one: results are handed on one at a
    time, those of a lane in the order of submission, also where the lane changes its pipeline;
    `on_failure` is told once. Whichever pipeline fails, the other goes on until `stop`.
    An `on_result` that takes its time with a batch may `give_way` meanwhile.
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
        self._on_result = on_result
        self._clock = clock
        self._on_failure = on_failure
        self._telling = _Turn()
        self._shared = Pipeline(engine, queue, self._tell_shared, clock, self._fail, depth)
        self._lock = threading.Lock()
        self._priority: Optional[Pipeline] = None
        # Priority frames that went into the shared pipeline and are not told yet. What comes later
        # waits in the other's queue until these are: there a newer frame can still take its place.
        self._ahead: Set[FrameInfo] = set()
        self._feeder: Optional[Tuple[OnRoom, OnStale]] = None
        self._has_begun = False
        self._is_over = False
        self._has_failed = False

    def start(self, on_room: OnRoom, on_stale: OnStale) -> None:
        """Starts the shared pipeline; whom to tell comes from whoever feeds the lanes."""

        def left_out(info: FrameInfo) -> None:
            on_stale(info)
            self._passed((info,))

        self._shared.start(on_room, left_out)
        with self._lock:
            self._feeder = (on_room, on_stale)
            self._begin_when_due()

    def open_priority(self, engine: Launcher, queue: BatchQueue) -> None:
        """Gives the priority lane an engine of its own, once; after a stop it does nothing.

        Priority batches go there from now on; the first begins when those before it are told.
        """
        with self._lock:
            if self._priority is not None:
                raise ValueError("the priority lane has its engine already")
            if self._is_over:
                return
            # Priority batches do not count against the depth.
            self._priority = Pipeline(engine, queue, self._tell, self._clock, self._fail, depth=1)
            self._begin_when_due()

    def can_take(self) -> bool:
        """Tells whether a shared batch submitted now keeps within the depth."""
        return self._shared.can_take()

    def submit(self, batch: Batch) -> None:
        """Takes a closed batch without blocking; after a stop it counts as abandoned."""
        with self._lock:
            if batch.lane is not Lane.PRIORITY:
                self._shared.submit(batch)
            elif self._priority is not None:
                self._priority.submit(batch)
            else:
                self._ahead.update(_infos(batch))
                self._shared.submit(batch)

    def exchange(self, waiting: Batch, batch: Batch) -> bool:
        """Takes a batch in the place of one that was submitted, which is then the caller's again.

        False, and nothing, if an engine has taken that, or after a stop.
        """
        with self._lock:
            if not self._shared.exchange(waiting, batch):
                return self._priority is not None and self._priority.exchange(waiting, batch)
            if batch.lane is Lane.PRIORITY:
                self._ahead.difference_update(_infos(waiting))
                self._ahead.update(_infos(batch))
            return True

    def give_way(self) -> None:
        """Lets `on_result` have the other lane's result first, if one waits; for `on_result`."""
        self._telling.give_way()

    @property
    def in_flight(self) -> int:
        """Batches taken whose results were not handed on yet."""
        return sum(pipeline.in_flight for pipeline in self._pipelines)

    @property
    def silent_since_ns(self) -> Optional[int]:
        """Since when an engine has been at its oldest batch; None while neither has one."""
        since_ns = (pipeline.silent_since_ns for pipeline in self._pipelines)
        return min((ns for ns in since_ns if ns is not None), default=None)

    @property
    def busy_ns(self) -> int:
        """Nanoseconds the shared engine has worked since the start."""
        return self._shared.busy_ns

    @property
    def abandoned(self) -> Tuple[Batch, ...]:
        """After a stop: the batches taken that will have no result."""
        return tuple(batch for pipeline in self._pipelines for batch in pipeline.abandoned)

    def stop(self, timeout_s: float) -> bool:
        """Takes no more and waits until what was taken is handed on.

        False where that took longer than `timeout_s` or a thread had failed: `abandoned` then
        tells what is lost.
        """
        deadline_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        for pipeline in self._pipelines:
            pipeline.close()
        # The shared one first: what it still has may be ahead of all that the other has.
        has_ended = self._shared.stop(timeout_s)
        with self._lock:
            self._is_over = True
            priority = self._priority
        if priority is None:
            return has_ended
        left_s = (deadline_ns - self._clock.monotonic_ns()) / NS_PER_S
        return priority.stop(left_s) and has_ended

    @property
    def has_ended(self) -> bool:
        """True once all threads have: nobody uses either engine any more."""
        return all(pipeline.has_ended for pipeline in self._pipelines)

    def __repr__(self) -> str:
        return f"<Lanes {' '.join(map(repr, self._pipelines))}>"

    @property
    def _pipelines(self) -> Tuple[Pipeline, ...]:
        with self._lock:
            return (self._shared,) if self._priority is None else (self._shared, self._priority)

    def _tell(self, result: BatchResult) -> None:
        # Two threads hand on; whoever gets the results need not know. The slots are free by now.
        with self._telling:
            self._on_result(result)

    def _tell_shared(self, result: BatchResult) -> None:
        self._tell(result)
        self._passed(_infos(result.batch))

    def _passed(self, infos: Iterable[FrameInfo]) -> None:
        """Notes what came out of the shared pipeline."""
        with self._lock:
            self._ahead.difference_update(infos)
            self._begin_when_due()

    def _begin_when_due(self) -> None:
        """Starts the priority pipeline unless a frame is ahead of it; under the lock."""
        if self._priority is None or self._feeder is None or self._ahead:
            return
        if not self._has_begun and not self._is_over:
            self._has_begun = True
            self._priority.start(*self._feeder, prefix="priority ")

    def _fail(self, name: str, error: BaseException) -> None:
        with self._lock:
            is_first, self._has_failed = not self._has_failed, True
        if is_first:
            self._on_failure(name, error)


def _infos(batch: Batch) -> Iterable[FrameInfo]:
    return (item.info for item in batch.items)
