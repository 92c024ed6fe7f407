from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any, List, Optional

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge.building.graph import deploy
from edge.config.schema import EngineConfig, ModelConfig
from edge.errors import ConfigError, EngineError, EngineOutOfMemory, ModelError
from edge.inference.engine import Engine
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.records import DeployedGraph
from tests.building.tiny_detectors import TinyDetector, random_frames, reference_detections, save

ONE_THREAD = EngineConfig(threads=1)
TINY = TinyDetector()


def graph_of(model: onnx.ModelProto, folder: Path) -> DeployedGraph:
    path = save(model, folder, "tiny.onnx")
    return deploy(path, ModelConfig(path=path, max_candidates=50))


def engine_of(model: onnx.ModelProto, folder: Path) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(graph_of(model, folder), ONE_THREAD)


def test_is_an_engine(tmp_path: Path) -> None:
    engine: Engine = engine_of(TINY.model(), tmp_path)
    import onnxruntime

    assert engine.input_wh == (64, 48)
    info = engine.info
    assert (info.backend, info.device, info.precision) == ("onnxruntime", "cpu", "fp32")
    assert info.version == onnxruntime.__version__
    assert info.max_batch == 8


@pytest.mark.parametrize("threads", [None, 1, 2])
@pytest.mark.parametrize("count", [1, 5, 8])
def test_detects_what_the_network_does(tmp_path: Path, count: int, threads: Optional[int]) -> None:
    graph = graph_of(TINY.model(), tmp_path)
    engine = OnnxRuntimeEngine(graph, EngineConfig(threads=threads))
    frames = random_frames(count, (64, 48))
    found = engine.infer(frames)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference_detections(TINY.model(), frames, 50), atol=1e-3)


@pytest.mark.parametrize("batch", [1, 3, 8, 11])
def test_fixed_batch_takes_any_count_up_to_it(tmp_path: Path, batch: int) -> None:
    engine = engine_of(TinyDetector(batch=batch).model(), tmp_path)
    assert engine.info.max_batch == batch
    frames = random_frames(batch, (64, 48))
    expected = reference_detections(TINY.model(), frames, 50)
    for count in range(1, batch + 1):
        found = engine.infer(frames[:count])
        np.testing.assert_allclose(found, expected[:count], atol=1e-3)


def test_result_belongs_to_the_caller(tmp_path: Path) -> None:
    engine = engine_of(TINY.model(), tmp_path)
    first = engine.infer(random_frames(2, (64, 48), seed=1))
    before = first.copy()
    engine.infer(random_frames(2, (64, 48), seed=2))
    np.testing.assert_array_equal(first, before)
    assert first.flags.writeable


def test_takes_a_view_of_rows(tmp_path: Path) -> None:
    engine = engine_of(TINY.model(), tmp_path)
    rows = random_frames(6, (64, 48))
    np.testing.assert_array_equal(engine.infer(rows[2:4]), engine.infer(rows[2:4].copy()))


SHAPES = {
    "none": (0, 48, 64, 3),
    "too many": (9, 48, 64, 3),
    "turned": (1, 64, 48, 3),
    "planes first": (1, 3, 48, 64),
    "one frame": (48, 64, 3),
}


@pytest.mark.parametrize("case", SHAPES)
def test_refuses_other_shapes(tmp_path: Path, case: str) -> None:
    engine = engine_of(TINY.model(), tmp_path)
    with pytest.raises(ValueError, match=r"expected frames \(1..8, 48, 64, 3\), got"):
        engine.infer(np.zeros(SHAPES[case], np.uint8))


def test_failure_at_run_time(tmp_path: Path, capfd: Any) -> None:
    """A network that cannot stand white frames: black ones warmed it up."""
    engine = engine_of(_fails_above_black(), tmp_path)
    black = np.zeros((1, 48, 64, 3), np.uint8)
    engine.infer(black)
    with pytest.raises(EngineError, match=r"ONNX Runtime failed: .*Gather") as caught:
        engine.infer(np.full_like(black, 255))
    assert not isinstance(caught.value, ConfigError)
    assert "\n" not in str(caught.value)
    engine.infer(black)
    assert capfd.readouterr() == ("", "")


def _fails_above_black() -> onnx.ModelProto:
    """Gathers at an index that is the brightest pixel times 999: in range only for black."""
    model = TINY.model()
    graph = model.graph
    graph.node[-1].output[0] = "head"
    graph.initializer.append(numpy_helper.from_array(np.array(999, np.float32), "factor"))
    graph.node.extend(
        [
            helper.make_node("ReduceMax", ["images"], ["brightest"], keepdims=0),
            helper.make_node("Mul", ["brightest", "factor"], ["far"]),
            helper.make_node("Cast", ["far"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["head", "index"], ["picked"], axis=0),
            helper.make_node("Add", ["head", "picked"], ["output0"]),
        ]
    )
    return model


@pytest.mark.parametrize(
    ("fits", "configured", "max_batch", "warnings"),
    [
        pytest.param(8, None, 8, 0, id="all that the engine takes"),
        pytest.param(7, None, 4, 1, id="half of it"),
        pytest.param(1, None, 1, 3, id="single frames only"),
        pytest.param(7, 4, 8, 0, id="more than is configured is not tried"),
    ],
)
def test_warms_up_with_as_many_frames_as_memory_holds(
    fits: int,
    configured: Optional[int],
    max_batch: int,
    warnings: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    graph = graph_of(_runs_out_of_memory_above(fits), tmp_path)
    engine = OnnxRuntimeEngine(graph, EngineConfig(threads=1, max_batch=configured))
    assert engine.info.max_batch == max_batch
    assert len(engine.infer(random_frames(1, (64, 48)))) == 1
    assert caplog.text.count("ONNX Runtime ran out of memory") == warnings


def test_out_of_memory_is_told_from_other_failures(tmp_path: Path) -> None:
    graph = graph_of(_runs_out_of_memory_above(2), tmp_path)
    engine = OnnxRuntimeEngine(graph, EngineConfig(threads=1, max_batch=2))
    with pytest.raises(EngineOutOfMemory, match="ran out of memory"):
        engine.infer(random_frames(3, (64, 48)))
    assert len(engine.infer(random_frames(2, (64, 48)))) == 2


def test_a_single_frame_that_does_not_fit_is_no_fault_of_the_model(tmp_path: Path) -> None:
    with pytest.raises(EngineOutOfMemory) as caught:
        engine_of(_runs_out_of_memory_above(0), tmp_path)
    assert caught.value.exit_code == 70


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(MemoryError(), "ran out of memory: MemoryError", id="Python's own, silent"),
        pytest.param(MemoryError("Unable to allocate 9 GiB"), "ran out of memory", id="numpy's"),
        pytest.param(RuntimeError("std::bad_alloc"), "ran out of memory", id="C++'s"),
    ],
)
def test_out_of_memory_has_many_names(error: Exception, expected: str, tmp_path: Path) -> None:
    engine = engine_of(TINY.model(), tmp_path)

    class Full:
        def run(self, *_: object) -> None:
            raise error

    engine._session = Full()
    with pytest.raises(EngineOutOfMemory, match=expected):
        engine.infer(random_frames(1, (64, 48)))


def _runs_out_of_memory_above(fits: int) -> onnx.ModelProto:
    """Asks for a petabyte, more than any address space has, above so many frames."""
    model = TINY.model()
    graph = model.graph
    graph.node[-1].output[0] = "head"
    for name, value in (("first", [0]), ("last", [1]), ("fits", [fits]), ("petabyte", [2**50])):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    graph.node.extend(
        [
            helper.make_node("Shape", ["images"], ["shape"]),
            helper.make_node("Slice", ["shape", "first", "last"], ["count"]),
            helper.make_node("Greater", ["count", "fits"], ["is_too_many"]),
            helper.make_node("Cast", ["is_too_many"], ["zero_or_one"], to=TensorProto.INT64),
            helper.make_node("Mul", ["zero_or_one", "petabyte"], ["excess"]),
            helper.make_node("Add", ["excess", "last"], ["length"]),
            helper.make_node("ConstantOfShape", ["length"], ["zeros"]),
            helper.make_node("Slice", ["zeros", "first", "last"], ["zero"]),
            helper.make_node("Add", ["head", "zero"], ["output0"]),
        ]
    )
    return model


def test_unsupported_operator_is_named(tmp_path: Path, capfd: Any) -> None:
    model = TINY.model()
    model.graph.node[0].op_type = "DeformConvPlugin"
    model.graph.node[0].domain = "vendor"
    del model.graph.node[0].attribute[:]
    model.opset_import.append(helper.make_opsetid("vendor", 1))
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = TINY.anchor_count
    graph = graph_of(model, tmp_path)
    with pytest.raises(ModelError, match=r"cannot load 'tiny': .*DeformConvPlugin") as caught:
        OnnxRuntimeEngine(graph, ONE_THREAD)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_network_that_only_runs_single_frames(tmp_path: Path) -> None:
    """Its input says any batch, a Reshape inside says 1: found before the first camera opens."""
    model = TinyDetector(strides=(4,)).model()
    flat = next(weight for weight in model.graph.initializer if weight.name == "flat")
    flat.CopyFrom(numpy_helper.from_array(np.array([1, 7, 192], np.int64), "flat"))
    with pytest.raises(ModelError, match=r"cannot run 8 frame\(s\) of 64x48 through 'tiny'"):
        engine_of(model, tmp_path)


def test_damaged_graph(tmp_path: Path) -> None:
    graph = graph_of(TINY.model(), tmp_path)
    damaged = dataclasses.replace(graph, onnx_bytes=graph.onnx_bytes[:100])
    with pytest.raises(ModelError, match="cannot load 'tiny'"):
        OnnxRuntimeEngine(damaged, ONE_THREAD)


def test_closed_engine(tmp_path: Path) -> None:
    engine = engine_of(TINY.model(), tmp_path)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(random_frames(1, (64, 48)))


def test_missing_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(TINY.model(), tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'edge-vision\[laptop\]'"):
        OnnxRuntimeEngine(graph, ONE_THREAD)


def test_importing_the_module_does_not_import_onnxruntime() -> None:
    import subprocess

    code = "import sys, edge.inference.onnxruntime; print('onnxruntime' in sys.modules)"
    command: List[str] = [sys.executable, "-c", code]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "False\n"
