"""ONNX Runtime's CUDA provider on a real device."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Any, Deque, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.building.graph import deploy
from edge.building.onnxruntime_toolchain import OnnxRuntimeToolchain
from edge.config.schema import Device, EngineConfig, ModelConfig, Precision
from edge.errors import ConfigError, CudaError, EngineOutOfMemory
from edge.geometry import Image
from edge.inference import device
from edge.inference.chunks import ChunkedEngine
from edge.inference.cuda import Context, DeviceBuffer
from edge.inference.device import DeviceOptions
from edge.inference.engine import Pending
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.inference.onnxruntime_cuda import OnnxRuntimeCudaEngine
from edge.inference.seat import EngineSeat
from edge.records import DeployedGraph, Lane
from tests.building.tiny_detectors import TinyDetector
from tests.gpu.workbench import demo_graph, pictures, say

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(580)]

BATCHES = int(os.environ.get("EDGE_GPU_BATCHES", "2000"))
MAX_BATCH = 8
POISON = 0xA5
LEFT_BYTES = 384 << 20  # enough for kernels and a few frames of the demo's model


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> DeployedGraph:
    """A network of a few convolutions."""
    path = TinyDetector().save(tmp_path_factory.mktemp("small"))
    return deploy(path, ModelConfig(path=path, class_names=["a", "b", "c"]))


@pytest.fixture(scope="module")
def toolchain(graph: DeployedGraph) -> Iterator[OnnxRuntimeToolchain]:
    try:
        made = OnnxRuntimeToolchain(graph, EngineConfig(device=Device.CUDA), MAX_BATCH)
    except (ConfigError, CudaError) as error:
        pytest.skip(f"no CUDA provider: {error}")
    say(f"onnxruntime {made.key.version} on {made.key.device}")
    yield made
    made.close()


@pytest.fixture(scope="module")
def engine(
    toolchain: OnnxRuntimeToolchain, graph: DeployedGraph
) -> Iterator[OnnxRuntimeCudaEngine]:
    engine = on_gpu(toolchain, graph)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def noise(graph: DeployedGraph) -> Image:
    width, height = graph.preprocessing.input_wh
    return np.random.default_rng(5).integers(0, 256, (96, height, width, 3), np.uint8)


def on_gpu(toolchain: OnnxRuntimeToolchain, graph: DeployedGraph) -> OnnxRuntimeCudaEngine:
    engine = toolchain.load(graph.onnx_bytes, Precision.FP32)
    assert isinstance(engine, OnnxRuntimeCudaEngine)
    return engine


def test_the_demo_model_detects_what_it_does_on_the_cpu(
    toolchain: OnnxRuntimeToolchain, caplog: pytest.LogCaptureFixture
) -> None:
    graph = demo_graph()
    frames = pictures(graph)[:24]
    expected = np.concatenate(
        [engine_on_cpu(graph).infer(frames[i : i + 8]) for i in range(0, 24, 8)]
    )
    with OnGpu(graph) as engine:
        found = np.concatenate([engine.infer(frames[i : i + 8]) for i in range(0, 24, 8)])
    assert "run on the CPU" not in caplog.text
    # Candidates come in the order of their scores: only clear ones are sure to keep their places.
    assert np.abs(np.sort(found[..., 4]) - np.sort(expected[..., 4])).max() < 2e-3
    for one, other in zip(found, expected):
        compare(one, other)


def compare(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Every clear detection is there: box within half a pixel, class the same."""
    for row in expected[expected[:, 4] > 0.3]:
        distance = np.abs(found[:, :4] - row[:4]).max(axis=1)
        same = (distance < 0.5) & (found[:, 5] == row[5]) & (np.abs(found[:, 4] - row[4]) < 5e-3)
        assert same.any(), f"{row} is missing; the nearest is {found[distance.argmin()]}"


def engine_on_cpu(graph: DeployedGraph) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(graph, EngineConfig(device=Device.CPU))


class OnGpu:
    """An engine of another graph, in a context of its own."""

    def __init__(
        self, graph: DeployedGraph, max_batch: int = MAX_BATCH, lane: Lane = Lane.BATCH
    ) -> None:
        self._graph = graph
        config = EngineConfig(device=Device.CUDA)
        self._toolchain = OnnxRuntimeToolchain(graph, config, max_batch, lane)
        self._engine: Optional[OnnxRuntimeCudaEngine] = None

    def __enter__(self) -> OnnxRuntimeCudaEngine:
        self._engine = on_gpu(self._toolchain, self._graph)
        return self._engine

    def __exit__(self, *_: Any) -> None:
        if self._engine is not None:
            self._engine.close()
        self._toolchain.close()


@pytest.mark.parametrize("batch", [1, 3])
def test_fixed_batch(
    toolchain: OnnxRuntimeToolchain, tmp_path_factory: pytest.TempPathFactory, batch: int
) -> None:
    path = TinyDetector(batch=batch).save(tmp_path_factory.mktemp("fixed"))
    graph = deploy(path, ModelConfig(path=path, class_names=["a", "b", "c"]))
    width, height = graph.preprocessing.input_wh
    frames = np.random.default_rng(3).integers(0, 256, (batch, height, width, 3), np.uint8)
    expected = engine_on_cpu(graph).infer(frames)
    with OnGpu(graph) as engine:
        assert engine.info.max_batch == batch
        for count in range(1, batch + 1):
            found = engine.infer(frames[:count])
            assert np.abs(found[..., 4] - expected[:count, :, 4]).max() < 2e-3


Out = Tuple[Pending, Image, NDArray[np.float32]]


def test_mixed_batches_equal_the_serial_path(
    toolchain: OnnxRuntimeToolchain, engine: OnnxRuntimeCudaEngine, noise: Image
) -> None:
    """Bit for bit what the same batch gives alone; slots are poisoned once they are free.

    cuDNN has other algorithms for other sizes, so a frame's last bits depend on the batch's.
    """
    random = np.random.default_rng(11)
    _, height, width, _ = noise.shape
    shape = (MAX_BATCH, height, width, 3)
    free = deque(toolchain.allocate(shape) for _ in range(engine.in_flight + 1))
    serial: Dict[Tuple[int, int], NDArray[np.float32]] = {}
    for count in range(1, MAX_BATCH + 1):
        for start in range(0, len(noise) - MAX_BATCH, 4):
            serial[start, count] = engine.infer(noise[start : start + count])
    out: Deque[Out] = deque()
    wrong, frames = 0, 0

    def collect() -> None:
        nonlocal wrong
        pending, slot, expected = out.popleft()
        wrong += not np.array_equal(pending.wait(), expected)
        slot[...] = POISON
        free.append(slot)

    for _ in range(BATCHES):
        start, count = 4 * int(random.integers(0, 22)), int(random.integers(1, MAX_BATCH + 1))
        if len(out) == engine.in_flight:
            collect()
        slot = free.popleft()
        slot[:count] = noise[start : start + count]
        out.append((engine.launch(slot[:count]), slot, serial[start, count]))
        frames += count
    while out:
        collect()
    say(f"{BATCHES} batches, {frames} frames, {wrong} wrong")
    assert wrong == 0


def test_stages_are_timed(
    toolchain: OnnxRuntimeToolchain, engine: OnnxRuntimeCudaEngine, noise: Image
) -> None:
    """Each stage of a full batch, from events on the streams."""
    engine.time_every(0.0)
    for _ in range(20):
        engine.infer(noise[:MAX_BATCH])
    times = engine.stage_times[-1]
    say(f"up {times.upload_ms:.3f}, compute {times.compute_ms:.3f}, down {times.download_ms:.3f}")
    assert times.rows == MAX_BATCH
    assert times.compute_ms > 0


def test_engines_are_exchanged_under_load(
    toolchain: OnnxRuntimeToolchain, graph: DeployedGraph, noise: Image
) -> None:
    engines: List[OnnxRuntimeCudaEngine] = [on_gpu(toolchain, graph)]
    seat = EngineSeat(ChunkedEngine(engines[0], MAX_BATCH, lambda cap: None))
    parts = [slice(start, start + 1 + start % MAX_BATCH) for start in range(64)]
    expected = [engines[0].infer(noise[part]) for part in parts]
    wrong: List[int] = []
    stop = threading.Event()
    batches = 0

    def work() -> None:
        nonlocal batches
        while not stop.is_set():
            number = batches % len(parts)
            if not np.array_equal(seat.launch(noise[parts[number]]).wait(), expected[number]):
                wrong.append(number)
            batches += 1

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(5):
        engines.append(on_gpu(toolchain, graph))
        seat.exchange(ChunkedEngine(engines[-1], MAX_BATCH, lambda cap: None))
        engines[-2].close()
    stop.set()
    thread.join(60)
    engines[-1].close()
    say(f"{batches} batches over {len(engines)} engines")
    assert batches > 5
    assert not wrong


def test_a_priority_engine_beside_the_shared_one(
    toolchain: OnnxRuntimeToolchain,
    engine: OnnxRuntimeCudaEngine,
    graph: DeployedGraph,
    noise: Image,
) -> None:
    made = toolchain.derived(1, Lane.PRIORITY)
    priority = on_gpu(made, graph)
    expected = priority.infer(noise[:1])
    for _ in range(50):
        shared = engine.launch(noise[:MAX_BATCH])
        np.testing.assert_array_equal(priority.infer(noise[:1]), expected)
        shared.wait()
    priority.close()
    made.close()


def test_memory_that_runs_out_makes_batches_smaller(
    toolchain: OnnxRuntimeToolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hog takes nearly all of it between the start and the first large batch."""
    monkeypatch.setattr(device, "_in_turn", lambda loops, _: {memory: 9.0 for memory in loops})
    graph = demo_graph()
    frames = np.tile(pictures(graph)[:8], (8, 1, 1, 1))
    caps: List[int] = []
    context = Context()
    engine = LateEngine(graph, 64, context)
    chunked = ChunkedEngine(engine, 64, caps.append)
    with context.current():
        free = context.memory_info().free
        hog = DeviceBuffer(context, free - LEFT_BYTES)
    found = chunked.infer(frames)
    again = chunked.launch(frames).wait()
    say(f"caps {caps}")
    with context.current():
        hog.close()
    engine.close()
    context.close()
    assert caps == sorted(caps, reverse=True)
    assert caps
    assert len(found) == len(again) == 64
    scores = found[:8, :, 4]
    for start in range(0, 64, 8):
        assert np.abs(np.sort(found[start : start + 8, :, 4]) - np.sort(scores)).max() < 2e-3
        assert np.abs(np.sort(again[start : start + 8, :, 4]) - np.sort(scores)).max() < 2e-3


class LateEngine(OnnxRuntimeCudaEngine):
    """Meets its largest batch only when somebody sends it."""

    def _warm_up(self) -> None:
        width, height = self.input_wh
        self.infer(np.zeros((1, height, width, 3), np.uint8))


def test_memory_that_is_missing_at_the_start(toolchain: OnnxRuntimeToolchain) -> None:
    graph = demo_graph()
    context = Context()
    with context.current():
        hog = DeviceBuffer(context, context.memory_info().free - LEFT_BYTES)
    with pytest.raises(EngineOutOfMemory):
        OnnxRuntimeCudaEngine(graph, 64, context)
    with context.current():
        hog.close()
    engine = OnnxRuntimeCudaEngine(graph, 64, context, DeviceOptions(is_high_priority=True))
    assert np.isfinite(engine.infer(pictures(graph)[:8])).all()
    engine.close()
    context.close()
