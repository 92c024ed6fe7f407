from __future__ import annotations

import importlib
import logging
import threading
from contextlib import contextmanager
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np
import pytest

from edge.config.schema import Precision
from edge.errors import ConfigError, EngineError, EngineOutOfMemory
from edge.inference import tensorrt
from edge.inference.tensorrt import TensorRtEngine, TensorRtProgram
from edge.inference.tensorrt_log import TensorRtLog, as_logger
from tests.inference.host_cuda import HostCuda
from tests.inference.tensorrt_api.double import VERSIONS, World, tensorrt_double
from tests.inference.tensorrt_engines import (
    HEIGHT,
    WIDTH,
    RuntimeWorld,
    Severity,
    expected,
    plan,
)


@contextmanager
def engine_of(
    data: bytes,
    version: str = "8.5.2.2",
    host: Optional[HostCuda] = None,
    world: Optional[RuntimeWorld] = None,
) -> Iterator[Tuple[TensorRtEngine, RuntimeWorld]]:
    host = host or (world.host if world is not None else HostCuda())
    world = world or RuntimeWorld(host)
    world.trt = tensorrt_double(version, world)
    with pytest.MonkeyPatch.context() as patch, host.context() as context:
        patch.setattr(tensorrt, "import_tensorrt", lambda: world.trt)
        engine = TensorRtEngine(data, Precision.FP16, context)
        try:
            yield engine, world
        finally:
            engine.close()


def frames_of(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_batch_gives_its_own_rows(version: str) -> None:
    with engine_of(plan(), version) as (engine, _):
        for seed, count in enumerate([4, 1, 3, 2, 1, 4]):
            frames = frames_of(count, seed)
            np.testing.assert_allclose(engine.infer(frames), expected(frames), rtol=1e-6)


def test_results_belong_to_the_caller() -> None:
    with engine_of(plan()) as (engine, _):
        first = engine.infer(frames_of(2, 1))
        kept = first.copy()
        engine.infer(frames_of(2, 2))
        np.testing.assert_array_equal(first, kept)


def test_what_serves() -> None:
    with engine_of(plan()) as (engine, _):
        assert engine.input_wh == (WIDTH, HEIGHT)
        info = engine.info
    assert (info.backend, info.version, info.precision) == ("tensorrt", "8.5.2.2", "fp16")
    assert info.device == "Xavier (sm_72)"
    assert info.max_batch == 4


STATIC = {"dynamic dimension": -1, "fixed dimension": 4}


@pytest.mark.parametrize("dims", STATIC.values(), ids=STATIC)
def test_a_static_engine_always_runs_all_its_rows(dims: int) -> None:
    with engine_of(plan(profile=[4, 4, 4], dims=dims)) as (engine, world):
        frames = frames_of(3)
        np.testing.assert_allclose(engine.infer(frames), expected(frames), rtol=1e-6)
        assert engine.info.max_batch == 4
        shapes = {args[1][0] for args in world.arguments_of("IExecutionContext.set_input_shape")}
        assert shapes == {4}


WRONG_FRAMES = {
    "none": (0, HEIGHT, WIDTH, 3),
    "too many": (5, HEIGHT, WIDTH, 3),
    "size": (1, WIDTH, HEIGHT, 3),
    "channels": (1, HEIGHT, WIDTH, 4),
}


@pytest.mark.parametrize("shape", WRONG_FRAMES.values(), ids=WRONG_FRAMES)
def test_other_frames_are_refused(shape: Tuple[int, ...]) -> None:
    refusal = pytest.raises(ValueError, match=r"expected frames \(1\.\.4, 6, 8, 3\)")
    with engine_of(plan()) as (engine, _), refusal:
        engine.infer(np.zeros(shape, np.uint8))


def test_any_thread_may_infer_and_leaves_no_context_behind() -> None:
    host = HostCuda()
    failures: List[str] = []
    with engine_of(plan(), host=host) as (engine, _):

        def work(seed: int) -> None:
            for round_number in range(10):
                frames = frames_of(1 + round_number % 4, seed * 100 + round_number)
                if not np.allclose(engine.infer(frames), expected(frames)):
                    failures.append(f"{seed}/{round_number}")
            if host.stack != 0:
                failures.append(f"{seed}: context left")

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_a_closed_engine_says_so() -> None:
    with engine_of(plan()) as (engine, _):
        engine.close()
        engine.close()
        with pytest.raises(EngineError, match="closed"):
            engine.infer(frames_of(1))


UNREADABLE = {
    "empty": b"",
    "truncated": plan()[:-5],
    "foreign": b"\x7fELF",
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_a_damaged_plan_is_an_error_with_tensorrts_reason(data: bytes) -> None:
    with pytest.raises(EngineError, match=r"magicTagRead.*") as caught, engine_of(data):
        pass
    assert "must be built again" in str(caught.value)


OTHER_NETWORKS = {
    "float frames": plan(frames="FLOAT"),
    "half detections": plan(detections="HALF"),
    "other output": plan(output="output0"),
}


@pytest.mark.parametrize("data", OTHER_NETWORKS.values(), ids=OTHER_NETWORKS)
def test_an_engine_of_another_network_is_refused(data: bytes) -> None:
    with pytest.raises(EngineError, match="not one of this program"), engine_of(data):
        pass


@pytest.mark.parametrize("version", VERSIONS)
def test_memory_is_asked_for_before_it_is_taken(version: str) -> None:
    host = HostCuda(free_bytes=5 << 20)
    world = RuntimeWorld(host)
    data = plan(activations=(5 << 20) + 1)
    refusal = pytest.raises(EngineOutOfMemory, match=r"needs 5 MB.*5 MB are free")
    with refusal, engine_of(data, version, world=world):
        pass
    assert not world.arguments_of("ICudaEngine.create_execution_context")
    with engine_of(plan(activations=5 << 20), version, host=host):
        pass


def test_no_execution_context_for_want_of_memory() -> None:
    world = RuntimeWorld(HostCuda())
    world.refuse = "context"
    with pytest.raises(EngineOutOfMemory, match="execution context"), engine_of(
        plan(), world=world
    ):
        pass


def test_a_refused_call_is_an_error_and_frees_everything() -> None:
    world = RuntimeWorld(HostCuda())
    world.refuse = "shape"
    with pytest.raises(EngineError, match=r"cannot run . frame"), engine_of(plan(), world=world):
        pass


def test_nan_on_a_blank_frame_never_serves() -> None:
    world = RuntimeWorld(HostCuda())
    world.nan = True
    with pytest.raises(EngineError, match=r"NaN.*fp16"), engine_of(plan(), world=world):
        pass


def test_no_pinned_memory_frees_what_was_made_before() -> None:
    host = HostCuda(free_bytes=2000)
    with pytest.raises(EngineOutOfMemory), engine_of(plan(profile=[1, 100, 100]), host=host):
        pass


def test_a_dla_is_named_before_the_plan_is_read() -> None:
    host = HostCuda()
    world = RuntimeWorld(host)
    world.trt = tensorrt_double("8.5.2.2", world)
    with pytest.MonkeyPatch.context() as patch, host.context() as context:
        patch.setattr(tensorrt, "import_tensorrt", lambda: world.trt)
        with context.current():
            program = TensorRtProgram(plan(), context, dla_core=1)
            assert program._runtime is not None
            assert program._runtime.DLA_core == 1
            program.close()


def test_without_tensorrt_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match="apt-get install python3-libnvinfer") as caught:
        tensorrt.import_tensorrt()
    assert "\n" not in str(caught.value)


def test_a_runtime_that_cannot_start_says_why() -> None:
    heard = TensorRtLog()

    def none(logger: Any) -> None:
        heard.hear("WARNING", "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    with pytest.raises(EngineError, match=r"cannot start on this GPU.*failure with error: 35"):
        tensorrt.start(tensorrt_double("8.5.2.2", World()), none, None, heard)


# --- the log -----------------------------------------------------------------------------------


def test_the_last_errors_are_the_reason() -> None:
    heard = TensorRtLog()
    assert heard.reason == "it gives no reason"
    for number in range(6):
        heard.hear("ERROR", f"fault\n {number}")
    assert heard.reason == "fault 2; fault 3; fault 4; fault 5"
    heard.forget()
    assert heard.reason == "it gives no reason"


MEMORY = {
    "CUDA": ("1: [resizingAllocator.cpp] (Could not allocate 99 bytes. Out of memory)", True),
    "builder": ("2: [virtualMemoryBuffer.cpp] OutOfMemory (Requested size was 99 bytes.)", True),
    "tactic": ("Requested amount of GPU memory (99 bytes) could not be allocated.", True),
    "other": ("10: Could not find any implementation for node Conv_0.", False),
}


@pytest.mark.parametrize(("text", "is_memory"), MEMORY.values(), ids=MEMORY)
def test_want_of_memory_is_recognised(text: str, is_memory: bool) -> None:
    heard = TensorRtLog()
    heard.hear("INTERNAL_ERROR", text)
    assert heard.is_out_of_memory is is_memory


LEVELS = {
    "error": ("ERROR", "it broke", logging.DEBUG),
    "warning": ("WARNING", "look at this", logging.WARNING),
    "usual warning": ("WARNING", "Your ONNX has INT64 weights", logging.DEBUG),
    "info": ("INFO", "building", logging.DEBUG),
}


@pytest.mark.parametrize(("severity", "text", "level"), LEVELS.values(), ids=LEVELS)
def test_lines_reach_the_log(
    severity: str, text: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    lines: List[str] = []
    logger = as_logger(tensorrt_double("10.3.0", World()), TensorRtLog(lines.append))
    logger.log(Severity(severity), text)
    logger.log(Severity("VERBOSE"), "detail")
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (level, f"TensorRT: {text}")
    ]
    assert lines == [text, "detail"]
