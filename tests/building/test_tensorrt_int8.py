from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, Iterator, Tuple

import numpy as np
import onnx
import pytest

from edge.building.calibration import to_network
from edge.building.core import core_of
from edge.building.tensorrt_builder import BuildCaches
from edge.building.tensorrt_calibrator import scaled_in
from edge.building.toolchain import CalibrationFeed
from edge.config.schema import (
    CalibrationMethod,
    Precision,
)
from edge.errors import BuildError, CaptureError, CudaError
from edge.records import DeployedGraph
from tests.building.tensorrt_rig import (
    HEIGHT,
    WIDTH,
    deployed,
    feed_of,
    frames_of,
    rig_of,
)
from tests.building.tensorrt_world import TIMINGS
from tests.inference.tensorrt_api.double import (
    CALIBRATED,
    STRONGLY_TYPED,
)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> DeployedGraph:
    return deployed(tmp_path_factory.mktemp("models"))


# --- INT8 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", CALIBRATED)
def test_the_core_is_calibrated_and_the_whole_built_from_its_scales(
    graph: DeployedGraph, version: str
) -> None:
    with rig_of(graph, version) as rig:
        assert rig.builder.build_int8(feed_of(count=3, batch=2)) == b"plan 2"
        calibration, final = rig.world.builds
        core_model, whole = rig.world.models
    assert calibration.calibration_shapes == (graph.network_input, *[(2, 3, HEIGHT, WIDTH)] * 3)
    assert calibration.shapes[0] == graph.network_input
    assert [shape[0] for shape in calibration.shapes[1:]] == [1, 4, 8]
    assert calibration.batch_size == 2
    assert final.shapes[0] == "frames"
    assert final.timing_cache == TIMINGS
    assert calibration.flags == final.flags == {"FP16", "INT8"}
    assert tuple(output.name for output in core_model.graph.output) == core_of(graph).boundary
    assert (
        whole.SerializeToString()
        == onnx.load_model_from_string(graph.onnx_bytes).SerializeToString()
    )
    scaled = scaled_in(rig.builder.caches.calibration)
    assert set(core_of(graph).boundary) <= scaled
    assert not scaled & core_of(graph).tail_tensors


def test_the_calibrator_gets_what_the_network_would_see(graph: DeployedGraph) -> None:
    with rig_of(graph) as rig:
        rig.builder.build_int8(feed_of(count=3, batch=2))
        given = rig.world.calibrated
    wanted = [to_network(frames, graph.preprocessing) for frames in frames_of(3, 2)]
    np.testing.assert_array_equal(given, wanted)


METHODS = {
    CalibrationMethod.ENTROPY: "IInt8EntropyCalibrator2",
    CalibrationMethod.MINMAX: "IInt8MinMaxCalibrator",
}


@pytest.mark.parametrize(("method", "base"), METHODS.items(), ids=[m.value for m in METHODS])
def test_the_method_chooses_the_calibrator(
    graph: DeployedGraph, method: CalibrationMethod, base: str
) -> None:
    with rig_of(graph) as rig:
        rig.builder.build_int8(feed_of(method=method))
        calibrators = [build.config.values["int8_calibrator"] for build in rig.world.builds]
        assert all(isinstance(c, getattr(rig.world.trt, base)) for c in calibrators)


def test_scales_that_are_there_need_no_images(graph: DeployedGraph) -> None:
    def no_images() -> Iterator[Any]:
        raise AssertionError("images were asked for")

    with rig_of(graph) as rig:
        rig.builder.build_int8(feed_of())
        caches = rig.builder.caches
    with rig_of(graph, caches=caches) as rig:
        feed = CalibrationFeed(no_images, 3, CalibrationMethod.ENTROPY)
        assert rig.builder.build_int8(feed, head_in_fp16=True) == b"plan 1"


@pytest.mark.parametrize("version", CALIBRATED)
def test_the_head_stays_in_half(graph: DeployedGraph, version: str) -> None:
    core = core_of(graph)
    model = onnx.load_model_from_string(graph.onnx_bytes)
    with rig_of(graph, version) as rig:
        rig.builder.build_int8(feed_of(), head_in_fp16=True)
        calibration, final = rig.world.builds
    assert "PREFER_PRECISION_CONSTRAINTS" in final.flags
    assert "PREFER_PRECISION_CONSTRAINTS" not in calibration.flags
    assert set(core.boundary) <= final.halves
    assert not final.halves & core.tail_tensors
    assert len(final.halves) < len(model.graph.node)


def test_a_scale_behind_the_boundary_fails_the_build(graph: DeployedGraph) -> None:
    tail = sorted(core_of(graph).tail_tensors)[0]
    with rig_of(graph) as rig:
        rig.world.scale_names = [graph.network_input, tail]
        with pytest.raises(BuildError, match="rounded to 8 bits"):
            rig.builder.build_int8(feed_of())


def broken_feed(error: BaseException, after: int = 1) -> CalibrationFeed:
    def batches() -> Iterator[Any]:
        yield from frames_of(after, 2)
        raise error

    return CalibrationFeed(batches, 3, CalibrationMethod.ENTROPY)


SWALLOWED: Dict[str, Tuple[BaseException, Any, str]] = {
    "ours": (CaptureError("camera is gone"), CaptureError, "camera is gone"),
    "foreign": (OSError("disk is gone"), BuildError, "calibration failed: .*disk is gone"),
}


@pytest.mark.parametrize(("error", "kind", "text"), SWALLOWED.values(), ids=SWALLOWED)
def test_what_tensorrt_swallows_is_raised(
    graph: DeployedGraph, error: BaseException, kind: Any, text: str
) -> None:
    with rig_of(graph) as rig:
        with pytest.raises(kind, match=text):
            rig.builder.build_int8(broken_feed(error, after=2))
        assert rig.builder.caches.calibration == b""


def test_the_cause_goes_before_tensorrts_complaint(graph: DeployedGraph) -> None:
    with rig_of(graph) as rig:
        host = rig.world.host
        host.fail["cuStreamSynchronize"] = "CUDA_ERROR_UNKNOWN"
        with pytest.raises(CudaError, match="cuStreamSynchronize failed"):
            rig.builder.build_int8(feed_of())


def test_tensorrts_own_complaint_is_told_where_nothing_was_swallowed(graph: DeployedGraph) -> None:
    with rig_of(graph) as rig:
        rig.world.max_batches = 0
        with pytest.raises(BuildError, match="no scaling factors detected"):
            rig.builder.build_int8(feed_of())


def ragged() -> Iterator[Any]:
    yield from frames_of(1, 2)
    yield from frames_of(1, 1)


BAD_FEEDS: Dict[str, Tuple[Callable[[], Iterator[Any]], int, str]] = {
    "no batch": (lambda: iter(()), 0, "not one batch"),
    "a short last batch": (ragged, 2, r"calibration batch is \(1, 3, 48, 64\)"),
    "fewer than promised": (lambda: iter(frames_of(2, 2)), 3, "took 2 of 3"),
}


@pytest.mark.parametrize(("batches", "count", "text"), BAD_FEEDS.values(), ids=BAD_FEEDS)
def test_a_calibration_on_less_than_all_fails(
    graph: DeployedGraph, batches: Callable[[], Iterator[Any]], count: int, text: str
) -> None:
    with rig_of(graph) as rig, pytest.raises(BuildError, match=text):
        rig.builder.build_int8(CalibrationFeed(batches, count, CalibrationMethod.ENTROPY))


def test_batches_that_tensorrt_did_not_take_are_missed(graph: DeployedGraph) -> None:
    with rig_of(graph) as rig:
        rig.world.max_batches = 2
        with pytest.raises(BuildError, match="took 2 of 3 calibration batches"):
            rig.builder.build_int8(feed_of(count=3))


def test_scales_that_tensorrt_does_not_take_fail_the_build(graph: DeployedGraph) -> None:
    with rig_of(graph, caches=BuildCaches(calibration=b"TRT-1\nimages: 3c\n")) as rig:
        rig.world.takes_cache = False
        with pytest.raises(BuildError, match="does not take the core's scales"):
            rig.builder.build_int8(feed_of())


def test_without_calibrators_the_graph_says_what_is_int8(graph: DeployedGraph) -> None:
    with rig_of(graph, STRONGLY_TYPED[0]) as rig:
        assert rig.builder.wants_quantized_graph
        with pytest.raises(BuildError, match="no calibrators"):
            rig.builder.build_int8(feed_of())
        with pytest.raises(BuildError, match="INT8 needs scales"):
            rig.builder.build(Precision.INT8)
    quantized = dataclasses.replace(graph, precision=Precision.INT8)
    with rig_of(quantized, STRONGLY_TYPED[0]) as rig:
        assert rig.builder.build(Precision.INT8) == b"plan 1"
        assert rig.world.builds[0].flags == set()
    with rig_of(quantized, "8.5.2.2") as rig:
        assert not rig.builder.wants_quantized_graph
        rig.builder.build(Precision.INT8)
        assert rig.world.builds[0].flags == {"FP16", "INT8"}
