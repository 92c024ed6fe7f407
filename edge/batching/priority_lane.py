"""The lane of priority cameras: each frame leaves at once, as a batch of its own."""

from __future__ import annotations

from typing import Iterator, List, Mapping

from edge.batching.drawing import Drawer, Drawing
from edge.batching.feed import Feed, Sink
from edge.batching.ring import SlotRing
from edge.clock import Clock
from edge.records import Batch, DropCause, Lane


class PriorityLane:
    """One camera, one reserved slot of one row; used by the batcher's thread alone.

    A camera has at most one frame on the way: while it is drawn or inferred the newest one waits
    in the mailbox, so that a camera faster than the engine is never served an old frame.
    """

    def __init__(
        self,
        slots: Mapping[Feed, SlotRing],
        drawer: Drawer,
        batch_ids: Iterator[int],
        clock: Clock,
    ) -> None:
        self._slots = slots
        self._drawer = drawer
        self._batch_ids = batch_ids
        self._clock = clock
        self._drawings: List[Drawing] = []

    def step(self, sink: Sink) -> None:
        """Submits what is drawn, then starts to draw what waits."""
        for drawing in [drawing for drawing in self._drawings if drawing.job.done()]:
            self._submit(drawing, sink)
        for feed, ring in self._slots.items():
            self._bind(feed, ring)

    def flush(self, sink: Sink) -> None:
        """Sends off what is bound; counts what still waits as aborted."""
        for drawing in list(self._drawings):
            drawing.job.exception()  # waits for it to be drawn
            self._submit(drawing, sink)
        for feed in self._slots:
            feed.abort()

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
        self._drawings.append(self._drawer.draw(feed, frame, slot, 0))

    def _submit(self, drawing: Drawing, sink: Sink) -> None:
        self._drawings.remove(drawing)
        if drawing.job.exception() is not None:
            drawing.drop(DropCause.ABORTED)
            drawing.slot.release()
            return
        now_ns = self._clock.monotonic_ns()
        items = (self._drawer.item(drawing),)
        batch_id = next(self._batch_ids)
        sink.submit(Batch(batch_id, drawing.slot, items, now_ns, now_ns, Lane.PRIORITY))
