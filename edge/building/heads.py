"""Recognises a detector's head and decodes it into boxes, scores and classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

import numpy as np

from edge.building.graph_writer import GraphWriter
from edge.building.network import FLOAT, Tensor
from edge.errors import ModelError

_SUPPORTED = (
    "supported is a detector with one output [batch, 4 + classes, anchors] "
    "as YOLOv8, YOLOv9 and YOLO11 have it"
)
_BOX_ROWS = 4
_IMAGE_CLASSIFIER_RANK = 2
_END_TO_END_COLUMNS = 6


@dataclass(frozen=True)
class RawHead:
    """One output [batch, 4 + classes, anchors]: cx, cy, w, h in model pixels, class scores 0..1.

    `anchor_count` is None where the network leaves it open.
    """

    output: Tensor
    class_count: int
    anchor_count: Optional[int]

    name = "yolov8"

    def candidate_count(self, max_candidates: int) -> int:
        """Rows per image that the decoded head gives."""
        return min(max_candidates, self.anchor_count or max_candidates)

    def decode(self, writer: GraphWriter, max_candidates: int, detections: str) -> None:
        """Writes the operators from the head to `detections` float32 [batch, K, 6].

        A row is x1, y1, x2, y2, score, class; the K rows are those with the best scores, sorted.
        """
        k = self.candidate_count(max_candidates)
        head = self._as_float(writer, k)
        boxes = writer.add_slice(head, "boxes", axis=1, start=0, stop=_BOX_ROWS)
        scores = writer.add_slice(
            head, "scores", axis=1, start=_BOX_ROWS, stop=_BOX_ROWS + self.class_count
        )
        best = writer.add("ReduceMax", [scores], "best_scores", axes=[1], keepdims=1)
        classes = writer.add("ArgMax", [scores], "best_classes", axis=1, keepdims=1)
        top_scores, top = writer.add_top_k(best, k, axis=2)
        top_classes = writer.add("GatherElements", [classes, top], "top_classes", axis=2)
        top_classes = writer.add("Cast", [top_classes], "top_classes_float", to=FLOAT)
        top_of_each_row = writer.add("Concat", [top] * _BOX_ROWS, "top_of_each_row", axis=1)
        top_boxes = writer.add("GatherElements", [boxes, top_of_each_row], "top_boxes", axis=2)
        corners = _corners(writer, top_boxes)
        rows = writer.add("Concat", [*corners, top_scores, top_classes], "rows", axis=1)
        writer.add_last("Transpose", [rows], detections, perm=[0, 2, 1])

    def _as_float(self, writer: GraphWriter, k: int) -> str:
        head = self.output.name
        if self.output.elem_type != FLOAT:
            head = writer.add("Cast", [head], "head_float", to=FLOAT)
        if self.anchor_count is None:
            # TopK must always find K anchors: the added ones score 0.
            pads = writer.constant("pads", np.array([0, 0, 0, 0, 0, k], np.int64))
            head = writer.add("Pad", [head, pads], "head_padded")
        return head


def recognise(outputs: Tuple[Tensor, ...], metadata: Mapping[str, str]) -> RawHead:
    """Tells which head a network has; ModelError says what was found where none is known."""
    _refuse_other_task(metadata)
    if len(outputs) != 1:
        found = ", ".join(map(str, outputs))
        raise ModelError(f"has {len(outputs)} outputs ({found}); {_SUPPORTED}")
    output = outputs[0]
    rows, columns = _rows_and_columns(output)
    if rows is None:
        raise ModelError(
            f"its output {output} leaves the number of classes open; "
            "export it again with a fixed input size"
        )
    _refuse_other_layout(output, rows, columns)
    return RawHead(output, rows - _BOX_ROWS, columns)


def _refuse_other_task(metadata: Mapping[str, str]) -> None:
    # A pose or oriented-box head has the very shape of a detector with more classes.
    task = metadata.get("task", "detect")
    if task != "detect":
        raise ModelError(f"is a '{task}' model by its metadata; {_SUPPORTED}")


def _rows_and_columns(output: Tensor) -> Tuple[Optional[int], Optional[int]]:
    shape = output.shape
    if len(shape) == _IMAGE_CLASSIFIER_RANK:
        raise ModelError(f"its output is {output}, an image classifier's; {_SUPPORTED}")
    if len(shape) != 3:
        raise ModelError(f"its output is {output}; {_SUPPORTED}")
    return shape[1], shape[2]


def _refuse_other_layout(output: Tensor, rows: int, columns: Optional[int]) -> None:
    if columns == _END_TO_END_COLUMNS and rows > columns:
        raise ModelError(
            f"its output is {output}, boxes that went through non-maximum suppression; "
            f"{_SUPPORTED}: export it again without it"
        )
    if columns is not None and rows > columns:
        raise ModelError(
            f"its output is {output}, one row per anchor as YOLOv5 and YOLOv7 have it; {_SUPPORTED}"
        )
    if rows <= _BOX_ROWS:
        raise ModelError(f"its output is {output}, without a row per class; {_SUPPORTED}")


def _corners(writer: GraphWriter, boxes_cxcywh: str) -> Tuple[str, str]:
    """From centre and size [batch, 4, K] to the corners, each [batch, 2, K]."""
    center = writer.add_slice(boxes_cxcywh, "centers", axis=1, start=0, stop=2)
    size = writer.add_slice(boxes_cxcywh, "sizes", axis=1, start=2, stop=4)
    half = writer.constant("half", np.array(0.5, np.float32))
    half_size = writer.add("Mul", [size, half], "half_sizes")
    top_left = writer.add("Sub", [center, half_size], "top_left")
    bottom_right = writer.add("Add", [center, half_size], "bottom_right")
    return top_left, bottom_right
