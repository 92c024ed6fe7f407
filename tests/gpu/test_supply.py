"""Engines of smaller batches where memory runs out, and of priority frames, on a real device.

Both come from the product's own supply, built in child processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.building.graph import deploy
from edge.building.plan import BuildPlan
from edge.building.supply import EngineSupply, open_supply
from edge.clock import SystemClock
from edge.config.schema import Config
from edge.geometry import Image
from edge.inference import tensorrt
from edge.inference.cuda import Context, Stream
from edge.inference.device import DeviceEngine
from edge.records import EngineState, EngineStatus
from tests.building.tiny_detectors import TinyDetector
from tests.gpu.workbench import OPTIONS, say

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(580)]

TENSORRT: Dict[str, Any] = {
    "backend": "tensorrt",
    "workspace_mb": 256,
    "tactic_sources": [source.value for source in OPTIONS.tactic_sources or ()],
}
ONNXRUNTIME: Dict[str, Any] = {"backend": "onnxruntime", "device": "cuda"}
TRIALS = 300
PATIENCE_S = 60.0


class Starts:
    """A folder that several starts of the daemon share."""

    def __init__(self, folder: Path, engine: Dict[str, Any]) -> None:
        self.told: List[EngineStatus] = []
        self.folder = folder
        path = TinyDetector().save(folder)
        self._config = Config.model_validate(
            {
                "device": {"state_dir": folder / "state"},
                "model": {"path": path, "class_names": ["a", "b", "c"]},
                "engine": {"max_batch": 8, **engine},
                "cameras": [{"name": "a", "uri": "synthetic://1"}],
            }
        )
        self.graph = deploy(path, self._config.model)

    @contextlib.contextmanager
    def start(self) -> Iterator[EngineSupply]:
        plan, stop = BuildPlan.of(self._config, None), threading.Event()
        supply = open_supply(plan, self.graph, self.told.append, SystemClock(), stop)
        with contextlib.closing(supply):
            yield supply


def opened(supply: EngineSupply) -> DeviceEngine:
    began_s = time.monotonic()
    found = supply.open_first(threading.Event())
    assert found is not None
    precision, engine = found
    assert isinstance(engine, DeviceEngine)
    supply.serves(precision)
    say(f"{precision.value}, up to {engine.info.max_batch}, {time.monotonic() - began_s:.1f} s")
    return engine


@pytest.fixture(scope="module")
def starts(context: Context, tmp_path_factory: pytest.TempPathFactory) -> Starts:
    if importlib.util.find_spec("tensorrt") is None:
        pytest.skip("no TensorRT")
    return Starts(tmp_path_factory.mktemp("tensorrt"), TENSORRT)


def frames_for(starts: Starts, count: int) -> Image:
    width, height = starts.graph.preprocessing.input_wh
    return np.random.default_rng(5).integers(0, 256, (count, height, width, 3), np.uint8)


def assert_alike(found: NDArray[np.float32], reference: NDArray[np.float32]) -> None:
    """Scores of the same frames by engines of the same network, whose kernels may be others."""
    assert found.shape == reference.shape
    assert float(np.abs(found[..., 4] - reference[..., 4]).max()) < 0.01


def test_out_of_memory_at_load_ends_in_an_engine_that_serves(starts: Starts) -> None:
    frames = frames_for(starts, 8)
    with starts.start() as supply, contextlib.closing(opened(supply)) as engine:
        assert engine.info.max_batch == 8
        reference = engine.infer(frames)
        program: Any = engine._program
        needed = tensorrt._activation_bytes(program._open_engine)
    say(f"8 frames need {needed} bytes")
    assert needed > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorrt, "free_bytes", lambda context: needed - 1)
        with starts.start() as supply, contextlib.closing(opened(supply)) as engine:
            limit = engine.info.max_batch
            assert limit in (1, 2, 4)
            found = [engine.infer(frames[i : i + limit]) for i in range(0, 8, limit)]
    assert_alike(np.concatenate(found), reference)
    # Memory is there again, but nobody has said so.
    with starts.start() as supply, contextlib.closing(opened(supply)) as engine:
        assert engine.info.max_batch == limit
        assert list(supply.status.cache.values()) == ["hit"]
        assert f"at most {limit} frames at once" in supply.status.message


@pytest.fixture(params=[TENSORRT, ONNXRUNTIME], ids=["tensorrt", "onnxruntime"])
def both(request: pytest.FixtureRequest, context: Context, tmp_path: Path) -> Starts:
    if request.param is TENSORRT:
        made: Starts = request.getfixturevalue("starts")  # its engine is built by now
        return made
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime without its CUDA provider")
    return Starts(tmp_path, ONNXRUNTIME)


def test_a_priority_engine_goes_first_and_finds_the_same(both: Starts) -> None:
    told: List[EngineStatus] = []
    width, height = both.graph.preprocessing.input_wh
    with contextlib.ExitStack() as held:
        supply = held.enter_context(both.start())
        shared = held.enter_context(contextlib.closing(opened(supply)))
        own = supply.for_priority(told.append)
        priority = held.enter_context(contextlib.closing(opened(own)))
        assert (told[-1].state, priority.info.max_batch) == (EngineState.SERVING, 1)
        assert priority_of(shared) == 0
        assert priority_of(priority) < 0
        rows = supply.allocate((shared.info.max_batch, height, width, 3))
        rows[...] = frames_for(both, len(rows))
        row = supply.allocate((1, height, width, 3))
        row[...] = rows[:1]
        batches, singles = side_by_side((shared, rows), (priority, row))
        del rows, row  # they end with the supply
    for found in batches:
        assert np.array_equal(found, batches[0])
    for found in singles:
        assert np.array_equal(found, singles[0])
    assert_alike(singles[0], batches[0][:1])


def side_by_side(
    *work: Tuple[DeviceEngine, Image],
) -> Tuple[List[NDArray[np.float32]], List[NDArray[np.float32]]]:
    """What each engine finds in its frames, again and again, while the other runs too."""
    found: Tuple[List[NDArray[np.float32]], List[NDArray[np.float32]]] = ([], [])

    def run(number: int) -> None:
        engine, frames = work[number]
        found[number].extend(engine.infer(frames) for _ in range(TRIALS))

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [len(results) for results in found] == [TRIALS, TRIALS]
    return found


def priority_of(engine: DeviceEngine) -> int:
    """What the driver says of the stream the engine computes on; less goes first."""
    stream: Stream = engine._loop._compute
    priority = ctypes.c_int()
    driver: Any = ctypes.CDLL("libcuda.so.1")
    with engine._context.current():
        handle = ctypes.c_void_p(stream.handle)
        assert driver.cuStreamGetPriority(handle, ctypes.byref(priority)) == 0
    return priority.value
