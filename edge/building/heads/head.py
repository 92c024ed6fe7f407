"""Decodes a head: from a network's output to the best boxes, scores and classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.building.graph_writer import GraphWriter
from edge.building.heads.families import (
    FAMILIES,
    GRID_STRIDES,
    BoxFormat,
    Family,
    ScoreFormat,
)
from edge.building.network import FLOAT, Tensor
from edge.config.schema import HeadName
from edge.records import Preprocessing

TOP_K_LIMIT = 3840
"""The most that TensorRT's TopK finds."""

_BOX = 4


@dataclass(frozen=True)
class Head:
    """A network's output, understood.

    `class_count` is None where only names can tell it, `anchor_count` where the network leaves
    it open.
    """

    name: HeadName
    output: Tensor
    class_count: Optional[int]
    anchor_count: Optional[int]
    input_wh: Tuple[int, int]

    @property
    def preprocessing(self) -> Preprocessing:
        """What the network's input must be made like."""
        return self.family.preprocessing(self.input_wh)

    @property
    def family(self) -> Family:
        """How the output is laid out."""
        return FAMILIES[self.name]

    def candidate_count(self, max_candidates: int) -> int:
        """Rows per image of the decoded head; those of an end-to-end head are never cut."""
        if self.family.score_format is ScoreFormat.BEST:
            return min(self.anchor_count or max_candidates, TOP_K_LIMIT)
        return min(max_candidates, self.anchor_count or max_candidates)

    def decode(self, writer: GraphWriter, max_candidates: int, detections: str) -> None:
        """Writes the operators from the output to `detections` float32 [batch, K, 6].

        A row is x1, y1, x2, y2, score, class; the K rows are those with the best scores, sorted.
        """
        _Decoder(writer, self, self.candidate_count(max_candidates)).write(detections)


class _Decoder:
    """Writes one head's decoding; every tensor on the way has the axes of the head's output."""

    def __init__(self, writer: GraphWriter, head: Head, k: int) -> None:
        self._writer = writer
        self._head = head
        self._family = head.family
        self._k = k

    def write(self, detections: str) -> None:
        head = self._as_float()
        boxes = self._boxes(head)
        scores, classes = self._scores_and_classes(head)
        top_scores, top = self._writer.add_top_k(scores, self._k, self._family.anchor_axis)
        top_classes = self._as_class_numbers(self._gather(classes, top, "top_classes"))
        top_of_box = self._join([top] * _BOX, "top_of_box")
        top_boxes = self._corners(self._gather(boxes, top_of_box, "top_boxes"))
        self._rows([top_boxes, top_scores, top_classes], detections)

    def _as_float(self) -> str:
        head = self._head.output.name
        if self._head.output.elem_type != FLOAT:
            # Boxes of hundreds of pixels are too coarse in half precision to compute with.
            head = self._writer.add("Cast", [head], "head_float", to=FLOAT)
        if self._head.anchor_count is None:
            # TopK must always find K anchors: the added ones score 0.
            pads = np.zeros(6, np.int64)
            pads[3 + self._family.anchor_axis] = self._k
            head = self._writer.add("Pad", [head, self._writer.constant("pads", pads)], "padded")
        return head

    def _boxes(self, head: str) -> str:
        if self._family.box_format is not BoxFormat.CELLS:
            return self._slice(head, "boxes", 0, _BOX)
        corners, strides = self._grid()
        offsets = self._slice(head, "offsets", 0, 2)
        cells = self._writer.add("Add", [offsets, corners], "centers_in_cells")
        sizes = self._writer.add("Exp", [self._slice(head, "log_sizes", 2, _BOX)], "sizes_in_cells")
        in_cells = self._join([cells, sizes], "boxes_in_cells")
        return self._writer.add("Mul", [in_cells, strides], "boxes")

    def _grid(self) -> Tuple[str, str]:
        corners, strides = grid(self._head.input_wh)
        return (
            self._writer.constant("cells", corners[None]),
            self._writer.constant("strides", strides[None]),
        )

    def _scores_and_classes(self, head: str) -> Tuple[str, str]:
        score_format = self._family.score_format
        if score_format is ScoreFormat.BEST:
            return self._slice(head, "scores", 4, 5), self._slice(head, "classes", 5, 6)
        first, count = self._family.first_class, self._head.class_count or 1
        axis = self._family.channel_axis
        scores = self._slice(head, "scores", first, first + count)
        best = self._writer.add("ReduceMax", [scores], "best_scores", axes=[axis], keepdims=1)
        classes = self._writer.add("ArgMax", [scores], "best_classes", axis=axis, keepdims=1)
        if score_format is ScoreFormat.CLASSES:
            return best, classes
        objectness = self._slice(head, "objectness", 4, 5)
        if score_format is ScoreFormat.OBJECTNESS_IF_ONE_CLASS and count == 1:
            return objectness, classes
        return self._writer.add("Mul", [best, objectness], "products"), classes

    def _as_class_numbers(self, top_classes: str) -> str:
        if self._family.score_format is ScoreFormat.BEST:
            return top_classes
        return self._writer.add("Cast", [top_classes], "top_classes_float", to=FLOAT)

    def _corners(self, boxes: str) -> str:
        if self._family.box_format is BoxFormat.CORNERS:
            return boxes
        center = self._slice(boxes, "centers", 0, 2)
        size = self._slice(boxes, "sizes", 2, _BOX)
        half = self._writer.constant("half", np.array(0.5, np.float32))
        half_size = self._writer.add("Mul", [size, half], "half_sizes")
        top_left = self._writer.add("Sub", [center, half_size], "top_left")
        bottom_right = self._writer.add("Add", [center, half_size], "bottom_right")
        return self._join([top_left, bottom_right], "corners")

    def _rows(self, columns: List[str], detections: str) -> None:
        if self._family.channel_axis == 2:
            self._writer.add_last("Concat", columns, detections, axis=2)
        else:
            rows = self._join(columns, "rows")
            self._writer.add_last("Transpose", [rows], detections, perm=[0, 2, 1])

    def _slice(self, tensor: str, name: str, start: int, stop: int) -> str:
        return self._writer.add_slice(tensor, name, self._family.channel_axis, start, stop)

    def _join(self, tensors: List[str], name: str) -> str:
        return self._writer.add("Concat", tensors, name, axis=self._family.channel_axis)

    def _gather(self, tensor: str, indices: str, name: str) -> str:
        axis = self._family.anchor_axis
        return self._writer.add("GatherElements", [tensor, indices], name, axis=axis)


def grid(input_wh: Tuple[int, int]) -> Tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row [N, 2] and stride [N, 1] of every cell of YOLOX's grids, row by row."""
    width, height = input_wh
    corners, strides = [], []
    for stride in GRID_STRIDES:
        rows, columns = np.indices((height // stride, width // stride), np.float32)
        corners.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full((rows.size, 1), stride, np.float32))
    return np.concatenate(corners), np.concatenate(strides)
