"""Small random detectors with the raw YOLOv8 head, and what they should detect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge.geometry import Image

Dim = Union[int, str]


@dataclass(frozen=True)
class TinyDetector:
    """Convolutions of several strides, one anchor per cell, boxes anywhere in the input."""

    input_wh: Tuple[int, int] = (64, 48)
    class_count: int = 3
    strides: Tuple[int, ...] = (4, 8)
    batch: Dim = "batch"
    dtype: Any = np.float32
    opset: int = 13
    names: Optional[str] = None
    input_name: str = "images"
    output_name: str = "output0"
    is_size_open: bool = False
    seed: int = 7

    @property
    def rows(self) -> int:
        return 4 + self.class_count

    @property
    def anchor_count(self) -> int:
        width, height = self.input_wh
        return sum(-(-width // s) * -(-height // s) for s in self.strides)

    @property
    def input_shape(self) -> List[Dim]:
        width, height = self.input_wh
        size: List[Dim] = ["height", "width"] if self.is_size_open else [height, width]
        return [self.batch, 3, *size]

    def model(self) -> onnx.ModelProto:
        elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        anchors: Dim = "anchors" if self.is_size_open else self.anchor_count
        nodes, weights = self._network()
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info(self.input_name, elem_type, self.input_shape)],
            [
                helper.make_tensor_value_info(
                    self.output_name, elem_type, [self.batch, self.rows, anchors]
                )
            ],
            weights,
        )
        model = make_model(graph, self.opset)
        if self.names is not None:
            helper.set_model_props(model, {"names": self.names})
        return model

    def save(self, folder: Path, name: str = "tiny.onnx") -> Path:
        return save(self.model(), folder, name)

    def _network(self) -> Tuple[List[onnx.NodeProto], List[onnx.TensorProto]]:
        random = np.random.default_rng(self.seed)
        width, height = self.input_wh
        scale = np.ones((1, self.rows, 1, 1), self.dtype)
        scale[0, :4, 0, 0] = width, height, width / 2, height / 2
        first: Dim = 0 if isinstance(self.batch, str) else self.batch
        weights = [
            numpy_helper.from_array(scale, "scale"),
            numpy_helper.from_array(np.array([first, self.rows, -1], np.int64), "flat"),
        ]
        nodes, flats = [], []
        for s in self.strides:
            kernel = random.normal(0, 1.5, (self.rows, 3, s, s)) / s
            weights.append(numpy_helper.from_array(kernel.astype(self.dtype), f"kernel{s}"))
            nodes += [
                helper.make_node(
                    "Conv",
                    [self.input_name, f"kernel{s}"],
                    [f"conv{s}"],
                    strides=[s, s],
                    auto_pad="SAME_UPPER",
                ),
                helper.make_node("Sigmoid", [f"conv{s}"], [f"sigmoid{s}"]),
                helper.make_node("Mul", [f"sigmoid{s}", "scale"], [f"scaled{s}"]),
                helper.make_node("Reshape", [f"scaled{s}", "flat"], [f"flat{s}"]),
            ]
            flats.append(f"flat{s}")
        nodes.append(helper.make_node("Concat", flats, [self.output_name], axis=2))
        return nodes, weights


def make_model(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def save(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def constant_output_model(
    outputs: Sequence[Tuple[str, Sequence[int]]],
    metadata: Optional[Dict[str, str]] = None,
    input_shape: Sequence[Dim] = (1, 3, 32, 32),
    elem_type: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model of any output shapes: what other families of networks look like from outside."""
    nodes = [helper.make_node("Shape", ["images"], ["unused"])]
    weights = []
    for name, shape in outputs:
        weights.append(numpy_helper.from_array(np.zeros(shape, np.float32), f"{name}_values"))
        nodes.append(helper.make_node("Identity", [f"{name}_values"], [name]))
    graph = helper.make_graph(
        nodes,
        "other",
        [helper.make_tensor_value_info("images", elem_type, list(input_shape))],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name, shape in outputs
        ],
        weights,
    )
    model = make_model(graph, 13)
    helper.set_model_props(model, metadata or {})
    return model


def random_frames(count: int, input_wh: Tuple[int, int], seed: int = 1) -> Image:
    width, height = input_wh
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def run_onnx(model_bytes: bytes, inputs: Dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])
    output: NDArray[np.float32] = session.run(None, inputs)[0]
    return output


def reference_detections(
    model: onnx.ModelProto, frames: Image, max_candidates: int
) -> NDArray[np.float32]:
    """The original network between a pre- and postprocessing in plain numpy; [n, K, 6]."""
    image = model.graph.input[0]
    dtype = helper.tensor_dtype_to_np_dtype(image.type.tensor_type.elem_type)
    planes = (frames[..., ::-1].astype(np.float32) / 255).transpose(0, 3, 1, 2)
    raw = run_onnx(model.SerializeToString(), {image.name: planes.astype(dtype)})
    return np.stack([reference_decode(one, max_candidates) for one in raw.astype(np.float32)])


def reference_decode(raw: NDArray[np.float32], max_candidates: int) -> NDArray[np.float32]:
    """The best rows x1, y1, x2, y2, score, class of a raw head [4 + classes, anchors]."""
    rows = []
    for anchor in range(raw.shape[1]):
        cx, cy, w, h = raw[:4, anchor]
        class_id = int(np.argmax(raw[4:, anchor]))
        score = raw[4 + class_id, anchor]
        rows.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score, class_id])
    rows.sort(key=lambda row: -row[4])
    return np.array(rows[:max_candidates], np.float32)
