"""Where ONNX Runtime computes, and what follows from it."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Optional

import numpy as np
import pytest

from edge.building import onnxruntime_toolchain
from edge.building.onnxruntime_toolchain import OnnxRuntimeToolchain, probe
from edge.building.toolchain import Toolchain, backend_of, wanted_precision
from edge.config.schema import Backend, Device, EngineConfig, Precision
from edge.errors import BuildError, ConfigError, CudaError
from edge.geometry import PAD_GREY
from edge.inference.cuda import Context
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.inference.onnxruntime_cuda import OnnxRuntimeCudaEngine
from edge.records import DeployedGraph, Lane
from tests.building.tensorrt_rig import deployed
from tests.building.tiny_detectors import random_frames
from tests.inference.onnxruntime_cuda_double import REAL, World, cuda_provider

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> DeployedGraph:
    return deployed(tmp_path_factory.mktemp("models"))


@contextmanager
def on_gpu(graph: DeployedGraph, max_batch: int = 4) -> Iterator[OnnxRuntimeToolchain]:
    with cuda_provider():
        made = OnnxRuntimeToolchain(graph, EngineConfig(device=Device.CUDA), max_batch)
        yield made
        made.close()
        made.close()


# --- which device -----------------------------------------------------------------------------


def test_the_cpu_where_the_library_has_nothing_else(graph: DeployedGraph) -> None:
    assert "CUDAExecutionProvider" not in REAL.get_available_providers()
    toolchain: Toolchain = OnnxRuntimeToolchain(graph, EngineConfig())
    assert toolchain.key.device == "cpu"
    assert toolchain.has_fast_int8
    assert toolchain.derived(2, Lane.PRIORITY) is toolchain
    engine = toolchain.load(graph.onnx_bytes, FP32)
    assert isinstance(engine, OnnxRuntimeEngine)
    engine.close()
    toolchain.close()


def test_a_gpu_that_is_asked_for_needs_the_other_package(graph: DeployedGraph) -> None:
    with pytest.raises(ConfigError, match=r"has no CUDA provider; .*onnxruntime-gpu pycuda"):
        OnnxRuntimeToolchain(graph, EngineConfig(device=Device.CUDA))


@pytest.mark.parametrize("device", [None, Device.CUDA], ids=["by itself", "asked for"])
def test_the_gpu_where_it_works(graph: DeployedGraph, device: Optional[Device]) -> None:
    with cuda_provider() as (world, _):
        toolchain = OnnxRuntimeToolchain(graph, EngineConfig(device=device))
        assert toolchain.key.device == "Xavier"
        assert not toolchain.has_fast_int8
        assert world.sessions == 0  # the probe is gone
        toolchain.close()


def test_the_cpu_that_is_asked_for_leaves_the_gpu_alone(graph: DeployedGraph) -> None:
    with cuda_provider() as (world, _):
        toolchain = OnnxRuntimeToolchain(graph, EngineConfig(device=Device.CPU))
        assert toolchain.key.device == "cpu"
        assert world.provider_options == []


def _no_pycuda(world: World, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(onnxruntime_toolchain, "find_spec", lambda name: None)


def _no_library(world: World, patch: pytest.MonkeyPatch) -> None:
    world.missing = "libcudnn.so.9"


def _no_kernels(world: World, patch: pytest.MonkeyPatch) -> None:
    world.load_error = RuntimeError("CUDA failure 209: no kernel image is available")


def _no_gpu(world: World, patch: pytest.MonkeyPatch) -> None:
    def context() -> Context:
        raise CudaError("no CUDA-capable device is detected", "cuInit")

    patch.setattr(onnxruntime_toolchain, "Context", context)


UNUSABLE = {
    "no pycuda": (_no_pycuda, "pycuda is not installed"),
    "a library is missing": (
        _no_library,
        "cannot start its CUDA provider: Failed to load libcudnn",
    ),
    "another GPU": (_no_kernels, "cannot use the GPU: CUDA failure 209"),
    "no GPU": (_no_gpu, "cuInit failed: no CUDA-capable device"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_gpu_that_does_not_work(
    graph: DeployedGraph,
    case: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spoil, reason = UNUSABLE[case]
    with cuda_provider() as (world, _):
        spoil(world, monkeypatch)
        toolchain = OnnxRuntimeToolchain(graph, EngineConfig())
        (warning,) = caplog.records
        assert warning.levelno == logging.WARNING
        assert "ONNX Runtime computes on the CPU: " in warning.getMessage()
        assert reason in warning.getMessage()
        assert toolchain.key.device == "cpu"
    with cuda_provider() as (world, _):
        spoil(world, monkeypatch)
        with pytest.raises((ConfigError, CudaError), match=reason):
            OnnxRuntimeToolchain(graph, EngineConfig(device=Device.CUDA))


def test_the_probe_runs() -> None:
    session = REAL.InferenceSession(probe(), providers=["CPUExecutionProvider"])
    given = np.array([-3], np.float32)
    assert session.run(None, {"given": given})[0] == np.array([0], np.float32)


# --- what it makes on a GPU -------------------------------------------------------------------


def test_frames_lie_where_the_gpu_reads_them(graph: DeployedGraph) -> None:
    with cuda_provider() as (_, context):
        toolchain = OnnxRuntimeToolchain(graph, EngineConfig())
        rows = toolchain.allocate((2, 48, 64, 3))
        assert (rows == PAD_GREY).all()
        assert context.pinned_at(rows.ctypes.data, rows.nbytes) is not None
        del rows
        toolchain.close()


@pytest.mark.parametrize("max_batch", [1, 4])
def test_engines_take_so_many_frames(graph: DeployedGraph, max_batch: int) -> None:
    with on_gpu(graph, max_batch) as toolchain:
        engine = toolchain.load(graph.onnx_bytes, FP32)
        assert isinstance(engine, OnnxRuntimeCudaEngine)
        assert engine.info.max_batch == max_batch
        assert engine.info.precision == "fp32"
        engine.close()


def test_priority_frames_have_an_engine_on_the_same_gpu(graph: DeployedGraph) -> None:
    frames = random_frames(1, graph.preprocessing.input_wh)
    with cuda_provider() as (world, context):
        shared = OnnxRuntimeToolchain(graph, EngineConfig(device=Device.CUDA), 4)
        priority = shared.derived(1, Lane.PRIORITY)
        engines = [made.load(graph.onnx_bytes, FP32) for made in (shared, priority)]
        assert [engine.info.max_batch for engine in engines] == [4, 1]
        found = [engine.infer(frames) for engine in engines]
        np.testing.assert_array_equal(found[0], found[1])
        streams = [int(given["user_compute_stream"]) for given in world.provider_options[1:]]
        assert [world.host.priorities[stream] for stream in streams] == [0, -5]
        assert shared.key == priority.key  # one INT8 graph serves both
        for engine in reversed(engines):
            engine.close()
        priority.close()
        with context.current():  # still the first one's
            pass
        shared.close()


def test_there_is_one_float_engine(graph: DeployedGraph) -> None:
    with on_gpu(graph) as toolchain:
        assert (toolchain.first, toolchain.exact) == (FP32, FP32)
        assert toolchain.ready(FP32) == graph.onnx_bytes
        assert toolchain.ready(INT8) is None
        with pytest.raises(BuildError, match="does not compute in fp16 by itself"):
            toolchain.build(FP16, lambda progress: None)


# --- what is wanted of it ---------------------------------------------------------------------


class Wish:
    """A toolchain, as far as anybody asks before it makes anything."""

    def __init__(self, toolchain: OnnxRuntimeToolchain, *, has_calibration: bool) -> None:
        self._toolchain = toolchain
        self._has_calibration = has_calibration

    def __call__(self, precision: Optional[Precision]) -> Precision:
        config = EngineConfig(precision=precision)
        has_calibration = self._has_calibration
        return wanted_precision(config, self._toolchain, has_calibration=has_calibration)


def test_int8_is_the_default_only_where_it_is_faster(graph: DeployedGraph) -> None:
    on_cpu = OnnxRuntimeToolchain(graph, EngineConfig(device=Device.CPU))
    assert Wish(on_cpu, has_calibration=True)(None) is INT8
    assert Wish(on_cpu, has_calibration=False)(None) is FP32
    with on_gpu(graph) as toolchain:
        wish = Wish(toolchain, has_calibration=True)
        assert wish(None) is FP32
        assert wish(INT8) is INT8
        with pytest.raises(ConfigError, match="onnxruntime on Xavier does not compute in fp16"):
            wish(FP16)


BACKENDS: List[EngineConfig] = [
    EngineConfig(backend=Backend.TENSORRT),
    EngineConfig(backend=Backend.ONNXRUNTIME, device=Device.CUDA),
    EngineConfig(device=Device.CPU),
]


def test_who_asks_for_the_cpu_gets_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.building.toolchain.importlib.util.find_spec", lambda name: name)
    found = [backend_of(config) for config in [*BACKENDS, EngineConfig(device=Device.CUDA)]]
    tensorrt, onnxruntime = Backend.TENSORRT, Backend.ONNXRUNTIME
    assert found == [tensorrt, onnxruntime, onnxruntime, tensorrt]


def test_the_whole_way_from_a_plan(graph: DeployedGraph, tmp_path: Path) -> None:
    from edge.building.plan import BuildPlan
    from edge.config.schema import Config

    config = Config.model_validate(
        {
            "model": {"path": str(tmp_path / "unused.onnx")},
            "engine": {"backend": "onnxruntime", "device": "cuda", "max_batch": 3},
            "cameras": [{"name": "a", "uri": "a.mp4"}],
        }
    )
    with cuda_provider():
        toolchain = BuildPlan.of(config, None).toolchain(graph)
        engine = toolchain.load(graph.onnx_bytes, FP32)
        assert engine.info.max_batch == 3
        assert engine.in_flight > 1
        engine.close()
        toolchain.close()
