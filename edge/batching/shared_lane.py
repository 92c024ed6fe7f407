"""The lane of all ordinary cameras: their newest frames share one slot."""

from __future__ import annotations

from concurrent.futures import wait
from typing import Iterator, List, Optional, Sequence

from edge.batching.drawing import Drawer, Drawing
from edge.batching.feed import Feed, Sink
from edge.batching.policy import BatchPolicy, Placement, Rider, TurnOrder
from edge.batching.ring import SlotRing
from edge.clock import Clock
from edge.records import Batch, BatchItem, DropCause, FrameInfo, Slot


class OpenSlot:
    """The slot being filled; its drawings stand in the order in which they came.

    Once it is closing it takes no more, and leaves with its last drawing.
    """

    def __init__(self, slot: Slot, opened_ns: int) -> None:
        self.slot = slot
        self.opened_ns = opened_ns
        self.drawings: List[Drawing] = []
        self.is_closing = False

    @property
    def is_drawn(self) -> bool:
        """True while no row is being written."""
        return all(drawing.job.done() for drawing in self.drawings)

    @property
    def riders(self) -> List[Rider]:
        """What the policy needs to know of the drawings."""
        return [_rider(drawing.frame.info) for drawing in self.drawings]

    def oldest_of(self, camera: str) -> Optional[Drawing]:
        """The first of the camera's drawings."""
        return next((d for d in self.drawings if d.feed.camera == camera), None)


class SharedLane:
    """Admits, closes and submits; used by the batcher's thread alone."""

    def __init__(
        self,
        policy: BatchPolicy,
        feeds: Sequence[Feed],
        drawer: Drawer,
        ring: SlotRing,
        batch_ids: Iterator[int],
        clock: Clock,
    ) -> None:
        self._policy = policy
        self._feeds = {feed.camera: feed for feed in feeds}
        self._drawer = drawer
        self._ring = ring
        self._batch_ids = batch_ids
        self._clock = clock
        self._turns = TurnOrder()
        self._open: Optional[OpenSlot] = None

    def step(self, sink: Sink) -> Optional[int]:
        """Admits what waits and closes what is due; returns when to look again."""
        if self._open is None or not self._open.is_closing:
            wake_ns = self._fill(sink)
            if self._open is None or not self._open.is_closing:
                return wake_ns
        if not self._open.is_drawn:
            return None
        self._submit(self._open, sink)
        # Frames may have come since it began to close: look again at once.
        return self._clock.monotonic_ns()

    def set_feeds(self, feeds: Sequence[Feed]) -> None:
        """Serves these cameras from here on; what is bound of others still leaves.

        Of a camera that is gone, or has a new mailbox, nothing is remembered: it is not waited for.
        """
        before, self._feeds = self._feeds, {feed.camera: feed for feed in feeds}
        for camera, feed in before.items():
            after = self._feeds.get(camera)
            if after is None or after.mailbox is not feed.mailbox:
                self._turns.forget(camera)
                self._policy.arrivals.forget(camera)

    def flush(self, sink: Sink) -> None:
        """Sends off what is bound; counts what still waits as aborted."""
        if self._open is not None:
            wait([drawing.job for drawing in self._open.drawings])
            self._submit(self._open, sink)
        for feed in self._feeds.values():
            feed.mailbox.close()

    def close(self) -> None:
        """Ends the threads that draw."""
        self._drawer.close()

    def __repr__(self) -> str:
        bound = len(self._open.drawings) if self._open else 0
        return f"<SharedLane {bound} rows bound, {self._ring!r}>"

    def _waiting(self) -> List[FrameInfo]:
        infos = (feed.mailbox.peek() for feed in self._feeds.values())
        return [info for info in infos if info is not None]

    def _make_room(self, sink: Sink) -> None:
        """Gives the slot to a newer group, as late as a group can be bound."""
        open_slot = self._open
        if open_slot is None or sink.can_take() or not open_slot.is_drawn:
            return
        waiting = [_rider(info) for info in self._waiting()]
        if self._policy.is_outdated(open_slot.riders, waiting):
            for drawing in open_slot.drawings:
                drawing.drop(DropCause.SUPERSEDED)
            self._open = OpenSlot(open_slot.slot, self._clock.monotonic_ns())

    def _admit(self) -> None:
        cameras = [info.camera for info in self._waiting()]
        for camera in self._turns.sorted(cameras):
            if self._open is None:
                slot = self._ring.acquire()
                if slot is None:
                    return
                self._open = OpenSlot(slot, self._clock.monotonic_ns())
            self._bind(self._open, self._feeds[camera])
        if self._open is not None and not self._open.drawings:
            self._open.slot.release()  # whatever waited was stale
            self._open = None

    def _bind(self, open_slot: OpenSlot, feed: Feed) -> None:
        info = feed.mailbox.peek()
        if info is None:
            return
        placement = self._policy.place(open_slot.riders, _rider(info))
        replaced = open_slot.oldest_of(feed.camera) if placement is Placement.OWN_ROW else None
        if placement is Placement.WAIT or (replaced is not None and not replaced.job.done()):
            return
        now_ns = self._clock.monotonic_ns()
        frame = feed.take_fresh(info, now_ns)
        if frame is None:
            return
        row = len(open_slot.drawings)
        if replaced is not None:
            open_slot.drawings.remove(replaced)
            replaced.drop(DropCause.SUPERSEDED)
            row = replaced.row
        open_slot.drawings.append(self._drawer.draw(feed, frame, open_slot.slot, row))
        self._turns.admitted(feed.camera)
        self._policy.arrivals.admitted(feed.camera, feed.mailbox.received, now_ns)

    def _fill(self, sink: Sink) -> Optional[int]:
        """Admits what waits; begins to close the slot if it is due, or returns when it may be."""
        self._make_room(sink)
        self._admit()
        open_slot = self._open
        if open_slot is None:
            return None
        now_ns = self._clock.monotonic_ns()
        waiting = [_rider(info) for info in self._waiting()]
        decision = self._policy.decide(
            open_slot.riders, open_slot.opened_ns, waiting, sink.can_take(), now_ns
        )
        open_slot.is_closing = decision.close
        return decision.wake_ns

    def _submit(self, open_slot: OpenSlot, sink: Sink) -> None:
        self._open = None
        closed_ns = self._clock.monotonic_ns()
        items = self._collect(open_slot)
        if not items:
            open_slot.slot.release()
            return
        batch_id = next(self._batch_ids)
        sink.submit(Batch(batch_id, open_slot.slot, tuple(items), open_slot.opened_ns, closed_ns))

    def _collect(self, open_slot: OpenSlot) -> List[BatchItem]:
        """The rows that were drawn, moved together where one that was not left a hole."""
        drawn: List[Drawing] = []
        for drawing in sorted(open_slot.drawings, key=lambda drawing: drawing.row):
            if drawing.job.exception() is None:
                drawn.append(drawing)
            else:
                drawing.drop(DropCause.ABORTED)
        open_slot.slot.keep([drawing.row for drawing in drawn])
        return [self._drawer.item(drawing) for drawing in drawn]


def _rider(info: FrameInfo) -> Rider:
    return Rider(info.camera, info.captured_ns)
