"""Frames on their way through the engine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.geometry import Image, Letterbox
from edge.records.cameras import FrameInfo


class Slot:
    """Rows of host memory that one batch is drawn into, uint8 [B, H, W, 3] BGR.

    The ring owns it; a row may be written only between admission and close, and read only
    between close and release. `give_back` is how it returns to its ring.
    """

    def __init__(self, index: int, rows: Image, give_back: Callable[[Slot], None]) -> None:
        self.index = index
        self.rows = rows
        self._give_back = give_back
        # Geometry each row's grey border was last painted for: it is repainted only on change.
        self._bordered_for: List[Optional[Letterbox]] = [None] * len(rows)

    @property
    def capacity(self) -> int:
        """Rows in the slot."""
        return len(self.rows)

    def release(self) -> None:
        """Gives the slot back to its ring, once nobody reads or writes its rows."""
        self._give_back(self)

    def draw(self, row: int, source: Image, letterbox: Letterbox) -> None:
        """Letterboxes `source` into row number `row`."""
        stale_border = self._bordered_for[row] != letterbox
        letterbox.draw(source, self.rows[row], paint_border=stale_border)
        self._bordered_for[row] = letterbox

    def keep(self, rows: Sequence[int]) -> None:
        """Moves these rows, given in rising order, together at the top, borders and all."""
        for target, source in enumerate(rows):
            if target != source:
                self.rows[target] = self.rows[source]
                self._bordered_for[target] = self._bordered_for[source]

    def __repr__(self) -> str:
        return f"<Slot {self.index} of {self.capacity} rows>"


class Lane(str, Enum):
    """Which way a frame took: gathered with others, or at once and alone."""

    BATCH = "batch"
    PRIORITY = "priority"


@dataclass(frozen=True)
class BatchItem:
    """One occupied row of a batch.

    `image` is kept only where something needs the full frame; after `fresh_until_ns` of the
    monotonic clock the frame is no longer worth inferring.
    """

    info: FrameInfo
    letterbox: Letterbox
    image: Optional[Image] = None
    fresh_until_ns: Optional[int] = None

    def is_stale(self, now_ns: int) -> bool:
        """Tells whether the frame has become too old to be worth inferring."""
        return self.fresh_until_ns is not None and now_ns > self.fresh_until_ns


@dataclass(frozen=True)
class BatchInfo:
    """What a frame's result says of the batch it was in.

    `align_error_ns` is the time between the captures of its oldest and its newest frame.
    """

    batch_id: int
    size: int
    lane: Lane
    align_error_ns: int


@dataclass(frozen=True, eq=False)
class Batch:
    """A closed slot: item i lies in row i."""

    batch_id: int
    slot: Slot
    items: Tuple[BatchItem, ...]
    opened_ns: int
    closed_ns: int
    lane: Lane = Lane.BATCH

    @property
    def frames(self) -> Image:
        """The occupied rows, a view [n, H, W, 3]."""
        return self.slot.rows[: len(self.items)]

    def keeping(self, rows: Sequence[int]) -> Batch:
        """The batch of these rows alone, given in rising order; they are moved together."""
        self.slot.keep(rows)
        return dataclasses.replace(self, items=tuple(self.items[row] for row in rows))

    @property
    def info(self) -> BatchInfo:
        """What its frames' results say of it."""
        captured_ns = [item.info.captured_ns for item in self.items]
        spread_ns = max(captured_ns) - min(captured_ns)
        return BatchInfo(self.batch_id, len(self.items), self.lane, spread_ns)


@dataclass(frozen=True)
class BatchResult:
    """What the engine said of a batch: float32 [n, K, 6] x1, y1, x2, y2, score, class.

    Boxes are in model pixels; an image's rows are sorted by score, unused ones score 0. `busy_ns`
    is what the batch added to the engine's work: less than from start to end where it began
    beside its predecessor.
    """

    batch: Batch
    detections: NDArray[np.float32]
    started_ns: int
    done_ns: int
    busy_ns: int


OnBatchResult = Callable[[BatchResult], None]
"""Gets each batch in the order of submission, on the completion thread."""
