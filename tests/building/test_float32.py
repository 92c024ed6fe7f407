"""From half to single precision."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.building.float32 import widen
from tests.building.tiny_detectors import run_onnx
from tests.building.tiny_networks import network, pictures, yolov8


def test_no_half_precision_is_left_and_results_agree() -> None:
    half = network(yolov8, np.float16)
    single = onnx.ModelProto()
    single.CopyFrom(half)
    widen(single)
    onnx.checker.check_model(single, full_check=True)
    kinds = {tensor.data_type for tensor in single.graph.initializer}
    assert TensorProto.FLOAT16 not in kinds
    frames = {"frames": pictures(2)}
    ours = run_onnx(single.SerializeToString(), frames)
    theirs = run_onnx(half.SerializeToString(), frames)
    np.testing.assert_allclose(ours[:, 4:], theirs[:, 4:], atol=5e-3)


def test_inputs_constants_and_casts_are_widened_and_integers_are_not() -> None:
    value = numpy_helper.from_array(np.array([0.5], np.float16), "value")
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["half"], value=value),
            helper.make_node("Cast", ["x"], ["cast"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Add", ["cast", "half"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1]),
            helper.make_tensor_value_info("whole", TensorProto.INT64, [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    widen(model)
    onnx.checker.check_model(model, full_check=True)
    kinds = [v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)]
    assert kinds == [TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64]
    assert run_onnx(model.SerializeToString(), {"x": np.array([1.0], np.float32)}) == 1.5
