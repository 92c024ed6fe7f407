"""Cameras, the real scheduler and a simulated engine under a simulated clock.

Mailboxes, lanes, policy, slots and queue are the product's own; only time, pixels and the engine
are not real. Rows are not drawn: a batch reaches the engine `draw_ms` after its last row was bound.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Callable, DefaultDict, Dict, List, Optional, Sequence, Tuple, TypeVar

import numpy as np

from edge.batching.batcher import Batcher
from edge.batching.drawing import Drawer
from edge.batching.feed import Feed
from edge.batching.lane_queue import LaneQueue
from edge.batching.policy import BatchPolicy
from edge.batching.priority_lane import PriorityLane
from edge.batching.ring import SlotRing
from edge.batching.shared_lane import SharedLane
from edge.capture.mailbox import Mailbox
from edge.clock import NS_PER_MS, NS_PER_S, ManualClock
from edge.config.schema import BatchingConfig
from edge.records import Batch, DropCause, Frame, FrameInfo, Lane, Preprocessing, TimestampSource
from edge.slots import PRIORITY_SPARE_SLOTS, SPARE_SLOTS, depth_of

T = TypeVar("T")
Observe = Callable[[int, int, int], None]
"""Gets the time, the frames that the shared cameras sent and the engine's busy nanoseconds."""

_INPUT_WH = (2, 2)
_PIXELS = np.zeros((2, 2, 3), np.uint8)
_DEPTH = depth_of(in_flight=1)
_OBSERVE_NS = NS_PER_S // 4  # as often as the daemon looks


@dataclass(frozen=True)
class EngineCost:
    """How long the engine takes for n frames: base_ms + frame_ms * n, as small GPUs do."""

    base_ms: float = 6.0
    frame_ms: float = 2.2
    draw_ms: float = 1.5

    def infer_ms(self, frames: int) -> float:
        """One call's time."""
        return self.base_ms + self.frame_ms * frames

    def load(self, shared_fps: float, priority_fps: float, target: int) -> float:
        """The share of its time that full batches and single priority frames would need."""
        shared_ms = shared_fps * self.infer_ms(target) / target
        return (shared_ms + priority_fps * self.infer_ms(1)) / 1000


@dataclass(frozen=True)
class SimulatedCamera:
    """A camera and the times at which its frames reach the mailbox."""

    name: str
    size_wh: Tuple[int, int]
    arrivals_ns: Sequence[int]
    is_priority: bool = False


@dataclass(frozen=True)
class Setup:
    """What is compared: a policy with its config; without `priority` all cameras share slots."""

    config: BatchingConfig
    make_policy: Callable[[BatchingConfig], BatchPolicy] = BatchPolicy
    priority: bool = True


@dataclass(frozen=True)
class Dispatch:
    """A frame's road: when it came, left for the engine, and was done."""

    camera: str
    lane: Lane
    arrived_ns: int
    closed_ns: int
    done_ns: int


class EventLoop:
    """Moves the clock from event to event, in order of time, then of planning."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self._order = itertools.count()
        self._events: List[Tuple[int, int, Callable[[], None]]] = []

    @property
    def now_ns(self) -> int:
        """Simulated nanoseconds since the start."""
        return self.clock.monotonic_ns()

    def at(self, at_ns: int, call: Callable[[], None]) -> None:
        """Plans a call; a time in the past means now."""
        heapq.heappush(self._events, (max(at_ns, self.now_ns), next(self._order), call))

    def run(self, until_ns: int, after_each: Callable[[], None]) -> None:
        """Handles every event up to `until_ns`."""
        while self._events and self._events[0][0] <= until_ns:
            at_ns, _, call = heapq.heappop(self._events)
            # Half a nanosecond more, as the clock rounds down.
            self.clock.advance_ms((at_ns - self.now_ns + 0.5) / NS_PER_MS)
            call()
            after_each()


class InstantPool(Executor):
    """Finishes every drawing at once, undrawn, and remembers when the last one came."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self.last_ns = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """A future that is done."""
        self.last_ns = self._loop.now_ns
        job: Future[Any] = Future()
        job.set_result(None)
        return job


class SimulatedPipeline:
    """As `edge.inference.pipeline.Pipeline`: the real queue, one batch at a time, in events."""

    def __init__(
        self,
        loop: EventLoop,
        pool: InstantPool,
        cost: EngineCost,
        queue: LaneQueue,
        on_done: Callable[[Batch, int], None],
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._cost = cost
        self._queue = queue
        self._on_done = on_done
        self._queued = 0
        self._is_busy = False
        self._in_flight: Counter[Lane] = Counter()
        self.busy_ns = 0

    def can_take(self) -> bool:
        """True while a shared batch would start as soon as the engine is free."""
        return self._in_flight[Lane.BATCH] < _DEPTH

    def submit(self, batch: Batch) -> None:
        """Takes a batch; it is in the queue once its last row would have been drawn."""
        self._in_flight[batch.lane] += 1
        drawn_ns = self._pool.last_ns + int(self._cost.draw_ms * NS_PER_MS)
        self._loop.at(drawn_ns, lambda: self._enqueue(batch))

    def exchange(self, waiting: Batch, batch: Batch) -> bool:
        """Takes a batch for one that is queued: at once, as if it had been drawn already."""
        return self._queue.exchange(waiting, batch)

    def _enqueue(self, batch: Batch) -> None:
        self._queue.put(batch)
        self._queued += 1
        self._start_next()

    def _start_next(self) -> None:
        if self._is_busy or not self._queued:
            return
        batch = self._queue.get()
        assert batch is not None
        self._queued -= 1
        self._is_busy = True
        took_ns = int(self._cost.infer_ms(len(batch.items)) * NS_PER_MS)
        self._loop.at(self._loop.now_ns + took_ns, lambda: self._finish(batch, took_ns))

    def _finish(self, batch: Batch, took_ns: int) -> None:
        self._is_busy = False
        self.busy_ns += took_ns
        self._in_flight[batch.lane] -= 1
        batch.slot.release()
        self._on_done(batch, took_ns)
        self._start_next()


class Simulation:
    """One policy over one set of cameras; `run` once, then read what it wrote down."""

    def __init__(self, setup: Setup, cameras: Sequence[SimulatedCamera], cost: EngineCost) -> None:
        self.cameras = cameras
        self.setup = setup
        self.policy = setup.make_policy(setup.config)
        self.dispatches: List[Dispatch] = []
        self.batch_sizes: List[Tuple[int, Lane, int]] = []
        self.on_batch: Callable[[int, float], None] = lambda size, infer_ms: None
        self._offered_shared = 0
        self._is_woken = False
        self._loop = EventLoop()
        self._pool = InstantPool(self._loop)
        self._boxes = {camera.name: Mailbox(camera.name, self._wake) for camera in cameras}
        queue = LaneQueue(setup.config.priority_burst)
        self._pipeline = SimulatedPipeline(self._loop, self._pool, cost, queue, self._done)
        self._batcher = self._make_batcher()
        self._planned_ns: Optional[int] = None

    @property
    def drops(self) -> Dict[DropCause, int]:
        """Frames lost since the start, by cause."""
        totals: DefaultDict[DropCause, int] = defaultdict(int)
        for box in self._boxes.values():
            for cause, count in box.dropped.items():
                totals[cause] += count
        return dict(totals)

    def run(self, until_ns: int, observe: Optional[Observe] = None) -> None:
        """Plays every arrival and lets the scheduler react."""
        for camera in self.cameras:
            for frame_id in range(len(camera.arrivals_ns)):
                self._plan_arrival(camera, frame_id)
        if observe is not None:
            for at_ns in range(_OBSERVE_NS, until_ns, _OBSERVE_NS):
                self._loop.at(at_ns, lambda: self._observe(observe))
        self._loop.run(until_ns, self._step_while_woken)

    def _make_batcher(self) -> Batcher:
        config, clock, ids = self.setup.config, self._loop.clock, itertools.count(1)
        drawer = Drawer(Preprocessing(_INPUT_WH), self._pool, self._wake)
        feeds = {camera.name: Feed(self._boxes[camera.name]) for camera in self.cameras}
        reserved = {
            feeds[camera.name]: SlotRing(1 + PRIORITY_SPARE_SLOTS, 1, _INPUT_WH)
            for camera in self.cameras
            if camera.is_priority and self.setup.priority
        }
        shared = [feed for feed in feeds.values() if feed not in reserved]
        ring = SlotRing(_DEPTH + SPARE_SLOTS, config.target, _INPUT_WH)
        return Batcher(
            PriorityLane(reserved, drawer, ids, clock),
            SharedLane(self.policy, shared, drawer, ring, ids, clock),
            clock,
        )

    def _plan_arrival(self, camera: SimulatedCamera, frame_id: int) -> None:
        at_ns = camera.arrivals_ns[frame_id]
        source = TimestampSource.RECEIVE
        info = FrameInfo(camera.name, frame_id, camera.size_wh, at_ns, 0, source)

        def arrive() -> None:
            self._offered_shared += not camera.is_priority
            self._boxes[camera.name].put(Frame(info, _PIXELS))

        self._loop.at(at_ns, arrive)

    def _wake(self) -> None:
        self._is_woken = True

    def _step_while_woken(self) -> None:
        while self._is_woken:
            self._is_woken = False
            wake_ns = self._batcher.step(self._pipeline)
            if wake_ns is None:
                continue
            if wake_ns <= self._loop.now_ns:
                self._is_woken = True
            elif wake_ns != self._planned_ns:
                self._planned_ns = wake_ns
                self._loop.at(wake_ns, self._wake)

    def _done(self, batch: Batch, took_ns: int) -> None:
        done_ns = self._loop.now_ns
        self.batch_sizes.append((batch.closed_ns, batch.lane, len(batch.items)))
        self.dispatches += [
            Dispatch(item.info.camera, batch.lane, item.info.captured_ns, batch.closed_ns, done_ns)
            for item in batch.items
        ]
        if batch.lane is Lane.BATCH:
            self.on_batch(len(batch.items), took_ns / NS_PER_MS)
        self._wake()

    def _observe(self, observe: Observe) -> None:
        observe(self._loop.now_ns, self._offered_shared, self._pipeline.busy_ns)
