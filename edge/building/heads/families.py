"""The families of heads: how each lays out its numbers and what its network wants to see."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Dict, Tuple

from edge.config.schema import HeadName
from edge.geometry import PadAnchor
from edge.records import ChannelOrder, Preprocessing

GRID_STRIDES = (8, 16, 32)
"""Model pixels per cell of YOLOX's three grids."""


class BoxFormat(Enum):
    """What the first four numbers of an anchor are, in model pixels."""

    CENTER = "center x, center y, width, height"
    CORNERS = "left, top, right, bottom"
    CELLS = "offset from the anchor's cell, logarithm of the size, in cells"


class ScoreFormat(Enum):
    """What follows the box."""

    CLASSES = "a score per class"
    OBJECTNESS_AND_CLASSES = "objectness, then a score per class; their product counts"
    OBJECTNESS_IF_ONE_CLASS = "the same, but of a single class' score nothing is learnt"
    BEST = "the score and the class of the best class"


@dataclass(frozen=True)
class Family:
    """One head: `channel_axis` is the axis of [batch, ., .] along which an anchor's numbers lie."""

    channel_axis: int
    box_format: BoxFormat
    score_format: ScoreFormat
    pad_anchor: PadAnchor = PadAnchor.CENTER
    channel_order: ChannelOrder = ChannelOrder.RGB
    divisor: float = 255.0

    @property
    def anchor_axis(self) -> int:
        """The other axis."""
        return 3 - self.channel_axis

    @property
    def first_class(self) -> int:
        """How many numbers stand before the class scores."""
        return 4 if self.score_format is ScoreFormat.CLASSES else 5

    def preprocessing(self, input_wh: Tuple[int, int]) -> Preprocessing:
        """From a camera's frame to what the family's networks were trained on."""
        return Preprocessing(input_wh, self.pad_anchor, self.channel_order, self.divisor)


FAMILIES: Dict[HeadName, Family] = {
    HeadName.YOLOV5: Family(2, BoxFormat.CENTER, ScoreFormat.OBJECTNESS_AND_CLASSES),
    HeadName.YOLOV7: Family(2, BoxFormat.CENTER, ScoreFormat.OBJECTNESS_IF_ONE_CLASS),
    HeadName.YOLOV8: Family(1, BoxFormat.CENTER, ScoreFormat.CLASSES),
    HeadName.YOLOV8_CORNERS: Family(1, BoxFormat.CORNERS, ScoreFormat.CLASSES),
    HeadName.END_TO_END: Family(2, BoxFormat.CORNERS, ScoreFormat.BEST),
    HeadName.YOLOX: Family(
        2,
        BoxFormat.CELLS,
        ScoreFormat.OBJECTNESS_AND_CLASSES,
        PadAnchor.TOP_LEFT,
        ChannelOrder.BGR,
        1.0,
    ),
    HeadName.YOLOX_DECODED: Family(
        2,
        BoxFormat.CENTER,
        ScoreFormat.OBJECTNESS_AND_CLASSES,
        PadAnchor.TOP_LEFT,
        ChannelOrder.BGR,
        1.0,
    ),
}


def grid_cells(input_wh: Tuple[int, int]) -> int:
    """How many cells YOLOX's three grids have together."""
    width, height = input_wh
    return sum((width // stride) * (height // stride) for stride in GRID_STRIDES)
