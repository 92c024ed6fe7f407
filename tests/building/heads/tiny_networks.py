"""Small random networks that end as the exporters of each YOLO family end theirs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Mapping, Sequence, Tuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tests.building.tiny_detectors import Dim, make_model, save

STRIDES = (8, 16, 32)
BOXES_OF_END_TO_END = 30
_ANCHORS_PX = np.array([[10, 13], [16, 30], [33, 23]], np.float32)
_HIDDEN = 8
_BINS = 4


@dataclass(frozen=True)
class Tiny:
    """One network: `style` is a method of _Builder; sizes and batch as the exporters offer them."""

    style: str
    class_count: int = 3
    input_wh: Tuple[int, int] = (96, 64)
    batch: Dim = "batch"
    dtype: Any = np.float32
    is_size_open: bool = False
    opset: int = 13
    pixel_range: float = 1.0
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def cell_count(self) -> int:
        width, height = self.input_wh
        return sum(width // s * (height // s) for s in STRIDES)

    def model(self) -> onnx.ModelProto:
        builder = _Builder(self)
        outputs = getattr(builder, self.style)()
        return builder.model([outputs] if isinstance(outputs, str) else list(outputs))

    def save(self, folder: Path) -> Path:
        return save(self.model(), folder)


class _Builder:
    def __init__(self, tiny: Tiny) -> None:
        self._tiny = tiny
        self._nodes: List[onnx.NodeProto] = []
        self._weights: List[onnx.TensorProto] = []
        self._random = np.random.default_rng(11)
        self._nc = tiny.class_count

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        tiny = self._tiny
        elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(tiny.dtype))
        width, height = tiny.input_wh
        size: List[Dim] = ["height", "width"] if tiny.is_size_open else [height, width]
        graph = helper.make_graph(
            self._nodes,
            tiny.style,
            [helper.make_tensor_value_info("images", elem_type, [tiny.batch, 3, *size])],
            [helper.make_tensor_value_info(name, elem_type, None) for name in outputs],
            self._weights,
        )
        model = make_model(graph, tiny.opset)
        helper.set_model_props(model, dict(tiny.metadata))
        # As exporters do: what they know of the outputs stands in the file.
        inferred = onnx.shape_inference.infer_shapes(model)
        for output, known in zip(model.graph.output, inferred.graph.output):
            output.CopyFrom(known)
        return model

    # --- the families ------------------------------------------------------------------------

    def yolov5(self) -> str:
        return self._concat(self._decoded_by_anchors(self._yolov5_box), axis=1)

    def yolov5_with_feature_maps(self) -> Tuple[str, ...]:
        """As older exports: the three feature maps [batch, 3, h, w, channels] come along."""
        maps = self.undecoded_feature_maps()
        return (self.yolov5(), *maps)

    def undecoded_feature_maps(self) -> Tuple[str, ...]:
        width, height = self._tiny.input_wh
        maps = []
        for stride in STRIDES:
            shape = [-1, 3, 5 + self._nc, height // stride, width // stride]
            shaped = self._reshape(self._branch(stride, 3 * (5 + self._nc)), shape)
            maps.append(self._add("Transpose", [shaped], perm=[0, 1, 3, 4, 2]))
        return tuple(maps)

    def yolov7(self) -> str:
        return self._concat(self._decoded_by_anchors(self._yolov7_box), axis=1)

    def yolov3(self) -> str:
        return self._concat(self._decoded_by_anchors(self._yolov3_box), axis=1)

    def yolov6(self) -> str:
        """Objectness is a column of ones."""
        boxes, scores = self._distances_and_scores(bins=1)
        boxes = self._transposed(self._box_of_distances(boxes, is_center=True))
        scores = self._transposed(scores)
        if isinstance(self._tiny.batch, str):
            shape = self._concat(
                [self._add("Slice", [self._add("Shape", [scores]), *self._ints([0], [2])]),
                 *self._ints([1])], axis=0,
            )  # fmt: skip
            one = numpy_helper.from_array(np.ones(1, self._tiny.dtype))
            ones = self._add("ConstantOfShape", [shape], value=one)
        else:
            ones = self._float(np.ones((self._tiny.batch, self._tiny.cell_count, 1)))
        return self._concat([boxes, ones, scores], axis=-1)

    def yolov8(self) -> str:
        boxes, scores = self._distances_and_scores(_BINS)
        return self._concat([self._box_of_distances(boxes, is_center=True), scores], axis=1)

    def yolo26_raw(self) -> str:
        """Without bins, otherwise as YOLOv8."""
        boxes, scores = self._distances_and_scores(bins=1)
        return self._concat([self._box_of_distances(boxes, is_center=True), scores], axis=1)

    def yolov10_cut(self) -> str:
        """The one-to-one branch of YOLOv10 up to its TopK, which works on corners."""
        boxes, scores = self._distances_and_scores(_BINS)
        return self._concat([self._box_of_distances(boxes, is_center=False), scores], axis=1)

    def yolov10(self) -> str:
        """End-to-end: the best anchors first, then the best of their classes."""
        both = self._transposed(self.yolov10_cut())
        boxes, scores = self._split(both, [4, self._nc], axis=-1)
        k = self._ints([BOXES_OF_END_TO_END])[0]
        best = self._reduce_max(scores, -1)
        _, anchors = self._add_many("TopK", [best, k], 2, axis=1)
        anchors = self._unsqueezed(anchors)
        of_classes = self._concat([anchors] * self._nc, axis=-1)
        scores = self._add("GatherElements", [scores, of_classes], axis=1)
        flat = self._add("Flatten", [scores], axis=1)
        scores, index = self._add_many("TopK", [flat, k], 2, axis=1)
        classes_divisor = self._ints([self._nc])[0]
        classes = self._add("Mod", [index, classes_divisor])
        rows = self._unsqueezed(self._add("Div", [index, classes_divisor]))
        anchors = self._add("GatherElements", [anchors, rows], axis=1)
        boxes = self._add("GatherElements", [boxes, self._concat([anchors] * 4, axis=-1)], axis=1)
        elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(self._tiny.dtype))
        classes = self._add("Cast", [self._unsqueezed(classes)], to=elem_type)
        return self._concat([boxes, self._unsqueezed(scores), classes], axis=-1)

    def yolox(self) -> str:
        flats = []
        for stride in STRIDES:
            box = self._branch(stride, 4, spread=1.0)
            scores = [
                self._add("Sigmoid", [self._branch(stride, count)]) for count in (1, self._nc)
            ]
            level = self._concat([box, *scores], axis=1)
            flats.append(self._reshape(level, [0, 5 + self._nc, -1]))
        return self._transposed(self._concat(flats, axis=2))

    def yolox_decoded(self) -> str:
        grids = self.yolox()
        centers, sizes, rest = self._split(grids, [2, 2, 1 + self._nc], axis=-1)
        cells, strides = self._all_cells()
        centers = self._add("Mul", [self._add("Add", [centers, cells]), strides])
        sizes = self._add("Mul", [self._add("Exp", [sizes]), strides])
        return self._concat([centers, sizes, rest], axis=-1)

    def yolox_decoded_in_place(self) -> str:
        """As older exports: the boxes are written over the undecoded ones."""
        grids = self.yolox()
        boxes, _ = self._split(self.yolox_decoded(), [4, 1 + self._nc], axis=-1)
        assert isinstance(self._tiny.batch, int)
        rows = np.indices((self._tiny.batch, self._tiny.cell_count, 4)).transpose(1, 2, 3, 0)
        places = self._weight(rows.astype(np.int64))
        return self._add("ScatterND", [grids, places, boxes])

    def undecoded_distances(self) -> str:
        """What some converters cut out for a decoder of their own."""
        boxes, scores = self._distances_and_scores(bins=1)
        return self._concat([boxes, scores], axis=1)

    def undecoded_logits(self) -> str:
        """YOLOX's shape, but neither boxes nor scores are anything yet."""
        flats = [
            self._reshape(self._branch(stride, 5 + self._nc), [0, 5 + self._nc, -1])
            for stride in STRIDES
        ]
        return self._transposed(self._concat(flats, axis=2))

    # --- parts of them -----------------------------------------------------------------------

    def _branch(self, stride: int, channels: int, spread: float = 2.0) -> str:
        """Convolutions from the image to [batch, channels, h / stride, w / stride]."""
        scale = 1 / (stride * self._tiny.pixel_range)
        first = self._random.normal(0, 3 * scale, (_HIDDEN, 3, stride, stride))
        hidden = self._add("Conv", ["images", self._float(first)], strides=[stride, stride])
        hidden = self._add("Mul", [hidden, self._add("Sigmoid", [hidden])])
        last = self._random.normal(0, spread / 2, (channels, _HIDDEN, 1, 1))
        return self._add("Conv", [hidden, self._float(last)])

    def _decoded_by_anchors(self, box: Any) -> List[str]:
        channels = 5 + self._nc
        flats = []
        for index, stride in enumerate(STRIDES):
            shaped = self._reshape(self._branch(stride, 3 * channels), [0, 3, channels, -1])
            rows = self._add("Transpose", [shaped], perm=[0, 1, 3, 2])
            anchors = self._float((_ANCHORS_PX * (index + 1)).reshape(1, 3, 1, 2))
            flats.append(self._reshape(box(rows, self._cells(stride), stride, anchors),
                                       [0, -1, channels]))  # fmt: skip
        return flats

    def _yolov5_box(self, rows: str, cells: str, stride: int, anchors: str) -> str:
        centers, sizes, rest = self._split(self._add("Sigmoid", [rows]), [2, 2, 1 + self._nc], -1)
        centers = self._add("Mul", [centers, self._float(2)])
        centers = self._add("Add", [centers, self._add("Sub", [cells, self._float(0.5)])])
        centers = self._add("Mul", [centers, self._float(stride)])
        doubled = self._add("Mul", [sizes, self._float(2)])
        sizes = self._add("Mul", [self._add("Pow", [doubled, self._float(2)]), anchors])
        return self._concat([centers, sizes, rest], axis=-1)

    def _yolov7_box(self, rows: str, cells: str, stride: int, anchors: str) -> str:
        centers, sizes, rest = self._split(self._add("Sigmoid", [rows]), [2, 2, 1 + self._nc], -1)
        half_back = self._add("Sub", [cells, self._float(0.5)])
        corners = self._add("Mul", [half_back, self._float(stride)])
        centers = self._add("Mul", [centers, self._float(2 * stride)])
        centers = self._add("Add", [centers, corners])
        fourfold = self._add("Mul", [anchors, self._float(4)])
        sizes = self._add("Mul", [self._add("Pow", [sizes, self._float(2)]), fourfold])
        return self._concat([centers, sizes, rest], axis=-1)

    def _yolov3_box(self, rows: str, cells: str, stride: int, anchors: str) -> str:
        centers, sizes, rest = self._split(rows, [2, 2, 1 + self._nc], -1)
        centers = self._add("Add", [self._add("Sigmoid", [centers]), cells])
        centers = self._add("Mul", [centers, self._float(stride)])
        sizes = self._add("Mul", [self._add("Exp", [sizes]), anchors])
        return self._concat([centers, sizes, self._add("Sigmoid", [rest])], axis=-1)

    def _distances_and_scores(self, bins: int) -> Tuple[str, str]:
        boxes, scores = [], []
        for stride in STRIDES:
            boxes.append(self._reshape(self._branch(stride, 4 * bins), [0, 4 * bins, -1]))
            scores.append(self._reshape(self._branch(stride, self._nc), [0, self._nc, -1]))
        distances = self._concat(boxes, axis=2)
        if bins > 1:
            distances = self._expected_bin(distances, bins)
        return distances, self._add("Sigmoid", [self._concat(scores, axis=2)])

    def _expected_bin(self, distances: str, bins: int) -> str:
        shaped = self._reshape(distances, [0, 4, bins, -1])
        shares = self._add("Softmax", [self._add("Transpose", [shaped], perm=[0, 2, 1, 3])], axis=1)
        ramp = self._float(np.arange(bins).reshape(1, bins, 1, 1))
        return self._reshape(self._add("Conv", [shares, ramp]), [0, 4, -1])

    def _box_of_distances(self, distances: str, is_center: bool) -> str:
        cells, strides = self._all_cells()
        centers = self._transposed(self._add("Add", [cells, self._float(0.5)]))
        before, behind = self._split(distances, [2, 2], axis=1)
        top_left = self._add("Sub", [centers, before])
        bottom_right = self._add("Add", [centers, behind])
        parts = [top_left, bottom_right]
        if is_center:
            middle = self._add("Add", [top_left, bottom_right])
            size = self._add("Sub", [bottom_right, top_left])
            parts = [self._add("Div", [middle, self._float(2)]), size]
        return self._add("Mul", [self._concat(parts, axis=1), self._transposed(strides)])

    def _all_cells(self) -> Tuple[str, str]:
        """Cells [1, n, 2] and strides [1, n, 1] of all grids."""
        cells, strides = [], []
        for stride in STRIDES:
            of_grid = self._cells(stride)
            first = self._split(of_grid, [1, 1], axis=-1)[0]
            zero = self._add("Mul", [first, self._float(0)])
            strides.append(self._add("Add", [zero, self._float(stride)]))
            cells.append(of_grid)
        return (
            self._reshape(self._concat(cells, axis=0), [1, -1, 2]),
            self._reshape(self._concat(strides, axis=0), [1, -1, 1]),
        )

    def _cells(self, stride: int) -> str:
        """Column and row [n, 2] of a grid's cells, row by row; computed where sizes are open."""
        if not self._tiny.is_size_open:
            width, height = self._tiny.input_wh
            rows, columns = np.indices((height // stride, width // stride))
            return self._float(np.stack([columns.ravel(), rows.ravel()], axis=1))
        shape = self._add("Shape", ["images"])
        step = self._weight(np.array(stride, np.int64))
        places = [self._weight(np.array(axis, np.int64)) for axis in (3, 2)]
        counts = [self._add("Div", [self._add("Gather", [shape, p], axis=0), step]) for p in places]
        size = self._concat([self._reshape(count, [1]) for count in reversed(counts)], axis=0)
        axes = [
            self._reshape(self._ramp(count), form)
            for count, form in zip(counts, ([1, -1], [-1, 1]))
        ]
        planes = [self._reshape(self._add("Expand", [axis, size]), [-1, 1]) for axis in axes]
        return self._concat(planes, axis=1)

    def _ramp(self, count: str) -> str:
        zero, one = (self._weight(np.array(value, np.int64)) for value in (0, 1))
        elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(self._tiny.dtype))
        return self._add("Cast", [self._add("Range", [zero, count, one])], to=elem_type)

    # --- operators, as the opset spells them ---------------------------------------------------

    def _add(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> str:
        return self._add_many(op_type, inputs, 1, **attributes)[0]

    def _add_many(
        self, op_type: str, inputs: Sequence[str], count: int, **attributes: Any
    ) -> List[str]:
        name = f"{op_type}_{len(self._nodes)}"
        outputs = [f"{name}_{index}" for index in range(count)]
        self._nodes.append(helper.make_node(op_type, inputs, outputs, name=name, **attributes))
        return outputs

    def _split(self, tensor: str, sizes: List[int], axis: int) -> List[str]:
        if self._tiny.opset < 13:
            return self._add_many("Split", [tensor], len(sizes), axis=axis, split=sizes)
        return self._add_many("Split", [tensor, *self._ints(sizes)], len(sizes), axis=axis)

    def _reduce_max(self, tensor: str, axis: int) -> str:
        if self._tiny.opset < 18:
            return self._add("ReduceMax", [tensor], axes=[axis], keepdims=0)
        return self._add("ReduceMax", [tensor, *self._ints([axis])], keepdims=0)

    def _unsqueezed(self, tensor: str) -> str:
        if self._tiny.opset < 13:
            return self._add("Unsqueeze", [tensor], axes=[-1])
        return self._add("Unsqueeze", [tensor, *self._ints([-1])])

    def _concat(self, tensors: Sequence[str], axis: int) -> str:
        return self._add("Concat", tensors, axis=axis)

    def _reshape(self, tensor: str, shape: List[int]) -> str:
        return self._add("Reshape", [tensor, *self._ints(shape)])

    def _transposed(self, tensor: str) -> str:
        return self._add("Transpose", [tensor], perm=[0, 2, 1])

    def _ints(self, *lists: List[int]) -> List[str]:
        return [self._weight(np.array(values, np.int64)) for values in lists]

    def _float(self, values: Any) -> str:
        return self._weight(np.asarray(values).astype(self._tiny.dtype))

    def _weight(self, values: NDArray[Any]) -> str:
        name = f"weight_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, name))
        return name
