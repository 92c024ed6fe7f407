"""Small networks with the heads of every family, as they stand inside a deployed graph."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge.building.toolchain import CalibrationFeed
from edge.config.schema import CalibrationMethod, Precision
from edge.geometry import Image
from edge.records import DeployedGraph, Preprocessing

SIZE = 32
CLASSES = 3
BINS = 16


class NetworkBuilder:
    """Adds layers one after another; every method returns the name of a tensor."""

    def __init__(self, seed: int = 1, dtype: Any = np.float32) -> None:
        self.nodes: List[onnx.NodeProto] = []
        self.weights: List[onnx.TensorProto] = []
        self.dtype = dtype
        self._random = np.random.default_rng(seed)

    def op(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"/{name}", **attributes))
        return name

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def random(self, name: str, shape: Tuple[int, ...], scale: float = 1.0) -> str:
        values = self._random.normal(0, scale, shape).astype(self.dtype)
        return self.constant(name, values)

    def conv(
        self, x: str, name: str, channels: Tuple[int, int], k: int = 3, stride: int = 1
    ) -> str:
        inside, outside = channels
        weights = self.random(
            f"{name}.weight", (outside, inside, k, k), 1 / np.sqrt(inside * k * k)
        )
        bias = self.random(f"{name}.bias", (outside,), 0.1)
        pads = [k // 2] * 4
        return self.op("Conv", [x, weights, bias], name, strides=[stride, stride], pads=pads)

    def silu(self, x: str) -> str:
        return self.op("Mul", [x, self.op("Sigmoid", [x], f"{x}/sigmoid")], f"{x}/silu")

    def block(self, x: str, name: str, channels: Tuple[int, int], stride: int = 1) -> str:
        return self.silu(self.conv(x, name, channels, stride=stride))

    def reshape(self, x: str, name: str, shape: Sequence[int]) -> str:
        return self.op("Reshape", [x, self.constant(f"{name}.shape", np.array(shape))], name)

    def neck(self) -> str:
        """A backbone of two strides whose branches are joined again: [batch, 24, 8, 8]."""
        stem = self.block("images", "stem", (3, 8), stride=2)
        fine = self.block(stem, "fine", (8, 16), stride=2)
        pooled = self.op("MaxPool", [fine], "pooled", kernel_shape=[2, 2], strides=[2, 2])
        coarse = self.block(pooled, "coarse", (16, 8))
        scales = self.constant("twice", np.array([1, 1, 2, 2], np.float32))
        return self.op(
            "Concat", [self.op("Resize", [coarse, "", scales], "upsampled"), fine], "joined", axis=1
        )

    def model(self, output: str, batch: Any = "batch", is_open: bool = True) -> onnx.ModelProto:
        """The deployed graph: the network behind its preprocessing."""
        cast_to = TensorProto.FLOAT16 if self.dtype == np.float16 else TensorProto.FLOAT
        white = self.constant("edge/white", np.array(255, np.float32))
        before = NetworkBuilder()
        pixels = before.op("Cast", ["frames"], "edge/pixels", to=TensorProto.FLOAT)
        planes = before.op("Transpose", [pixels], "edge/planes", perm=[0, 3, 1, 2])
        scaled = before.op("Div", [planes, white], "edge/scaled")
        before.op("Cast", [scaled], "images", to=cast_to)
        self.op("Cast", [output], "detections", to=TensorProto.FLOAT)
        graph = helper.make_graph(
            [*before.nodes, *self.nodes],
            "tiny",
            [helper.make_tensor_value_info("frames", TensorProto.UINT8, [batch, SIZE, SIZE, 3])],
            [onnx.ValueInfoProto(name="detections")],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


def yolov8(net: NetworkBuilder) -> str:
    """Boxes as distributions over their edges, whose mean a fixed convolution takes."""
    neck = net.block(net.neck(), "merged", (24, 16))
    boxes = net.conv(net.block(neck, "box.0", (16, 16)), "box.1", (16, 4 * BINS), k=1)
    classes = net.conv(net.block(neck, "class.0", (16, 16)), "class.1", (16, CLASSES), k=1)
    bins = net.reshape(boxes, "bins", (0, 4, BINS, 64))
    spread = net.op("Softmax", [net.op("Transpose", [bins], "turned", perm=[0, 2, 1, 3])], "spread")
    ramp = np.arange(BINS).reshape(1, BINS, 1, 1).astype(net.dtype)
    mean = net.op("Conv", [spread, net.constant("dfl.weight", ramp)], "dfl")
    edges = net.reshape(mean, "edges", (0, 4, 64))
    scores = net.op("Sigmoid", [net.reshape(classes, "logits", (0, CLASSES, 64))], "scores")
    width = net.constant("stride", np.array(8 * BINS, net.dtype))
    return net.op("Concat", [net.op("Mul", [edges, width], "pixels"), scores], "output", axis=1)


def yolov5(net: NetworkBuilder) -> str:
    """One convolution for all; sigmoid, grid and anchors behind it."""
    raw = net.conv(net.block(net.neck(), "merged", (24, 16)), "detect", (16, 5 + CLASSES), k=1)
    rows = net.op(
        "Transpose", [net.reshape(raw, "rows", (0, 5 + CLASSES, 64))], "t", perm=[0, 2, 1]
    )
    squashed = net.op("Sigmoid", [rows], "squashed")
    grid = net.random("grid", (1, 64, 5 + CLASSES))
    moved = net.op("Add", [squashed, grid], "moved")
    return net.op("Mul", [moved, net.constant("stride", np.array(8, net.dtype))], "output")


def yolox(net: NetworkBuilder) -> str:
    """Boxes, objectness and classes from three convolutions, joined at once."""
    stem = net.block(net.neck(), "head.stem", (24, 16))
    tower = net.block(stem, "head.tower", (16, 16))
    boxes = net.conv(tower, "reg", (16, 4), k=1)
    objectness = net.op("Sigmoid", [net.conv(tower, "obj", (16, 1), k=1)], "objectness")
    classes = net.conv(net.block(stem, "head.cls", (16, 16)), "cls", (16, CLASSES), k=1)
    scores = net.op("Sigmoid", [classes], "scores")
    return net.op("Concat", [boxes, objectness, scores], "output", axis=1)


def end_to_end(net: NetworkBuilder) -> str:
    """The best rows are picked inside the network."""
    raw = net.conv(net.block(net.neck(), "merged", (24, 16)), "detect", (16, 4 + CLASSES), k=1)
    rows = net.reshape(raw, "rows", (0, 4 + CLASSES, 64))
    best = net.op("ReduceMax", [net.op("Sigmoid", [rows], "scores")], "best", axes=[1], keepdims=1)
    k = net.constant("k", np.array([5]))
    net.nodes.append(helper.make_node("TopK", [best, k], ["top", "index"], name="/topk", axis=2))
    index = net.op("Concat", ["index"] * (4 + CLASSES), "indices", axis=1)
    return net.op("GatherElements", [rows, index], "output", axis=2)


def attention(net: NetworkBuilder) -> str:
    """As YOLO11: what multiplies computed values with each other is no layer with weights."""
    neck = net.block(net.neck(), "merged", (24, 16))
    flat = net.reshape(net.conv(neck, "query", (16, 16), k=1), "flat", (0, 16, 64))
    turned = net.op("Transpose", [flat], "turned", perm=[0, 2, 1])
    looks = net.op("Softmax", [net.op("MatMul", [turned, flat], "alike")], "looks")
    mixed = net.reshape(net.op("MatMul", [flat, looks], "mixed"), "mixed4", (0, 16, 8, 8))
    added = net.op("Add", [neck, net.conv(mixed, "projected", (16, 16), k=1)], "added")
    return net.conv(added, "detect", (16, 4 + CLASSES), k=1)


def dense(net: NetworkBuilder) -> str:
    """Ends in a transposed convolution and a matrix of weights."""
    neck = net.block(net.neck(), "merged", (24, 16))
    up = net.op(
        "ConvTranspose", [neck, net.random("up.weight", (16, 4, 2, 2))], "up", strides=[2, 2]
    )
    rows = net.op("Transpose", [net.reshape(neck, "rows", (0, 16, 64))], "turned", perm=[0, 2, 1])
    linear = net.op("MatMul", [rows, net.random("linear.weight", (16, 4))], "linear")
    flat = net.reshape(up, "flat", (0, 4, 256))
    return net.op(
        "Concat", [flat, net.op("Transpose", [linear], "l", perm=[0, 2, 1])], "output", axis=2
    )


def corners(net: NetworkBuilder) -> str:
    """As an end-to-end export of YOLOv7: a fixed matrix turns centres into corners."""
    raw = net.conv(net.block(net.neck(), "merged", (24, 16)), "detect", (16, 4), k=1)
    rows = net.op("Transpose", [net.reshape(raw, "rows", (0, 4, 64))], "turned", perm=[0, 2, 1])
    matrix = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]])
    return net.op("MatMul", [rows, net.constant("matrix", matrix.astype(net.dtype))], "output")


Family = Callable[[NetworkBuilder], str]
FAMILIES: Dict[str, Family] = {
    "yolov8": yolov8,
    "yolov5": yolov5,
    "yolox": yolox,
    "end to end": end_to_end,
    "attention": attention,
    "dense": dense,
    "corners": corners,
}


def network(family: Family, dtype: Any = np.float32, batch: Any = "batch") -> onnx.ModelProto:
    net = NetworkBuilder(dtype=dtype)
    return net.model(family(net), batch)


def deployed(model: onnx.ModelProto, fixed_batch: Any = None) -> DeployedGraph:
    return DeployedGraph(
        onnx_bytes=model.SerializeToString(),
        name="tiny",
        sha256="0" * 64,
        head="yolov8",
        preprocessing=Preprocessing((SIZE, SIZE)),
        class_names=("a", "b", "c"),
        max_candidates=64,
        fixed_batch=fixed_batch,
        network_input="images",
        precision=Precision.FP32,
    )


def pictures(count: int, seed: int = 3) -> Image:
    """Smooth random pictures uint8 [count, SIZE, SIZE, 3], from black to white."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)


def feed(
    batches: int = 4, size: int = 2, method: CalibrationMethod = CalibrationMethod.MINMAX
) -> CalibrationFeed:
    return CalibrationFeed(
        lambda: iter([pictures(size, seed) for seed in range(batches)]), batches, method
    )
