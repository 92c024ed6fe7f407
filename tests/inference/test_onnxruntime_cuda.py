"""ONNX Runtime's CUDA provider over the overlap loop, on a CUDA that keeps the rules."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.building.graph import deploy
from edge.building.onnxruntime_toolchain import probe
from edge.config.schema import EngineConfig, Memory, ModelConfig, Precision
from edge.errors import ConfigError, CudaError, EngineError, EngineOutOfMemory, ModelError
from edge.inference import onnxruntime_cuda
from edge.inference.chunks import ChunkedEngine
from edge.inference.cuda import Context
from edge.inference.device import DeviceOptions
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.inference.onnxruntime_cuda import OnnxRuntimeCudaEngine, check_provider, run_options
from edge.records import DeployedGraph
from tests.building.tiny_detectors import TinyDetector, random_frames, save
from tests.inference.host_cuda import HostCuda
from tests.inference.onnxruntime_cuda_double import REAL, World, cuda_provider

SIZE = (64, 48)
MAX_BATCH = 4


def graph_of(detector: TinyDetector, folder: Path) -> DeployedGraph:
    path = save(detector.model(), folder, "tiny.onnx")
    return deploy(path, ModelConfig(path=path, max_candidates=20))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> DeployedGraph:
    return graph_of(TinyDetector(), tmp_path_factory.mktemp("any"))


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> DeployedGraph:
    return graph_of(TinyDetector(batch=3), tmp_path_factory.mktemp("fixed"))


@pytest.fixture(scope="module")
def on_cpu(graph: DeployedGraph) -> Iterator[OnnxRuntimeEngine]:
    engine = OnnxRuntimeEngine(graph, EngineConfig(threads=1))
    yield engine
    engine.close()


def engine_of(graph: DeployedGraph, context: Context, **options: Any) -> OnnxRuntimeCudaEngine:
    return OnnxRuntimeCudaEngine(graph, MAX_BATCH, context, DeviceOptions(**options))


# --- the real library's names -----------------------------------------------------------------


def test_the_real_library_knows_all_that_is_called() -> None:
    for owner, names in {
        REAL: ["InferenceSession", "SessionOptions", "RunOptions", "get_available_providers"],
        REAL.InferenceSession: ["io_binding", "run_with_iobinding", "get_providers"],
        REAL.RunOptions: ["add_run_config_entry", "log_severity_level"],
        REAL.SessionOptions: ["add_session_config_entry", "enable_mem_pattern"],
    }.items():
        assert [name for name in names if not hasattr(owner, name)] == []
    first = list(inspect.signature(REAL.InferenceSession.run_with_iobinding).parameters)[1:3]
    assert first == ["iobinding", "run_options"]


def test_where_operators_run_is_asked_by_the_real_names(graph: DeployedGraph) -> None:
    options = REAL.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = REAL.InferenceSession(
        graph.onnx_bytes, options, providers=["CPUExecutionProvider"], enable_fallback=0
    )
    if not hasattr(session, "get_provider_graph_assignment_info"):
        assert tuple(map(int, REAL.__version__.split(".")[:2])) < (1, 24)
        return
    parts = session.get_provider_graph_assignment_info()
    assert {part.ep_name for part in parts} == {"CPUExecutionProvider"}
    assert "Conv" in {node.op_type for part in parts for node in part.get_nodes()}


def test_the_real_library_is_bound_to_pointers(
    graph: DeployedGraph, on_cpu: OnnxRuntimeEngine
) -> None:
    """The same calls, on memory that the real library can reach without a GPU."""
    session = REAL.InferenceSession(graph.onnx_bytes, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for seed in range(2):
        frames = random_frames(2, SIZE, seed=seed)
        found = np.empty((2, graph.max_candidates, 6), np.float32)
        where = (frames.ctypes.data, found.ctypes.data)
        binding.bind_input("frames", "cpu", 0, np.uint8, frames.shape, where[0])
        binding.bind_output("detections", "cpu", 0, np.float32, found.shape, where[1])
        session.run_with_iobinding(binding, run_options(REAL))
        np.testing.assert_array_equal(found, on_cpu.infer(frames))


# --- what it computes -------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 4])
def test_detects_what_the_cpu_does(
    graph: DeployedGraph, on_cpu: OnnxRuntimeEngine, count: int
) -> None:
    frames = random_frames(count, SIZE)
    with cuda_provider() as (world, context):
        engine = engine_of(graph, context)
        np.testing.assert_array_equal(engine.infer(frames), on_cpu.infer(frames))
        assert world.rows[-1] == count
        assert {1, MAX_BATCH} <= set(world.rows)  # what it was warmed up with
        engine.close()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fixed_batch_takes_any_count(
    fixed: DeployedGraph, on_cpu: OnnxRuntimeEngine, count: int
) -> None:
    frames = random_frames(count, SIZE)
    with cuda_provider() as (world, context):
        engine = engine_of(fixed, context)
        assert engine.info.max_batch == 3
        np.testing.assert_allclose(engine.infer(frames), on_cpu.infer(frames), atol=1e-4)
        assert set(world.rows) == {3}
        engine.close()


steps = st.lists(st.tuples(st.integers(1, MAX_BATCH), st.booleans()), min_size=1, max_size=20)


@given(steps=steps, is_fixed=st.booleans())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_batch_gets_its_own_detections(
    graph: DeployedGraph,
    fixed: DeployedGraph,
    on_cpu: OnnxRuntimeEngine,
    steps: List[Tuple[int, bool]],
    is_fixed: bool,
) -> None:
    """As many batches are out at once as may be, and what is queued happens as late as it may."""
    out: List[Tuple[Any, NDArray[np.float32]]] = []

    def collect() -> None:
        launched, expected = out.pop(0)
        np.testing.assert_allclose(launched.wait(), expected, atol=1e-4)

    with cuda_provider() as (_, context):
        engine = engine_of(fixed if is_fixed else graph, context)
        for seed, (count, is_late) in enumerate(steps):
            frames = random_frames(min(count, engine.info.max_batch), SIZE, seed=seed)
            out.append((engine.launch(frames), on_cpu.infer(frames)))
            if len(out) == engine.in_flight or not is_late:
                collect()
        while out:
            collect()
        engine.close()


def test_nothing_waits_while_a_batch_is_launched(graph: DeployedGraph) -> None:
    with cuda_provider() as (world, context):
        engine = engine_of(graph, context)
        world.host.synchronized.clear()
        launched = [engine.launch(random_frames(2, SIZE, seed=seed)) for seed in range(2)]
        assert world.host.synchronized == []
        assert len(world.bound) == 2
        for pending in launched:
            pending.wait()
        engine.close()


# --- how it is opened -------------------------------------------------------------------------


def options_of(world: World) -> Dict[str, str]:
    (options,) = world.provider_options
    return options


def test_some_runs_wait_so_that_pinned_memory_comes_back(
    graph: DeployedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_cuda, "_TIDIED_EVERY", 10)
    with cuda_provider() as (world, context):
        engine = engine_of(graph, context)
        for _ in range(60):
            engine.infer(random_frames(1, SIZE))
            assert max(world.untidied.values()) < 10
        engine.close()


def test_the_session_gets_a_stream_of_its_own(graph: DeployedGraph, fixed: DeployedGraph) -> None:
    for network, search in ((graph, "HEURISTIC"), (fixed, "EXHAUSTIVE")):
        with cuda_provider() as (world, context):
            engine = engine_of(network, context)
            options = dict(options_of(world))
            assert int(options.pop("user_compute_stream")) in world.host.queues
            assert options == {
                "device_id": "0",
                "do_copy_in_default_stream": "1",
                "arena_extend_strategy": "kSameAsRequested",
                "cudnn_conv_algo_search": search,
                "use_tf32": "0",
            }
            assert not world.options[0].enable_mem_pattern
            engine.close()


@pytest.mark.parametrize(("is_high", "priority"), [(False, 0), (True, -5)])
def test_priority_frames_compute_on_a_stream_of_high_priority(
    graph: DeployedGraph, is_high: bool, priority: int
) -> None:
    with cuda_provider() as (world, context):
        engine = engine_of(graph, context, is_high_priority=is_high)
        stream = int(options_of(world)["user_compute_stream"])
        assert world.host.priorities[stream] == priority
        engine.close()


def test_what_it_says_of_itself(graph: DeployedGraph) -> None:
    with cuda_provider() as (_, context):
        engine = engine_of(graph, context)
        info = engine.info
        assert (info.backend, info.version) == ("onnxruntime", REAL.__version__)
        assert (info.device, info.precision, info.max_batch) == ("Xavier (sm_72)", "fp32", 4)
        assert info.memory is Memory.COPY
        assert engine.input_wh == SIZE
        assert engine.in_flight > 1
        engine.close()


def test_where_both_share_the_memory_frames_may_be_read_in_place(
    graph: DeployedGraph, on_cpu: OnnxRuntimeEngine
) -> None:
    frames = random_frames(3, SIZE)
    with cuda_provider(HostCuda(is_integrated=True)) as (world, context):
        for memory in (Memory.AUTO, Memory.MAPPED):
            engine = engine_of(graph, context, memory=memory)
            np.testing.assert_array_equal(engine.infer(frames), on_cpu.infer(frames))
            engine.close()
        assert len(world.provider_options) == 2  # one session, whichever memory is tried


@pytest.mark.parametrize(
    ("on_cpu", "warning"),
    [
        pytest.param([], "", id="all on the GPU"),
        pytest.param(["Shape", "Gather", "Concat"], "", id="shapes are computed on the CPU"),
        pytest.param(
            ["TopK", "Shape", "NonZero", "TopK"],
            "3 operators of 'tiny' run on the CPU (1 NonZero, 2 TopK): every batch waits for them",
            id="data goes over the CPU",
        ),
    ],
)
def test_operators_without_a_kernel_are_told(
    graph: DeployedGraph, on_cpu: List[str], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    with cuda_provider() as (world, context):
        world.on_cpu = on_cpu
        engine_of(graph, context).close()
    assert [record.getMessage() for record in caplog.records] == ([warning] if warning else [])


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        pytest.param("libcublasLt.so.13", "Failed to load libcublasLt.so.13", id="named"),
    ],
)
def test_a_provider_that_does_not_start(
    graph: DeployedGraph, missing: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with cuda_provider() as (world, context):
        check_provider(probe(), context)
        world.missing = missing
        for start in (
            lambda: check_provider(probe(), context),
            lambda: engine_of(graph, context),
        ):
            with pytest.raises(ConfigError, match=rf"cannot start its CUDA provider: {reason}"):
                start()
    assert capsys.readouterr() == ("", "")


def test_a_provider_that_does_not_say_why(
    graph: DeployedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 1.21 nobody looked for the libraries that pip installs."""
    with cuda_provider() as (world, context):
        monkeypatch.delattr(World, "preload_dlls")
        engine_of(graph, context).close()
        world.missing = "libcudnn.so.8"
        with pytest.raises(ConfigError, match="libraries of CUDA or cuDNN that fit it are missing"):
            engine_of(graph, context)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Load model failed: Protobuf parsing failed", ModelError, id="the graph"),
        pytest.param("CUDA failure 2: out of memory ; GPU=0", EngineOutOfMemory, id="the memory"),
        pytest.param(
            "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", EngineOutOfMemory, id="cuBLAS's memory"
        ),
    ],
)
def test_what_goes_wrong_while_it_is_loaded(graph: DeployedGraph, text: str, expected: Any) -> None:
    with cuda_provider() as (world, context):
        world.load_error = RuntimeError(text)
        with pytest.raises(expected, match=r"cannot load 'tiny': "):
            engine_of(graph, context)


def test_a_provider_that_fails_on_the_probe(graph: DeployedGraph) -> None:
    with cuda_provider() as (world, context):
        world.load_error = RuntimeError("CUDA failure 209: no kernel image is available")
        with pytest.raises(ConfigError, match="cannot use the GPU: CUDA failure 209"):
            check_provider(probe(), context)


# --- what goes wrong while it runs ------------------------------------------------------------


OUT_OF_MEMORY = {
    "the arena's": "Failed to allocate memory for requested buffer of size 123",
    "the arena's, below a limit": "Available memory of 16 is smaller than requested bytes of 32",
    "CUDA's": "CUDA failure 2: out of memory ; GPU=0 ; hostname=x",
    "cuDNN's": "CUDNN failure 4002: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
}


@pytest.mark.parametrize("case", OUT_OF_MEMORY)
def test_out_of_memory_has_many_names(graph: DeployedGraph, case: str) -> None:
    with cuda_provider() as (world, context):
        engine = engine_of(graph, context)
        world.run_error = RuntimeError(OUT_OF_MEMORY[case])
        with pytest.raises(EngineOutOfMemory, match="ran out of memory"):
            engine.launch(random_frames(2, SIZE))
        engine.close()


def test_a_batch_that_fails_leaves_nothing_behind(
    graph: DeployedGraph, on_cpu: OnnxRuntimeEngine
) -> None:
    """Half of it was queued: it must be done before the next batch gets its memory."""
    frames = random_frames(2, SIZE)
    with cuda_provider() as (world, context):
        engine = engine_of(graph, context)
        before = engine.launch(frames)
        for _ in range(3):
            world.run_error = RuntimeError("CUDA failure 700: an illegal memory access")
            with pytest.raises(EngineError, match="ONNX Runtime failed: CUDA failure 700"):
                engine.launch(random_frames(3, SIZE, seed=9))
            stream = int(options_of(world)["user_compute_stream"])
            assert world.host.queues[stream] == []
            world.run_error = None
        np.testing.assert_array_equal(before.wait(), on_cpu.infer(frames))
        np.testing.assert_array_equal(engine.infer(frames), on_cpu.infer(frames))
        engine.close()


def test_less_memory_means_smaller_batches(graph: DeployedGraph, on_cpu: OnnxRuntimeEngine) -> None:
    told: List[int] = []
    frames = random_frames(4, SIZE)
    with cuda_provider() as (world, context):
        engine = engine_of(graph, context)
        chunked = ChunkedEngine(engine, MAX_BATCH, told.append)
        for fits, caps in ((4, []), (3, [2]), (1, [2, 1])):
            world.fits = fits
            np.testing.assert_array_equal(chunked.infer(frames), on_cpu.infer(frames))
            np.testing.assert_array_equal(chunked.launch(frames).wait(), on_cpu.infer(frames))
            assert told == caps
        engine.close()


def test_a_full_batch_that_does_not_fit_is_found_at_the_start(graph: DeployedGraph) -> None:
    with cuda_provider() as (world, context):
        world.fits = MAX_BATCH - 1
        with pytest.raises(EngineOutOfMemory):
            engine_of(graph, context)


def test_a_network_that_cannot_run_is_no_reason_to_start_again(graph: DeployedGraph) -> None:
    with cuda_provider() as (world, context):
        world.run_error = RuntimeError("Non-zero status code: the input tensor cannot be reshaped")
        with pytest.raises(ConfigError, match=r"'tiny' cannot run on this GPU: .* reshaped"):
            engine_of(graph, context)
        world.run_error = None
        world.host.fail["cuStreamWaitEvent"] = "CUDA_ERROR_UNKNOWN"
        with pytest.raises(CudaError):
            engine_of(graph, context)
        world.host.fail.clear()


def test_a_closed_engine(graph: DeployedGraph) -> None:
    with cuda_provider() as (world, context):
        engine = engine_of(graph, context)
        engine.close()
        engine.close()
        assert world.sessions == 0
        with pytest.raises(EngineError, match="closed"):
            engine.launch(random_frames(1, SIZE))


def test_int8_is_told_from_float(graph: DeployedGraph) -> None:
    with cuda_provider() as (_, context):
        engine = engine_of(dataclasses.replace(graph, precision=Precision.INT8), context)
        assert engine.info.precision == "int8"
        engine.close()


def test_importing_the_module_imports_no_gpu_library() -> None:
    import subprocess
    import sys

    module = importlib.import_module("edge.inference.onnxruntime_cuda")
    code = f"import sys, {module.__name__}; print({{'onnxruntime', 'pycuda'}} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert result.stdout == b"set()\n"
