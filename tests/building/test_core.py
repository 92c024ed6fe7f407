"""Where the core of each family's network ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper

from edge.building.core import (
    assert_no_scale_behind,
    core_of,
    extract_core,
    find_core,
    inputs_of,
    node_name,
    scaled_tensors,
)
from edge.building.graph import deploy
from edge.config.schema import ModelConfig
from edge.errors import BuildError
from tests.building.tiny_networks import (
    FAMILIES,
    SIZE,
    NetworkBuilder,
    network,
    pictures,
    yolov8,
)

DEMO = Path(__file__).resolve().parents[2] / "edge/demo/assets/parts.onnx"

BOUNDARIES: Dict[str, Set[str]] = {
    "yolov8": {"box.1", "class.1"},
    "yolov5": {"detect"},
    "yolox": {"reg", "obj", "cls"},
    "end to end": {"detect"},
    "attention": {"detect"},
    "dense": {"up", "linear"},
    "corners": {"detect"},
}

TAILS: Dict[str, Tuple[str, ...]] = {
    "yolov8": ("bins", "turned", "spread", "dfl", "scores", "output", "detections"),
    "yolov5": ("rows", "squashed", "moved", "output"),
    "yolox": ("objectness", "scores", "output"),
    "end to end": ("scores", "top", "indices", "output"),
    "attention": ("detections",),
    "dense": ("flat", "l", "output"),
    "corners": ("turned", "output"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_core_ends_at_the_last_layers_with_weights(family: str) -> None:
    core = find_core(network(FAMILIES[family]), "images")
    assert set(core.boundary) == BOUNDARIES[family]
    assert core.last_nodes == {f"/{name}" for name in BOUNDARIES[family]}
    assert core.tail_tensors >= set(TAILS[family])
    assert core.tail_tensors.isdisjoint(core.boundary)
    assert core.tail_tensors.isdisjoint({"images", "edge/pixels", "joined", "merged/silu"})


def test_attention_inside_the_network_is_core() -> None:
    core = find_core(network(FAMILIES["attention"]), "images")
    assert core.tail_nodes == {"/detections"}
    assert core.weighted_nodes >= {"/query", "/projected", "/detect"}
    assert core.weighted_nodes.isdisjoint({"/alike", "/mixed"})


def test_the_head_begins_behind_the_last_merge_of_the_neck() -> None:
    core = find_core(network(yolov8), "images")
    layers = core.head_nodes & core.weighted_nodes
    assert layers == {"/merged", "/box.0", "/box.1", "/class.0", "/class.1"}
    assert "/joined" not in core.head_nodes


def test_weights_that_are_copies_of_others_are_found() -> None:
    net = NetworkBuilder()
    output = yolov8(net)
    net.nodes.insert(0, helper.make_node("Identity", ["dfl.weight"], ["copied"]))
    dfl = next(node for node in net.nodes if node.name == "/dfl")
    dfl.input[1] = "copied"
    assert set(find_core(net.model(output), "images").boundary) == BOUNDARIES["yolov8"]


def test_nodes_without_names_go_by_their_output() -> None:
    model = network(yolov8)
    for node in model.graph.node:
        node.name = ""
    core = find_core(model, "images")
    assert core.last_nodes == {"box.1", "class.1"}
    assert "dfl" in core.tail_nodes


def test_a_network_without_weights_has_no_core() -> None:
    net = NetworkBuilder()
    with pytest.raises(BuildError, match="nothing behind 'images' has weights"):
        find_core(net.model(net.op("Sigmoid", ["images"], "out")), "images")


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_extracted_core_computes_the_boundary(family: str, dtype: type) -> None:
    model = network(FAMILIES[family], dtype)
    core = find_core(model, "images")
    extracted = extract_core(model, core, (SIZE, SIZE))
    onnx.checker.check_model(extracted)
    assert [value.name for value in extracted.graph.input] == ["images"]
    assert tuple(value.name for value in extracted.graph.output) == core.boundary
    kept = {node_name(node) for node in extracted.graph.node}
    assert kept.isdisjoint(core.tail_nodes)
    assert kept <= {node_name(node) for node in model.graph.node}
    frames = pictures(2)
    images = frames.transpose(0, 3, 1, 2).astype(np.float32) / 255
    alone = _run(extracted, core.boundary, {"images": images})
    inside = _run(_exposing(model, core.boundary), core.boundary, {"frames": frames})
    tolerance = 1e-4 if dtype is np.float32 else 2e-2
    for ours, theirs in zip(alone, inside):
        np.testing.assert_allclose(ours, theirs.astype(np.float32), atol=tolerance)


def test_the_extracted_core_keeps_a_fixed_batch() -> None:
    model = network(yolov8, batch=2)
    extracted = extract_core(model, find_core(model, "images"), (SIZE, SIZE))
    dims = extracted.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [2, 3, SIZE, SIZE]


@pytest.mark.parametrize(
    ("scaled", "named"),
    [
        (["spread"], "spread would"),
        (["detections", "images"], "detections would"),
        (["edges", "dfl", "bins", "scores"], "bins, dfl, edges and 1 more would"),
    ],
)
def test_a_scale_behind_the_boundary_is_refused(scaled: Tuple[str, ...], named: str) -> None:
    core = find_core(network(yolov8), "images")
    with pytest.raises(BuildError, match=named):
        assert_no_scale_behind(core, scaled)


def test_scales_up_to_the_boundary_are_allowed() -> None:
    core = find_core(network(yolov8), "images")
    assert_no_scale_behind(core, ["images", "stem", "joined", *core.boundary, "(Unnamed Layer* 3)"])


def test_scaled_tensors_are_those_that_are_quantized() -> None:
    net = NetworkBuilder()
    net.constant("scale", np.array(0.1, np.float32))
    net.op("QuantizeLinear", ["images", "scale"], "rounded")
    model = net.model(net.conv(net.op("DequantizeLinear", ["rounded", "scale"], "x"), "c", (3, 4)))
    assert scaled_tensors(model) == ("images",)


def test_inputs_of_looks_into_subgraphs() -> None:
    inner = helper.make_graph([helper.make_node("Abs", ["outer"], ["y"])], "then", [], [])
    node = helper.make_node("If", ["condition"], ["y"], then_branch=inner, else_branch=inner)
    assert set(inputs_of(node)) == {"condition", "outer"}


def test_the_demo_model_ends_at_its_six_convolutions() -> None:
    core = core_of(deploy(DEMO, ModelConfig(path=DEMO)))
    assert set(core.boundary) == {
        f"/heads.{scale}/{kind}/Conv_output_0"
        for scale in range(3)
        for kind in ("boxes", "classes")
    }
    assert core.tail_nodes >= {"/Softmax", "/ReduceSum", "/Sigmoid"}
    assert core.head_nodes >= {"/up8/conv/Conv", "/heads.0/stem/conv/Conv"}


def _exposing(model: onnx.ModelProto, tensors: Tuple[str, ...]) -> onnx.ModelProto:
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return onnx.shape_inference.infer_shapes(exposed)


def _run(
    model: onnx.ModelProto, names: Tuple[str, ...], inputs: Dict[str, NDArray[Any]]
) -> List[NDArray[Any]]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(list(names), inputs))
