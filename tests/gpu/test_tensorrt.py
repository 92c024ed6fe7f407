"""Real builds of the demo model, and what its engines detect."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge.building.core import core_of
from edge.building.graph import deploy
from edge.building.tensorrt_builder import BuildCaches, TensorRtBuilder
from edge.building.tensorrt_calibrator import scaled_in
from edge.building.toolchain import CalibrationFeed
from edge.config.schema import CalibrationMethod, EngineConfig, ModelConfig, Precision
from edge.errors import BuildError, ConfigError, EngineError, EngineOutOfMemory, ModelError
from edge.geometry import Image
from edge.inference.cuda import Context
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.inference.tensorrt import TensorRtEngine
from edge.records import BuildPhase
from tests.building.tiny_detectors import TinyDetector
from tests.gpu.workbench import OPTIONS, Workbench, agreement, feed_of, say

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(580)]

THREADS = 8


def detect(engine: Any, frames: Image) -> NDArray[np.float32]:
    """All frames, in the engine's largest batches."""
    size = engine.info.max_batch
    starts = range(0, len(frames), size)
    return np.concatenate([engine.infer(frames[start : start + size]) for start in starts])


@pytest.fixture(scope="module")
def reference(bench: Workbench, frames: Image) -> NDArray[np.float32]:
    """What ONNX Runtime detects in float32."""
    return detect(OnnxRuntimeEngine(bench.graph, EngineConfig(threads=THREADS)), frames)


@pytest.fixture(scope="module")
def fp16(bench: Workbench) -> Iterator[TensorRtEngine]:
    engine = TensorRtEngine(bench.plan(Precision.FP16), Precision.FP16, bench.context)
    yield engine
    engine.close()


def run(bench: Workbench, plan: bytes, precision: Precision, frames: Image) -> Any:
    engine = TensorRtEngine(plan, precision, bench.context)
    try:
        assert engine.info.max_batch == OPTIONS.max_batch
        assert engine.input_wh == bench.graph.preprocessing.input_wh
        return detect(engine, frames)
    finally:
        engine.close()


def judge(
    name: str,
    reference: NDArray[np.float32],
    detections: NDArray[np.float32],
    iou: float,
    least: float,
) -> float:
    """The worst change of a score, once at least this share of the objects was found."""
    count, found, worst = agreement(reference, detections, iou)
    say(f"{name}: {found} of {count} objects at IoU {iou}, score off by at most {worst:.4f}")
    assert count > 50
    assert found >= least * count
    return worst


# --- precisions --------------------------------------------------------------------------------


def test_float32_detects_what_onnx_runtime_does(
    bench: Workbench, frames: Image, reference: NDArray[np.float32]
) -> None:
    detections = run(bench, bench.plan(Precision.FP32), Precision.FP32, frames)
    assert judge("fp32", reference, detections, iou=0.98, least=1.0) < 0.01


def test_float16_detects_nearly_that(
    bench: Workbench, frames: Image, reference: NDArray[np.float32], fp16: TensorRtEngine
) -> None:
    assert judge("fp16", reference, detect(fp16, frames), iou=0.9, least=0.99) < 0.1


def test_int8_from_the_cores_scales(
    bench: Workbench,
    frames: Image,
    calibration_frames: Image,
    reference: NDArray[np.float32],
    fp16: TensorRtEngine,
) -> None:
    # The builder itself fails where TensorRT asks for a batch again for the deployed graph.
    plan = bench.int8_plan(feed_of(calibration_frames))
    detections = run(bench, plan, Precision.INT8, frames)
    judge("int8", reference, detections, iou=0.5, least=0.95)
    assert not np.array_equal(detections, detect(fp16, frames)), "nothing was rounded to 8 bits"
    scaled = scaled_in(bench.caches().calibration)
    core = core_of(bench.graph)
    say(f"{len(scaled)} tensors have a scale")
    assert {bench.graph.network_input, *core.boundary} <= scaled
    assert not scaled & core.tail_tensors


def test_int8_with_the_head_in_float16(
    bench: Workbench,
    frames: Image,
    calibration_frames: Image,
    reference: NDArray[np.float32],
) -> None:
    plain = bench.int8_plan(feed_of(calibration_frames))
    plan = bench.int8_plan(feed_of(calibration_frames), head_in_fp16=True)
    detections = run(bench, plan, Precision.INT8, frames)
    judge("int8, head in fp16", reference, detections, iou=0.5, least=0.95)
    assert not np.array_equal(detections, run(bench, plain, Precision.INT8, frames))


def test_progress_was_told(bench: Workbench) -> None:
    if not bench.built_s:
        pytest.skip("every plan came from the folder")
    building = [p.done for p in bench.progress if p.phase is BuildPhase.BUILDING]
    assert len(building) > 5, "TensorRT's log or monitor says something else than expected"
    if "int8" in bench.built_s:
        calibrating = [p.done for p in bench.progress if p.phase is BuildPhase.CALIBRATING]
        assert calibrating[-1] == 1.0


# --- batches -----------------------------------------------------------------------------------


def test_every_batch_size_gives_the_same_objects(
    frames: Image, reference: NDArray[np.float32], fp16: TensorRtEngine
) -> None:
    alone = np.concatenate([fp16.infer(frames[i : i + 1]) for i in range(8)])
    for size in range(1, 9):
        together = fp16.infer(frames[:size])
        assert together.shape == (size, *alone.shape[1:])
        count, found, worst = agreement(alone[:size], together, 0.95)
        say(f"batch {size}: {found} of {count}, score off by at most {worst:.5f}")
        assert found == count
        assert worst < 0.02


def test_nothing_stays_from_the_batch_before(frames: Image, fp16: TensorRtEngine) -> None:
    small = frames[3:6]
    before = fp16.infer(small)
    others: List[Image] = [frames[8:16], np.invert(frames[:8]), np.zeros_like(frames[:1])]
    for other in others:
        fp16.infer(other)
        np.testing.assert_array_equal(fp16.infer(small), before)


def test_any_thread_may_infer(frames: Image, fp16: TensorRtEngine) -> None:
    expected = [fp16.infer(frames[i : i + 2]) for i in range(4)]
    wrong: List[int] = []

    def work(index: int) -> None:
        for _ in range(20):
            if not np.array_equal(fp16.infer(frames[index : index + 2]), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_fixed_batch_is_padded(bench: Workbench, tmp_path: Path) -> None:
    path = TinyDetector(batch=4).save(tmp_path)
    graph = deploy(path, ModelConfig(path=path, class_names=["a", "b", "c"]))
    builder = TensorRtBuilder(graph, OPTIONS, bench.context, lambda _: None, BuildCaches())
    engine = TensorRtEngine(builder.build(Precision.FP32), Precision.FP32, bench.context)
    width, height = graph.preprocessing.input_wh
    frames = np.random.default_rng(3).integers(0, 256, (4, height, width, 3), np.uint8)
    try:
        assert engine.info.max_batch == 4
        whole = engine.infer(frames)
        for count in (1, 2, 3):
            np.testing.assert_array_equal(engine.infer(frames[:count]), whole[:count])
        on_cpu = OnnxRuntimeEngine(graph, EngineConfig(threads=THREADS)).infer(frames)
        np.testing.assert_allclose(whole[:, 0], on_cpu[:, 0], rtol=1e-3, atol=1e-3)
    finally:
        engine.close()


# --- calibration that goes wrong ----------------------------------------------------------------


def spoiled(noise: Image, after: int) -> CalibrationFeed:
    def batches() -> Iterator[Image]:
        for number in range(after):
            yield noise[number * 8 : number * 8 + 8]
        raise OSError("the folder is gone")

    return CalibrationFeed(batches, after + 2, CalibrationMethod.ENTROPY)


@pytest.mark.parametrize("after", [1, 3])
def test_an_exception_that_tensorrt_swallows_fails_the_build(
    small: Workbench, noise: Image, after: int
) -> None:
    caches = BuildCaches(timing=small.caches().timing)
    with pytest.raises((BuildError, OSError), match="the folder is gone"):
        small.builder(caches).build_int8(spoiled(noise, after))
    assert caches.calibration == b""


def test_fewer_batches_than_promised_fail_the_build(small: Workbench, noise: Image) -> None:
    whole = feed_of(noise[:16])
    caches = BuildCaches(timing=small.caches().timing)
    with pytest.raises(BuildError, match="took 2 of 5 calibration batches"):
        small.builder(caches).build_int8(dataclasses.replace(whole, count=5))


def test_minmax_calibrates_too(small: Workbench, noise: Image) -> None:
    feed = dataclasses.replace(feed_of(noise[:32]), method=CalibrationMethod.MINMAX)
    caches = BuildCaches(timing=small.caches().timing)
    plan = small.builder(caches).build_int8(feed)
    assert caches.calibration.startswith(b"TRT-")
    assert b"MinMax" in caches.calibration.splitlines()[0]
    TensorRtEngine(plan, Precision.INT8, small.context).close()


# --- refusals ----------------------------------------------------------------------------------


def test_a_dla_is_refused_where_there_is_none(small: Workbench) -> None:
    options = dataclasses.replace(OPTIONS, dla_core=0)
    with pytest.raises(ConfigError, match=r"engine\.dla_core: .* has no deep-learning") as caught:
        small.builder(BuildCaches(), options).build(Precision.FP16)
    assert "\n" not in str(caught.value)


def test_an_unsupported_operator_is_named(small: Workbench) -> None:
    nodes = [
        helper.make_node("Cast", ["frames"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Det", ["pixels"], ["detections"], name="/head/Det"),
    ]
    onnx_graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", 8, 8, 8])],
        [helper.make_tensor_value_info("detections", TensorProto.FLOAT, ["batch", 8])],
    )
    model = helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    graph = dataclasses.replace(small.graph, onnx_bytes=model.SerializeToString())
    builder = TensorRtBuilder(graph, OPTIONS, small.context, lambda _: None)
    with pytest.raises(ModelError, match=r"operator Det \(node '/head/Det'\)") as caught:
        builder.build(Precision.FP32)
    say(str(caught.value))


def test_no_memory_for_a_context_is_known_before(
    small: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Context, "memory_info", lambda self: type("M", (), {"free": 1000})())
    with pytest.raises(EngineOutOfMemory, match=r"lower engine\.max_batch"):
        TensorRtEngine(small.plan(Precision.FP16), Precision.FP16, small.context)


# Each in a process of its own: TensorRT may crash on a damaged plan, and that is the question.
LOAD = """
import sys
from edge.config.schema import Precision
from edge.errors import EngineError
from edge.inference.cuda import Context
from edge.inference.tensorrt import TensorRtEngine
context = Context()
try:
    TensorRtEngine(open(sys.argv[1], "rb").read(), Precision.FP16, context).close()
    print("loaded")
except EngineError as error:
    print("refused:", error)
context.close()
"""


def load_apart(plan: bytes, folder: Path) -> str:
    path = folder / "engine.plan"
    path.write_bytes(plan)
    result = subprocess.run(
        [sys.executable, "-c", LOAD, str(path)],
        capture_output=True,
        check=False,
    )
    told = result.stdout.decode().strip()
    say(f"exit {result.returncode}: {told}")
    assert result.returncode == 0, result.stderr.decode()
    assert b"PyCUDA ERROR" not in result.stderr
    return told


def test_a_good_plan_loads_apart(small: Workbench, tmp_path: Path) -> None:
    assert load_apart(small.plan(Precision.FP16), tmp_path) == "loaded"


DAMAGES = {
    "empty": lambda plan: b"",
    "one byte": lambda plan: plan[:1],
    "header only": lambda plan: plan[:64],
    "half": lambda plan: plan[: len(plan) // 2],
    "last byte missing": lambda plan: plan[:-1],
    "no plan": lambda plan: b"\x7fELF" * 1000,
    "other magic": lambda plan: b"xxxx" + plan[4:],
    "other version": lambda plan: plan[:4] + b"\xff\xff\xff\x7f" + plan[8:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_plan_is_refused_without_a_crash(
    small: Workbench, tmp_path: Path, damage: Any
) -> None:
    told = load_apart(damage(small.plan(Precision.FP16)), tmp_path)
    assert told.startswith("refused:")
    assert "must be built again" in told


# --- timings -----------------------------------------------------------------------------------


def test_timings_are_used_again(small: Workbench, noise: Image) -> None:
    # Of INT8, whose core is timed apart: TensorRT 8.5 cannot read back what it timed for the rest.
    feed = feed_of(noise[:32])
    small.int8_plan(feed)
    caches = BuildCaches(timing=small.caches().timing)
    size = len(caches.timing)
    assert size > 1000
    started = time.monotonic()
    plan = small.builder(caches).build_int8(feed)
    say(
        f"int8 again in {time.monotonic() - started:.1f} s; {size} bytes of timings, "
        f"then {len(caches.timing)}"
    )
    assert len(caches.timing) == size, "something was measured again"
    run(small, plan, Precision.INT8, noise[:8])


FOREIGN = {"garbage": b"garbage" * 100, "cut short": None}


@pytest.mark.parametrize("name", FOREIGN)
def test_timings_that_cannot_be_read_are_no_obstacle(
    small: Workbench, tmp_path: Path, name: str
) -> None:
    path = TinyDetector().save(tmp_path)
    graph = deploy(path, ModelConfig(path=path, class_names=["a", "b", "c"]))
    known = small.caches().timing
    caches = BuildCaches(timing=FOREIGN[name] or known[: len(known) // 2])
    builder = TensorRtBuilder(graph, OPTIONS, small.context, lambda _: None, caches)
    assert builder.build(Precision.FP16)
    assert caches.timing


def test_a_closed_engine_infers_no_more(small: Workbench, noise: Image) -> None:
    engine = TensorRtEngine(small.plan(Precision.FP16), Precision.FP16, small.context)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(noise[:1])
