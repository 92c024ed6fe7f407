"""Binds the cameras' newest frames to the rows of a slot and sends it off when the policy says."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Dict, List, Optional, Protocol, Sequence, Tuple

from edge.batching.policy import BatchPolicy, TurnOrder
from edge.batching.ring import SlotRing
from edge.clock import NS_PER_S, Clock
from edge.config.schema import BatchingConfig
from edge.geometry import Letterbox
from edge.records import Batch, BatchItem, DropCause, Frame, FrameInfo, Preprocessing, Slot
from edge.threads import OnFailure, SupervisedThread

log = logging.getLogger(__name__)


class FrameFeed(Protocol):
    """A camera's mailbox, as the batcher sees it."""

    @property
    def camera(self) -> str:
        """The camera's name."""

    def peek(self) -> Optional[FrameInfo]:
        """The waiting frame, left where it is."""

    def take(self) -> Optional[Frame]:
        """The waiting frame, now the caller's."""

    def count_drop(self, cause: DropCause) -> None:
        """Counts a taken frame that will not be inferred."""


class Sink(Protocol):
    """The pipeline, as the batcher sees it."""

    def can_take(self) -> bool:
        """True while a batch handed in now would start soon."""

    def submit(self, batch: Batch) -> None:
        """Accepts a closed batch; its slot comes back through the ring."""


@dataclass
class _Row:
    """A row of the open slot, its frame, and the job that draws it."""

    feed: FrameFeed
    frame: Frame
    letterbox: Letterbox
    drawing: Future[None]


class OpenSlot:
    """The slot being filled; belongs to the batcher's thread alone."""

    def __init__(self, slot: Slot, opened_ns: int) -> None:
        self.slot = slot
        self.opened_ns = opened_ns
        self.rows: Dict[str, _Row] = {}

    def wants(self, camera: str) -> bool:
        """True if a newer frame of `camera` may be drawn now: into its own row or a free one."""
        row = self.rows.get(camera)
        if row is not None:
            return row.drawing.done()
        return len(self.rows) < self.slot.capacity

    def row_of(self, camera: str) -> int:
        """Number of the row of `camera`: its own, else the next free one."""
        order = list(self.rows)
        return order.index(camera) if camera in self.rows else len(order)


class Batcher:
    """One thread that admits, closes and submits; a small pool that letterboxes.

    `keep_images` keeps each source frame until its result is out, for whoever draws on it.
    """

    def __init__(
        self,
        config: BatchingConfig,
        preprocessing: Preprocessing,
        feeds: Sequence[FrameFeed],
        ring: SlotRing,
        clock: Clock,
        *,
        keep_images: bool = False,
    ) -> None:
        self._feeds = {feed.camera: feed for feed in feeds}
        self._preprocessing = preprocessing
        self._ring = ring
        self._clock = clock
        self._keep_images = keep_images
        self._policy = BatchPolicy(config)
        self._turns = TurnOrder()
        self._pool = ThreadPoolExecutor(config.letterbox_threads, thread_name_prefix="letterbox")
        self._letterboxes: Dict[Tuple[int, int], Letterbox] = {}
        self._open: Optional[OpenSlot] = None
        self._batches = 0
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._sink: Optional[Sink] = None
        self._thread: Optional[SupervisedThread] = None

    def start(self, sink: Sink, on_failure: OnFailure) -> None:
        """Starts batching into `sink`."""
        self._sink = sink
        self._thread = SupervisedThread("batcher", lambda: self._run(sink), on_failure)
        self._thread.start()

    def wake(self) -> None:
        """Tells that a mailbox, the ring or the pipeline has changed; cheap, from any thread."""
        self._changed.set()

    def stop(self, timeout_s: float) -> bool:
        """Sends off what is bound, counts the frames still waiting as aborted, ends the thread."""
        self._stopping.set()
        self._changed.set()
        ended = self._thread is None or self._thread.join(timeout_s)
        self._pool.shutdown(wait=False)
        return ended

    def __repr__(self) -> str:
        bound = len(self._open.rows) if self._open else 0
        return f"<Batcher {self._batches} batches sent, {bound} rows bound, {self._ring!r}>"

    # --- the thread ---------------------------------------------------------------------------

    def _run(self, sink: Sink) -> None:
        while not self._stopping.is_set():
            self._changed.wait(self._seconds_until(self.step(sink)))
            self._changed.clear()
        self._flush(sink)

    def _seconds_until(self, wake_ns: Optional[int]) -> Optional[float]:
        if wake_ns is None:
            return None
        return max((wake_ns - self._clock.monotonic_ns()) / NS_PER_S, 0.0)

    def step(self, sink: Sink) -> Optional[int]:
        """Admits what waits and closes what is due; returns when to look again."""
        self._admit()
        now_ns = self._clock.monotonic_ns()
        if self._open is None:
            return None
        decision = self._policy.decide(
            len(self._open.rows),
            self._open.opened_ns,
            self._turns.delivering(now_ns),
            sink.can_take(),
            now_ns,
        )
        if not decision.close:
            return decision.wake_ns
        self._close(sink)
        # A frame may have come while the last rows were drawn: look again at once.
        return now_ns

    def _admit(self) -> None:
        waiting = [name for name, feed in self._feeds.items() if feed.peek() is not None]
        for camera in self._turns.sorted(waiting):
            if self._open is None:
                slot = self._ring.acquire()
                if slot is None:
                    return
                self._open = OpenSlot(slot, self._clock.monotonic_ns())
            if self._open.wants(camera):
                self._bind(self._open, self._feeds[camera])

    def _bind(self, open_slot: OpenSlot, feed: FrameFeed) -> None:
        frame = feed.take()
        if frame is None:
            return
        row_number = open_slot.row_of(feed.camera)
        if feed.camera in open_slot.rows:
            self._abandon(open_slot.rows[feed.camera], DropCause.SUPERSEDED)
        letterbox = self._letterbox(frame.info.size_wh)
        drawing = self._pool.submit(open_slot.slot.draw, row_number, frame.image, letterbox)
        drawing.add_done_callback(lambda _: self._changed.set())
        open_slot.rows[feed.camera] = _Row(feed, frame, letterbox, drawing)
        self._turns.admitted(feed.camera, self._clock.monotonic_ns())

    @staticmethod
    def _abandon(row: _Row, cause: DropCause) -> None:
        failed = row.drawing.exception() is not None
        row.feed.count_drop(DropCause.ABORTED if failed else cause)

    def _letterbox(self, source_wh: Tuple[int, int]) -> Letterbox:
        letterbox = self._letterboxes.get(source_wh)
        if letterbox is None:
            spec = self._preprocessing
            letterbox = Letterbox.fit(source_wh, spec.input_wh, spec.pad_anchor)
            self._letterboxes[source_wh] = letterbox
        return letterbox

    def _close(self, sink: Sink) -> None:
        open_slot, self._open = self._open, None
        if open_slot is None:
            return
        wait([row.drawing for row in open_slot.rows.values()])
        items = self._collect(open_slot)
        if not items:
            self._ring.release(open_slot.slot)
            return
        self._batches += 1
        closed_ns = self._clock.monotonic_ns()
        sink.submit(
            Batch(self._batches, open_slot.slot, tuple(items), open_slot.opened_ns, closed_ns)
        )

    def _collect(self, open_slot: OpenSlot) -> List[BatchItem]:
        """The drawn rows, moved together where a row whose drawing failed left a hole."""
        items: List[BatchItem] = []
        for number, row in enumerate(open_slot.rows.values()):
            if row.drawing.exception() is not None:
                log.error("camera %s: frame dropped: %s", row.feed.camera, row.drawing.exception())
                row.feed.count_drop(DropCause.ABORTED)
                continue
            if number != len(items):
                open_slot.slot.move(number, len(items))
            image = row.frame.image if self._keep_images else None
            items.append(BatchItem(row.frame.info, row.letterbox, image))
        return items

    def _flush(self, sink: Sink) -> None:
        self._close(sink)
        for feed in self._feeds.values():
            if feed.take() is not None:
                feed.count_drop(DropCause.ABORTED)
