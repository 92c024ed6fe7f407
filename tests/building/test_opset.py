"""Networks of newer opsets must compute the same after they were brought down to 17."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge.building.opset import lower, opset_of
from edge.errors import ModelError
from tests.building.tiny_detectors import make_model, run_onnx

INPUT = np.random.default_rng(3).normal(size=(2, 4, 6, 6)).astype(np.float32)
CONSTANTS: Dict[str, Any] = {
    "axes": np.array([2, 3], np.int64),
    "scales": np.array([1, 1, 2, 2], np.float32),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    "flat": np.array([0, -1], np.int64),
    "zero": np.array([0], np.int64),
    "kernel": np.random.default_rng(4).normal(size=(4, 4, 3, 3)).astype(np.float32),
    "size": np.array([9, 9], np.int64),
    "grid": np.zeros((2, 3, 3, 2), np.float32),
    "sizes": np.array([2, 2], np.int64),
    "places": np.array([[1], [0]], np.int64),
    "updates": np.ones((2, 4, 6, 6), np.float32),
}

Node = Tuple[str, List[str], Dict[str, Any]]
SAME: Dict[str, Node] = {
    "Split": ("Split", ["x"], {"axis": 1, "num_outputs": 1}),
    "Split by sizes": ("Split", ["x", "four"], {"axis": 1}),
    "Resize": ("Resize", ["x", "", "scales"], {"mode": "nearest", "antialias": 0}),
    "Resize linear": ("Resize", ["x", "", "scales"], {"mode": "linear"}),
    "ReduceMax over axes": ("ReduceMax", ["x", "axes"], {"keepdims": 1}),
    "ReduceMean of all": ("ReduceMean", ["x"], {"keepdims": 0}),
    "ReduceMin, both": ("ReduceMin", ["x", "axes"], {"noop_with_empty_axes": 1}),
    "ReduceSum": ("ReduceSum", ["x", "axes"], {}),
    "Pad": ("Pad", ["x", "pads"], {"mode": "reflect"}),
    "AveragePool": ("AveragePool", ["x"], {"kernel_shape": [2, 2]}),
    "MaxPool": ("MaxPool", ["x"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "Conv": ("Conv", ["x", "kernel"], {"pads": [1, 1, 1, 1]}),
    "Cast": ("Cast", ["x"], {"to": TensorProto.FLOAT16}),
    "Reshape": ("Reshape", ["x", "flat"], {}),
    "Transpose": ("Transpose", ["x"], {"perm": [0, 2, 3, 1]}),
    "Unsqueeze": ("Unsqueeze", ["x", "zero"], {}),
    "Sigmoid": ("Sigmoid", ["x"], {}),
    "ScatterND": ("ScatterND", ["x", "places", "updates"], {"reduction": "add"}),
    "Softmax": ("Softmax", ["x"], {"axis": 1}),
}
SAME_FROM_19: Dict[str, Node] = {
    "AveragePool, dilations": (
        "AveragePool",
        ["x"],
        {"kernel_shape": [2, 2], "dilations": [1, 1]},
    ),
    "Cast, saturate": ("Cast", ["x"], {"to": TensorProto.FLOAT16, "saturate": 1}),
}
OTHER: Dict[str, Tuple[int, Node]] = {
    "antialias": (18, ("Resize", ["x", "", "scales"], {"mode": "linear", "antialias": 1})),
    "resize along axes": (18, ("Resize", ["x", "", "", "size"], {"axes": [2, 3]})),
    "symmetric": (
        19,
        (
            "Resize",
            ["x", "", "scales"],
            {"coordinate_transformation_mode": "half_pixel_symmetric"},
        ),
    ),
    "wrap": (19, ("Pad", ["x", "pads"], {"mode": "wrap"})),
    "pad along axes": (18, ("Pad", ["x", "four_pads", "", "axes"], {})),
    "dilated pool": (19, ("AveragePool", ["x"], {"kernel_shape": [2, 2], "dilations": [2, 2]})),
    "ceiled pool": (19, ("AveragePool", ["x"], {"kernel_shape": [2, 2], "ceil_mode": 1})),
    "computed axes": (18, ("ReduceMax", ["x", "computed"], {})),
    "no operation": (18, ("ReduceMax", ["x"], {"noop_with_empty_axes": 1})),
    "scatter of maxima": (18, ("ScatterND", ["x", "places", "updates"], {"reduction": "max"})),
    "grid": (20, ("GridSample", ["x", "grid"], {"mode": "linear"})),
    "new operator": (20, ("Gelu", ["x"], {})),
}


def model_of(node: Node, opset: int) -> onnx.ModelProto:
    op_type, inputs, attributes = node
    constants = {
        **CONSTANTS,
        "four": np.array([4], np.int64),
        "four_pads": np.array([1, 1, 1, 1], np.int64),
    }
    weights = [numpy_helper.from_array(v, k) for k, v in constants.items() if k in inputs]
    nodes = [helper.make_node(op_type, inputs, ["y"], **attributes)]
    if "computed" in inputs:
        weights.append(numpy_helper.from_array(np.array([3], np.int64), "three"))
        nodes.insert(0, helper.make_node("Abs", ["three"], ["computed"]))
    to_type = attributes.get("to", TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(INPUT.shape))],
        [helper.make_tensor_value_info("y", to_type, None)],
        weights,
    )
    return onnx.shape_inference.infer_shapes(make_model(graph, opset))


@pytest.mark.parametrize("opset", [18, 19, 20, 21])
@pytest.mark.parametrize("case", SAME)
def test_computes_the_same(case: str, opset: int) -> None:
    check_same(model_of(SAME[case], opset))


@pytest.mark.parametrize("spelling", [{"value_ints": [2, 3]}, {"value_int": 2}])
def test_axes_as_plain_numbers(spelling: Dict[str, Any]) -> None:
    model = model_of(("ReduceMax", ["x", "plain"], {"keepdims": 1}), 18)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["plain"], **spelling))
    axes = next(iter(spelling.values()))
    expected = INPUT.max(axis=tuple(np.atleast_1d(axes)), keepdims=True)
    lower(model)
    found = run_onnx(model.SerializeToString(), {"x": INPUT})
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("opset", [19, 20, 21])
@pytest.mark.parametrize("case", SAME_FROM_19)
def test_computes_the_same_without_newer_attributes(case: str, opset: int) -> None:
    check_same(model_of(SAME_FROM_19[case], opset))


def check_same(model: onnx.ModelProto) -> None:
    expected = run_onnx(model.SerializeToString(), {"x": INPUT})
    lower(model)
    onnx.checker.check_model(model, full_check=True)
    assert opset_of(model) == 17
    found = run_onnx(model.SerializeToString(), {"x": INPUT})
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("case", OTHER)
def test_refuses_what_17_has_no_equal_for(case: str) -> None:
    opset, node = OTHER[case]
    model = model_of(node, opset)
    with pytest.raises(ModelError, match=f"uses {node[0]} of ONNX opset {opset}.* opset=17"):
        lower(model)


@pytest.mark.parametrize(("opset", "is_kept"), [(10, False), (11, True), (17, True)])
def test_bounds(opset: int, is_kept: bool) -> None:
    model = model_of(SAME["Sigmoid"], opset)
    before = model.SerializeToString()
    if is_kept:
        lower(model)
        assert model.SerializeToString() == before
    else:
        with pytest.raises(ModelError, match="opset 10, older than 11"):
            lower(model)


def test_refuses_what_nobody_knows_yet() -> None:
    newest = onnx.defs.onnx_opset_version()
    model = model_of(SAME["Sigmoid"], newest)
    lower(model)
    model.opset_import[0].version = newest + 1
    with pytest.raises(ModelError, match=f"opset {newest + 1}, newer than the {newest}"):
        lower(model)


def test_refuses_branches_of_newer_opsets() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "branch",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    model = model_of(SAME["Sigmoid"], 18)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(
        helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch)
    )
    with pytest.raises(ModelError, match="uses If"):
        lower(model)
