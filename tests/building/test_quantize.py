"""The quantized graph: what is rounded, what never is, and how close it stays."""

from __future__ import annotations

import sys
from typing import Any, Dict, Iterator, List, Set

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edge.building.core import find_core, scaled_tensors
from edge.building.quantization_plan import QuantizationScheme
from edge.building.quantize import quantize
from edge.building.toolchain import CalibrationFeed
from edge.config.schema import CalibrationMethod, Precision
from edge.errors import BuildError, ConfigError
from edge.geometry import Image
from edge.records import BuildPhase, BuildProgress, DeployedGraph
from tests.building.tiny_detectors import run_onnx
from tests.building.tiny_networks import (
    FAMILIES,
    NetworkBuilder,
    deployed,
    feed,
    network,
    pictures,
    yolov5,
    yolov8,
)

ASYMMETRIC, SYMMETRIC = QuantizationScheme.ASYMMETRIC, QuantizationScheme.SYMMETRIC


def ignore(progress: BuildProgress) -> None:
    """Nobody looks."""


def parsed(graph: DeployedGraph) -> onnx.ModelProto:
    return onnx.load_model_from_string(graph.onnx_bytes)


def quantized(
    model: onnx.ModelProto,
    scheme: QuantizationScheme = ASYMMETRIC,
    head_in_float: bool = False,
    method: CalibrationMethod = CalibrationMethod.MINMAX,
) -> DeployedGraph:
    return quantize(deployed(model), feed(method=method), head_in_float, ignore, scheme)


def values(model: onnx.ModelProto) -> Dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def reads_rounded(model: onnx.ModelProto) -> Set[str]:
    """Nodes with weights whose weights come out of a DequantizeLinear."""
    rounded = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    layers = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
    nodes = (node for node in model.graph.node if node.op_type in layers)
    return {node.name for node in nodes if node.input[1] in rounded}


@pytest.mark.parametrize("scheme", list(QuantizationScheme))
@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_core_is_rounded_and_results_stay_close(
    family: str, scheme: QuantizationScheme
) -> None:
    model = network(FAMILIES[family])
    graph = quantized(model, scheme)
    made = parsed(graph)
    onnx.checker.check_model(made, full_check=True)
    core = find_core(model, "images")
    scaled = set(scaled_tensors(made))
    assert scaled
    assert scaled.isdisjoint(core.tail_tensors)
    assert scaled.isdisjoint(core.boundary)
    assert scaled.isdisjoint({"edge/pixels", "edge/planes", "edge/scaled", "frames"})
    assert graph.precision is Precision.INT8
    if family == "end to end":
        return  # which rows are best may differ
    frames = pictures(4, seed=9)
    exact = run_onnx(model.SerializeToString(), {"frames": frames})
    found = run_onnx(graph.onnx_bytes, {"frames": frames})
    assert np.abs(found - exact).mean() <= 0.03 * np.abs(exact).max()


def test_scores_of_a_yolov8_head_survive() -> None:
    """One scale over pixels and scores would leave none of them."""
    model = network(yolov8)
    frames = pictures(4, seed=9)
    exact = run_onnx(model.SerializeToString(), {"frames": frames})[:, 4:]
    found = run_onnx(quantized(model).onnx_bytes, {"frames": frames})[:, 4:]
    assert np.min(exact) > 0.01
    np.testing.assert_allclose(found, exact, atol=0.08)


@pytest.mark.parametrize("head_in_float", [False, True])
@pytest.mark.parametrize("scheme", list(QuantizationScheme))
def test_the_last_layers_stay_in_float_and_more_of_the_head_on_demand(
    scheme: QuantizationScheme, head_in_float: bool
) -> None:
    layers = reads_rounded(parsed(quantized(network(yolov8), scheme, head_in_float)))
    head = {"/merged", "/box.0", "/class.0"}
    neck = {"/stem", "/fine", "/coarse"}
    assert layers == (neck if head_in_float else neck | head)


def test_for_a_cpu_everything_in_between_is_rounded_too() -> None:
    made = parsed(quantized(network(yolov8)))
    scaled = set(scaled_tensors(made))
    assert scaled >= {
        "images",
        "stem",
        "stem/sigmoid",
        "stem/silu",
        "pooled",
        "upsampled",
        "joined",
    }


def test_for_a_cpu_weights_leave_room_for_sums_of_16_bits() -> None:
    """A CPU without VNNI adds two products in 16 bits; 255 * 64 * 2 is the last that fits."""
    for name, steps in values(parsed(quantized(network(yolov8)))).items():
        if name.endswith("/weights"):
            assert steps.dtype == np.int8
            assert 50 <= np.abs(steps.astype(int)).max() <= 64


def test_tensors_that_only_move_share_a_scale() -> None:
    made = parsed(quantized(network(yolov8)))
    held = values(made)
    for moved, source in (("pooled", "fine/silu"), ("upsampled", "coarse/silu")):
        assert held[f"edge/int8/{moved}/scale"] == held[f"edge/int8/{source}/scale"]
        assert held[f"edge/int8/{moved}/zero_point"] == held[f"edge/int8/{source}/zero_point"]


def test_pixels_and_sigmoids_use_their_whole_range() -> None:
    held = values(parsed(quantized(network(yolov8), method=CalibrationMethod.ENTROPY)))
    assert held["edge/int8/images/scale"] == pytest.approx(1 / 255, rel=0.01)
    assert held["edge/int8/stem/sigmoid/scale"] == pytest.approx(1 / 255)


def test_for_tensorrt_there_are_no_zero_points_and_no_integer_biases() -> None:
    made = parsed(quantized(network(yolov8), SYMMETRIC))
    points = [v for name, v in values(made).items() if name.endswith("/zero_point")]
    assert points
    assert all(p.dtype == np.int8 and not p.any() for p in points)
    kinds = {"QuantizeLinear", "DequantizeLinear"}
    pairs = [n for n in made.graph.node if n.op_type in kinds]
    assert all(node.domain == "" for node in pairs)
    quantizes = {n.output[0] for n in pairs if n.op_type == "QuantizeLinear"}
    assert {n.input[0] for n in pairs if n.op_type == "DequantizeLinear"} == quantizes
    assert "stem/sigmoid" not in scaled_tensors(made)
    assert [entry.version for entry in made.opset_import] == [17]


def test_a_transposed_convolution_is_rounded_for_tensorrt_only() -> None:
    net = NetworkBuilder()
    neck = net.block(net.neck(), "merged", (24, 16))
    weights = net.random("up.weight", (16, 8, 2, 2))
    up = net.silu(net.op("ConvTranspose", [neck, weights], "up", strides=[2, 2]))
    model = net.model(net.conv(up, "detect", (8, 7), k=1))
    assert "/up" in reads_rounded(parsed(quantized(model, SYMMETRIC)))
    assert "/up" not in reads_rounded(parsed(quantized(model, ASYMMETRIC)))


def test_what_a_silu_leaves_nothing_of_has_no_place_on_the_scale() -> None:
    net = NetworkBuilder()
    low = net.conv("images", "low", (3, 8), stride=2)
    next(t for t in net.weights if t.name == "low.bias").CopyFrom(
        numpy_helper.from_array(np.full(8, -60, np.float32), "low.bias")
    )
    also_read = net.op("Add", [net.silu(low), net.conv("images", "free", (3, 8), stride=2)], "sum")
    model = net.model(net.conv(net.block(also_read, "next", (8, 8)), "detect", (8, 7), k=1))
    held = values(parsed(quantized(model)))
    scale, zero = held["edge/int8/low/scale"], held["edge/int8/low/zero_point"]
    assert -float(zero) * scale == pytest.approx(-7.0, abs=0.1)


def test_a_relu_takes_the_place_of_the_scale_in_front_of_it() -> None:
    net = NetworkBuilder()
    rectified = net.op("Relu", [net.conv("images", "first", (3, 8), stride=2)], "rectified")
    leaky = net.op("LeakyRelu", [net.conv(rectified, "second", (8, 8))], "leaky")
    model = net.model(net.conv(leaky, "detect", (8, 7), k=1))
    made = parsed(quantized(model))
    assert set(scaled_tensors(made)) == {"images", "rectified", "second", "leaky"}
    assert values(made)["edge/int8/rectified/zero_point"] == 0


def test_layers_that_share_weights_each_get_their_own() -> None:
    net = NetworkBuilder()
    first = net.block("images", "first", (3, 8), stride=2)
    second = net.block(first, "second", (8, 8))
    third = net.block(second, "third", (8, 8))
    net.nodes.insert(0, onnx.helper.make_node("Identity", ["second.bias"], ["same.bias"]))
    layer = next(node for node in net.nodes if node.name == "/third")
    layer.input[1:] = ["second.weight", "same.bias"]
    model = net.model(net.conv(third, "detect", (8, 7), k=1))
    frames = pictures(2)
    graph = quantized(model)
    assert reads_rounded(parsed(graph)) == {"/first", "/second", "/third"}
    exact = run_onnx(model.SerializeToString(), {"frames": frames})
    found = run_onnx(graph.onnx_bytes, {"frames": frames})
    assert np.abs(found - exact).mean() <= 0.03 * np.abs(exact).max()


def test_sizes_computed_from_the_image_are_left_alone() -> None:
    net = NetworkBuilder()
    neck = net.block(net.neck(), "merged", (24, 16))
    size = net.op("Shape", [neck], "size")
    doubled = net.op("Add", [size, size], "doubled")
    picked = net.op("Div", [doubled, net.constant("two", np.array(2))], "picked")
    same = net.op(
        "Concat", [net.op("Slice", [picked, *_bounds(net)], "part"), "rest"], "same", axis=0
    )
    net.constant("rest", np.array([16, 8, 8]))
    model = net.model(net.conv(net.op("Reshape", [neck, same], "reshaped"), "detect", (16, 7), k=1))
    scaled = set(scaled_tensors(parsed(quantized(model))))
    assert scaled.isdisjoint({"size", "doubled", "picked", "part", "same"})
    assert "merged/silu" in scaled


def _bounds(net: NetworkBuilder) -> List[str]:
    return [net.constant("first", np.array([0])), net.constant("second", np.array([1]))]


def test_channels_of_zeros_and_large_biases_are_no_harm() -> None:
    net = NetworkBuilder()
    output = yolov5(net)
    for tensor in net.weights:
        held = numpy_helper.to_array(tensor).copy()
        if tensor.name == "merged.weight":
            held[0] = 0
        elif tensor.name == "merged.bias":
            held[0] = 1e4
        tensor.CopyFrom(numpy_helper.from_array(held, tensor.name))
    found = run_onnx(quantized(net.model(output)).onnx_bytes, {"frames": pictures(2)})
    assert np.isfinite(found).all()


def test_half_precision_is_widened() -> None:
    model = network(yolov8, np.float16)
    found = run_onnx(quantized(model).onnx_bytes, {"frames": pictures(2)})
    exact = run_onnx(network(yolov8).SerializeToString(), {"frames": pictures(2)})
    np.testing.assert_allclose(found[:, 4:], exact[:, 4:], atol=0.08)


def test_the_same_images_give_the_same_graph() -> None:
    assert quantized(network(yolov8)).onnx_bytes == quantized(network(yolov8)).onnx_bytes


def test_progress_goes_up_to_one() -> None:
    told: List[BuildProgress] = []
    quantize(deployed(network(yolov5)), feed(batches=4, size=2), False, told.append)
    assert [progress.done for progress in told] == [0.25, 0.5, 0.75, 1.0]
    assert {progress.phase for progress in told} == {BuildPhase.CALIBRATING}
    assert told[-1].message == "8 of 8 images"


def test_a_network_of_fixed_batch_is_calibrated_in_its_batches() -> None:
    graph = deployed(network(yolov8, batch=2), fixed_batch=2)
    assert quantize(graph, feed(size=4), False, ignore).precision is Precision.INT8
    with pytest.raises(BuildError, match=r"calibration\.batch to a multiple of 2"):
        quantize(graph, feed(size=3), False, ignore)


# --- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(("delivered", "promised"), [(3, 4), (0, 4), (5, 4)])
def test_a_feed_of_another_length_fails_the_build(delivered: int, promised: int) -> None:
    batches = [pictures(2)] * delivered
    short = CalibrationFeed(lambda: iter(batches), promised, CalibrationMethod.MINMAX)
    with pytest.raises(BuildError, match=f"got {delivered} of {promised} batches"):
        quantize(deployed(network(yolov5)), short, False, ignore)


def test_what_the_reading_of_images_raises_goes_up() -> None:
    def batches() -> Iterator[Image]:
        yield pictures(2)
        raise BuildError("calibration_007.jpg has changed")

    broken = CalibrationFeed(batches, 4, CalibrationMethod.ENTROPY)
    with pytest.raises(BuildError, match="calibration_007"):
        quantize(deployed(network(yolov5)), broken, False, ignore)


def spoiled(name: str, value: float) -> onnx.ModelProto:
    net = NetworkBuilder()
    output = yolov5(net)
    tensor = next(tensor for tensor in net.weights if tensor.name == name)
    held = numpy_helper.to_array(tensor).copy()
    held.flat[0] = value
    tensor.CopyFrom(numpy_helper.from_array(held, name))
    return net.model(output)


def test_weights_that_are_no_numbers_are_named() -> None:
    with pytest.raises(BuildError, match=r"'fine\.weight' hold no numbers"):
        quantized(spoiled("fine.weight", np.nan))


def test_tensors_that_are_no_numbers_are_named() -> None:
    with pytest.raises(BuildError, match="tensor 'fine' holds no numbers"):
        quantized(spoiled("fine.bias", np.inf))


def test_a_graph_that_is_all_head_has_nothing_to_quantize() -> None:
    net = NetworkBuilder()
    model = net.model(net.conv(net.block("images", "first", (3, 8)), "detect", (8, 7)))
    with pytest.raises(BuildError, match="'tiny' has no layers left to quantize"):
        quantized(model, head_in_float=True)


def test_a_graph_that_is_quantized_already_is_refused() -> None:
    with pytest.raises(BuildError, match="quantized already"):
        quantize(quantized(network(yolov5)), feed(), False, ignore)


def test_onnxruntime_that_is_missing_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="onnxruntime is not installed"):
        quantized(network(yolov5))


def test_what_onnx_runtime_cannot_run_is_a_build_error() -> None:
    model = network(yolov5)
    layer = next(node for node in model.graph.node if node.name == "/fine")
    layer.input[1] = "stem.weight"  # of other channels
    with pytest.raises(BuildError, match="ONNX Runtime cannot run the calibration"):
        quantized(model)
