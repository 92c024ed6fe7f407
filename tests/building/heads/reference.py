"""What each YOLO family itself does around its network, in plain numpy."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from edge.geometry import Image

Rows = NDArray[np.float32]
GREY = 114


class GatherElements(OpRun):
    """The evaluator's own takes at most 32 rows."""

    op_domain = ""

    def _run(self, data: NDArray[Any], indices: NDArray[Any], axis: int = 0) -> Tuple[Any]:
        return (np.take_along_axis(data, indices, axis),)


class TopK(OpRun):
    """Of equal ones the first comes first, as the standard says."""

    op_domain = ""

    def _run(
        self, data: NDArray[Any], k: NDArray[Any], axis: int = -1, **_: int
    ) -> Tuple[Any, Any]:
        best_first = np.argsort(-data, axis=axis, kind="stable")
        best = np.take(best_first, np.arange(int(k[0])), axis=axis)
        return np.take_along_axis(data, best, axis=axis), best


def run(model: bytes, inputs: Dict[str, NDArray[Any]]) -> NDArray[Any]:
    """The first output by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    output: NDArray[Any] = session.run(None, inputs)[0]
    return output


def run_to_the_letter(model: bytes, inputs: Dict[str, NDArray[Any]]) -> NDArray[Any]:
    """The first output, every number of half precision rounded as the file says.

    On a CPU ONNX Runtime leaves such roundings out, other ones in other graphs.
    """
    parsed = onnx.load_model_from_string(model)
    own: List[Any] = [GatherElements, TopK]
    evaluator: Any = ReferenceEvaluator(parsed, new_ops=own)
    with np.errstate(all="ignore"):  # its sigmoid also computes what it does not take
        output: NDArray[Any] = evaluator.run(None, inputs)[0]
    return output


Run = Callable[[bytes, Dict[str, NDArray[Any]]], NDArray[Any]]


def run_in_parts(run: Run, model: bytes, name: str, batch: Any, size: int) -> NDArray[Any]:
    """Runs a batch through a network that takes `size` images, or any number where it is 0."""
    size = size or len(batch)
    parts = [run(model, {name: batch[i : i + size]}) for i in range(0, len(batch), size)]
    return np.concatenate(parts)


def centered(source: Image, wh: Tuple[int, int]) -> Image:
    """YOLOv5 to YOLO26: the picture in the middle."""
    resized = _resized(source, wh)
    top, left = (wh[1] - resized.shape[0]) // 2, (wh[0] - resized.shape[1]) // 2
    bottom, right = wh[1] - resized.shape[0] - top, wh[0] - resized.shape[1] - left
    border = cv2.BORDER_CONSTANT
    grey = (GREY, GREY, GREY)
    padded = cv2.copyMakeBorder(resized, top, bottom, left, right, border, value=grey)
    return np.asarray(padded, np.uint8)


def top_left(source: Image, wh: Tuple[int, int]) -> Image:
    """YOLOX: the picture in the upper left corner."""
    resized = _resized(source, wh)
    padded: Image = np.full((wh[1], wh[0], 3), GREY, np.uint8)
    padded[: resized.shape[0], : resized.shape[1]] = resized
    return padded


def _resized(source: Image, wh: Tuple[int, int]) -> Image:
    scale = min(wh[0] / source.shape[1], wh[1] / source.shape[0])
    size = int(source.shape[1] * scale), int(source.shape[0] * scale)
    return np.asarray(cv2.resize(source, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def rgb_of_one(pictures: Image) -> Rows:
    """RGB, 0..1, planes."""
    planes: Rows = pictures[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32) / 255
    return planes


def bgr_of_255(pictures: Image) -> Rows:
    """BGR, 0..255, planes."""
    planes: Rows = pictures.transpose(0, 3, 1, 2).astype(np.float32)
    return planes


def yolov5(raw: Rows, wh: Tuple[int, int]) -> Rows:
    """Anchors [n, 5 + classes]: confidence is objectness times class score."""
    confidences = raw[:, 5:] * raw[:, 4:5]
    return _best_class(_corners(raw[:, :4]), confidences)


def yolov7(raw: Rows, wh: Tuple[int, int]) -> Rows:
    """As YOLOv5, but objectness alone where there is one class."""
    if raw.shape[1] == 6:
        return _best_class(_corners(raw[:, :4]), raw[:, 4:5])
    return yolov5(raw, wh)


def yolov8(raw: Rows, wh: Tuple[int, int]) -> Rows:
    """Columns [4 + classes, n]."""
    return _best_class(_corners(raw[:4].T), raw[4:].T)


def yolov8_corners(raw: Rows, wh: Tuple[int, int]) -> Rows:
    """The same with x1, y1, x2, y2."""
    return _best_class(raw[:4].T, raw[4:].T)


def end_to_end(raw: Rows, wh: Tuple[int, int]) -> Rows:
    """Nothing is left to do."""
    return raw


def yolox(raw: Rows, wh: Tuple[int, int]) -> Rows:
    """Cell by cell through the grids of strides 8, 16 and 32."""
    decoded = raw.copy()
    row = 0
    for stride in (8, 16, 32):
        for y in range(wh[1] // stride):
            for x in range(wh[0] // stride):
                decoded[row, 0] = (raw[row, 0] + x) * stride
                decoded[row, 1] = (raw[row, 1] + y) * stride
                decoded[row, 2:4] = np.exp(raw[row, 2:4]) * stride
                row += 1
    return yolov5(decoded, wh)


def _corners(boxes: Rows) -> Rows:
    x, y, w, h = boxes.T
    return np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)


def _best_class(boxes: Rows, scores: Rows) -> Rows:
    classes = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), classes]
    columns = [boxes, best[:, None], classes[:, None].astype(np.float32)]
    return np.concatenate(columns, axis=1)


Decode = Callable[[Rows, Tuple[int, int]], Rows]


class Pipeline(NamedTuple):
    """A family's own way from a picture to boxes."""

    place: Callable[[Image, Tuple[int, int]], Image]
    planes: Callable[[Image], Rows]
    decode: Decode


def detections(
    model: onnx.ModelProto, sources: Sequence[Image], wh: Tuple[int, int], own: Pipeline, run: Run
) -> Rows:
    """Every box of each picture in model pixels: x1, y1, x2, y2, score, class; best first."""
    image = model.graph.input[0]
    dtype = helper.tensor_dtype_to_np_dtype(image.type.tensor_type.elem_type)
    batch = image.type.tensor_type.shape.dim[0].dim_value
    inputs = own.planes(np.stack([own.place(source, wh) for source in sources])).astype(dtype)
    raw = run_in_parts(run, model.SerializeToString(), image.name, inputs, batch)
    return np.stack([sorted_by_score(own.decode(one, wh)) for one in raw.astype(np.float32)])


def sorted_by_score(rows: Rows) -> Rows:
    """Best first, equal ones in their order."""
    best_first: Rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    return best_first
