"""Letterboxes frames into rows, in a small pool: OpenCV releases the interpreter's lock."""

from __future__ import annotations

import logging
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Callable, Dict, Tuple

from edge.batching.feed import Feed
from edge.geometry import Letterbox
from edge.records import BatchItem, DropCause, Frame, Preprocessing, Slot

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Drawing:
    """A frame on its way into a row."""

    feed: Feed
    frame: Frame
    letterbox: Letterbox
    slot: Slot
    row: int
    job: Future[None]

    def drop(self, cause: DropCause) -> None:
        """Counts the frame: as aborted if it could not even be drawn, else by `cause`."""
        error = self.job.exception()
        if error is not None:
            log.error("camera %s: a frame could not be drawn: %s", self.feed.camera, error)
            cause = DropCause.ABORTED
        self.feed.mailbox.count_drop(cause)


class Drawer:
    """Draws frames as the model wants them, in a pool that it owns.

    `on_done` is told after each, on the pool's thread. `keep_images` keeps each source frame until
    its result is out, for whoever draws on it.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        pool: Executor,
        on_done: Callable[[], None],
        *,
        keep_images: bool = False,
    ) -> None:
        self._preprocessing = preprocessing
        self._pool = pool
        self._on_done = on_done
        self._keep_images = keep_images
        self._letterboxes: Dict[Tuple[int, int], Letterbox] = {}

    def draw(self, feed: Feed, frame: Frame, slot: Slot, row: int) -> Drawing:
        """Starts to letterbox `frame` into row number `row` of `slot`."""
        letterbox = self._letterbox(frame.info.size_wh)
        job = self._pool.submit(slot.draw, row, frame.image, letterbox)
        job.add_done_callback(lambda _: self._on_done())
        return Drawing(feed, frame, letterbox, slot, row, job)

    def item(self, drawing: Drawing) -> BatchItem:
        """The batch item of a finished drawing."""
        image = drawing.frame.image if self._keep_images else None
        info = drawing.frame.info
        return BatchItem(info, drawing.letterbox, image, drawing.feed.fresh_until_ns(info))

    def close(self) -> None:
        """Takes no more frames; what has begun is finished."""
        self._pool.shutdown(wait=False)

    def _letterbox(self, source_wh: Tuple[int, int]) -> Letterbox:
        letterbox = self._letterboxes.get(source_wh)
        if letterbox is None:
            spec = self._preprocessing
            letterbox = Letterbox.fit(source_wh, spec.input_wh, spec.pad_anchor)
            self._letterboxes[source_wh] = letterbox
        return letterbox
