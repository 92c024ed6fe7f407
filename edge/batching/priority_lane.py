"""The lane of priority cameras: each frame leaves at once, as a batch of its own."""

from __future__ import annotations

from typing import Dict, Iterator, Mapping

from edge.batching.drawing import Drawer, Drawing
from edge.batching.feed import Feed, Sink
from edge.batching.ring import SlotRing
from edge.clock import Clock
from edge.records import Batch, DropCause, Lane


class PriorityLane:
    """One camera, a few reserved slots of one row; used by the batcher's thread alone.

    Until the engine takes a frame, the camera's next one takes its place: not before that is
    drawn, so that an engine that becomes free never finds the place empty.
    """

    def __init__(
        self,
        slots: Mapping[Feed, SlotRing],
        drawer: Drawer,
        batch_ids: Iterator[int],
        clock: Clock,
    ) -> None:
        self._slots = dict(slots)
        self._drawer = drawer
        self._batch_ids = batch_ids
        self._clock = clock
        self._drawings: Dict[Feed, Drawing] = {}
        self._submitted: Dict[Feed, Batch] = {}

    def step(self, sink: Sink) -> None:
        """Submits what is drawn, then starts to draw what waits."""
        for drawing in list(self._drawings.values()):
            if drawing.job.done():
                self._finish(drawing, sink)
        for feed, ring in self._slots.items():
            if feed not in self._drawings:
                self._bind(feed, ring)

    def set_feeds(self, slots: Mapping[Feed, SlotRing]) -> None:
        """Serves these cameras from here on; what is being drawn of others still leaves."""
        self._slots = dict(slots)
        self._submitted = {feed: self._submitted[feed] for feed in self._submitted if feed in slots}

    def flush(self, sink: Sink) -> None:
        """Sends off what is bound; counts what still waits as aborted."""
        for drawing in list(self._drawings.values()):
            drawing.job.exception()  # waits for it to be drawn
            self._finish(drawing, sink)
        for feed in self._slots:
            feed.mailbox.close()

    def close(self) -> None:
        """Ends the threads that draw."""
        self._drawer.close()

    def __repr__(self) -> str:
        return f"<PriorityLane {len(self._drawings)} of {len(self._slots)} cameras bound>"

    def _bind(self, feed: Feed, ring: SlotRing) -> None:
        info = feed.mailbox.peek()
        if info is None:
            return
        slot = ring.acquire()
        if slot is None:
            return
        frame = feed.take_fresh(info, self._clock.monotonic_ns())
        if frame is None:
            slot.release()
            return
        self._drawings[feed] = self._drawer.draw(feed, frame, slot, 0)

    def _finish(self, drawing: Drawing, sink: Sink) -> None:
        del self._drawings[drawing.feed]
        if drawing.job.exception() is not None:
            drawing.drop(DropCause.ABORTED)
            drawing.slot.release()
            return
        now_ns = self._clock.monotonic_ns()
        items = (self._drawer.item(drawing),)
        batch_id = next(self._batch_ids)
        batch = Batch(batch_id, drawing.slot, items, now_ns, now_ns, Lane.PRIORITY)
        self._submit(drawing.feed, batch, sink)

    def _submit(self, feed: Feed, batch: Batch, sink: Sink) -> None:
        before = self._submitted.get(feed)
        if before is not None and sink.exchange(before, batch):
            feed.mailbox.count_drop(DropCause.SUPERSEDED)
            before.slot.release()
        else:
            sink.submit(batch)
        if feed in self._slots:
            self._submitted[feed] = batch
