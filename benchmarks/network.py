"""A network that deploys like YOLOv8 but computes next to nothing: the daemon wants a file."""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_STRIDES = (8, 16, 32)


def write_detector(path: Path, input_wh: Tuple[int, int], class_count: int) -> None:
    """Writes an ONNX file with YOLOv8's input, strides and raw head, and random weights."""
    width, height = input_wh
    rows = 4 + class_count
    anchors = sum((width // stride) * (height // stride) for stride in _STRIDES)
    nodes: List[onnx.NodeProto] = []
    weights = [numpy_helper.from_array(np.array([0, rows, -1], np.int64), "flat")]
    for stride in _STRIDES:
        kernel = np.full((rows, 3, stride, stride), 1e-3, np.float32)
        weights.append(numpy_helper.from_array(kernel, f"kernel{stride}"))
        convolved, flattened = f"convolved{stride}", f"flattened{stride}"
        nodes += [
            helper.make_node(
                "Conv", ["images", f"kernel{stride}"], [convolved], strides=[stride, stride]
            ),
            helper.make_node("Reshape", [convolved, "flat"], [flattened]),
        ]
    branches = [f"flattened{stride}" for stride in _STRIDES]
    nodes.append(helper.make_node("Concat", branches, ["cells"], axis=2))
    # Boxes are decoded by arithmetic, and a head without any is refused.
    weights.append(numpy_helper.from_array(np.ones((1, rows, 1), np.float32), "scales"))
    nodes.append(helper.make_node("Mul", ["cells", "scales"], ["output0"]))
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, height, width])
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", rows, anchors])
    graph = helper.make_graph(nodes, "detector", [images], [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
