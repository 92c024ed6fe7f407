"""Tells which head a network has, from its outputs, its metadata and its last operators."""

from __future__ import annotations

from typing import Mapping, Optional, Tuple

import onnx

from edge.building.heads.families import FAMILIES, GRID_STRIDES, BoxFormat, ScoreFormat, grid_cells
from edge.building.heads.head import Head
from edge.building.heads.tail import Tail
from edge.building.network import Network, Tensor
from edge.config.schema import HeadName
from edge.errors import ModelError

_SUPPORTED = (
    "supported is a YOLO detector with one output, [batch, anchors, 5 + classes], "
    "[batch, 4 + classes, anchors] or [batch, boxes, 6]"
)
_DECODE = (
    "export it again with its boxes decoded (YOLOv7: with --grid, YOLOv5: without --train, "
    "Ultralytics: as it comes)"
)
_IMAGE_CLASSIFIER_RANK = 2
_RANK = 3
_END_TO_END_COLUMNS = 6
# Feature maps of convolutions: [batch, channels, h, w] or [batch, anchors, h, w, channels].
_GRID_RANKS = (4, 5)


def recognise(
    network: Network,
    graph: onnx.GraphProto,
    metadata: Mapping[str, str],
    configured: Optional[HeadName],
) -> Head:
    """Tells a network's head, or takes the configured one; ModelError where neither fits."""
    _refuse_other_task(metadata)
    output = _detections(network.outputs)
    tail = Tail(graph, output.name)
    name = configured or _name(output, tail, network.input_wh, metadata)
    return _head(name, output, tail, network.input_wh)


def _refuse_other_task(metadata: Mapping[str, str]) -> None:
    # A pose or oriented-box head has the very shape of a detector with more classes.
    task = metadata.get("task", "detect")
    if task != "detect":
        raise ModelError(f"is a '{task}' model by its metadata; {_SUPPORTED}")


def _detections(outputs: Tuple[Tensor, ...]) -> Tensor:
    candidates = [output for output in outputs if len(output.shape) not in _GRID_RANKS]
    if not candidates and outputs:
        found = ", ".join(map(str, outputs))
        raise ModelError(f"gives undecoded feature maps ({found}); {_DECODE}")
    # YOLOv5 and YOLOv7 may hand out their three feature maps beside what they decode from them.
    is_aside = all(len(output.shape) in (5, _RANK) for output in outputs)
    if len(candidates) != 1 or (len(outputs) > 1 and not is_aside):
        found = ", ".join(map(str, outputs))
        raise ModelError(f"has {len(outputs)} outputs ({found}); {_SUPPORTED}")
    (output,) = candidates
    if len(output.shape) == _IMAGE_CLASSIFIER_RANK:
        raise ModelError(f"its output is {output}, an image classifier's; {_SUPPORTED}")
    if len(output.shape) != _RANK:
        raise ModelError(f"its output is {output}; {_SUPPORTED}")
    return output


def _name(
    output: Tensor, tail: Tail, input_wh: Tuple[int, int], metadata: Mapping[str, str]
) -> HeadName:
    is_end_to_end = metadata.get("end2end") == "True" or tail.count("TopK") > 0
    if is_end_to_end and output.shape[2] in (_END_TO_END_COLUMNS, None):
        return HeadName.END_TO_END
    if tail.count("TopK"):
        raise ModelError(f"its output {output} holds only its best boxes; {_SUPPORTED}")
    if _has_anchors_first(output):
        return _name_with_anchors_first(output, tail, input_wh, metadata)
    if tail.is_undecoded:
        raise ModelError(f"its output {output} is undecoded; {_DECODE}")
    return HeadName.YOLOV8_CORNERS if tail.has_corners else HeadName.YOLOV8


def _has_anchors_first(output: Tensor) -> bool:
    """Tells [batch, anchors, channels] from [batch, channels, anchors]: anchors are more."""
    rows, columns = output.shape[1:]
    if rows is None and columns is None:
        raise ModelError(
            f"its output {output} leaves the number of classes open; "
            "export it again with a fixed input size"
        )
    if rows == columns:
        raise ModelError(
            f"its output {output} has as many rows as columns, so that nothing tells which are "
            "anchors; write model.head: yolov8 or model.head: yolov5"
        )
    return rows is None or (columns is not None and rows > columns)


def _name_with_anchors_first(
    output: Tensor, tail: Tail, input_wh: Tuple[int, int], metadata: Mapping[str, str]
) -> HeadName:
    has_grids_of_yolox = output.shape[1] in (grid_cells(input_wh), None)
    if tail.is_undecoded:
        # YOLOX alone hands out its grids as one list, their scores between 0 and 1 already.
        if has_grids_of_yolox and tail.count("Sigmoid"):
            return HeadName.YOLOX
        raise ModelError(f"its output {output} is undecoded; {_DECODE}")
    if tail.count("Exp"):
        # YOLOX decodes its grids together; older networks have an exponential for each.
        if has_grids_of_yolox and tail.count("Exp") == 1:
            return HeadName.YOLOX_DECODED
        raise ModelError(
            f"its output {output} may be YOLOX's or that of an early YOLOv6 or YOLOv3, which "
            "want other colours; write model.head: yolox_decoded or model.head: yolov5"
        )
    if output.shape[2] == 6 and not (tail.has_constant_column or "stride" in metadata):
        raise ModelError(
            f"its output {output} has one class, scored as in YOLOv5 (times objectness) or as in "
            "YOLOv7 (objectness alone); write model.head: yolov5 or model.head: yolov7"
        )
    return HeadName.YOLOV5


def _head(name: HeadName, output: Tensor, tail: Tail, input_wh: Tuple[int, int]) -> Head:
    family = FAMILIES[name]
    anchors, channels = output.shape[family.anchor_axis], output.shape[family.channel_axis]
    if family.score_format is ScoreFormat.BEST:
        if channels not in (_END_TO_END_COLUMNS, None):
            raise _misfit(name, output)
        return Head(name, output, tail.class_count, anchors or tail.top_k, input_wh)
    if channels is None:
        raise ModelError(
            f"its output {output} leaves the number of classes open; "
            "export it again with a fixed input size"
        )
    if channels <= family.first_class:
        raise ModelError(f"its output is {output}, without a row per class; {_SUPPORTED}")
    if anchors is not None and channels > anchors:
        raise _misfit(name, output)
    if family.box_format is BoxFormat.CELLS:
        anchors = _checked_cells(output, anchors, input_wh)
    return Head(name, output, channels - family.first_class, anchors, input_wh)


def _misfit(name: HeadName, output: Tensor) -> ModelError:
    return ModelError(
        f"its output {output} is not that of model.head: {name.value}; "
        "correct it, or remove it to have the head recognised"
    )


def _checked_cells(output: Tensor, anchors: Optional[int], input_wh: Tuple[int, int]) -> int:
    width, height = input_wh
    largest = GRID_STRIDES[-1]
    if width % largest or height % largest:
        raise ModelError(
            f"takes {width}x{height} pixels, but YOLOX's grids fit only multiples of {largest}; "
            "export it again with such a size"
        )
    cells = grid_cells(input_wh)
    if anchors not in (cells, None):
        raise ModelError(
            f"its output {output} has {anchors} anchors, but YOLOX's grids of strides 8, 16 and "
            f"32 have {cells} cells; {_DECODE}"
        )
    return cells
