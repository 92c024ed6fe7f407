"""Two batches on a real device: nothing stale, nothing swapped, nothing written too early."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any, Deque, Iterator, List, Tuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.config.schema import Memory, Precision
from edge.geometry import Image
from edge.inference.chunks import ChunkedEngine
from edge.inference.cuda import PinnedArray
from edge.inference.device import DeviceOptions
from edge.inference.engine import Pending
from edge.inference.replay import STEADY
from edge.inference.seat import EngineSeat
from edge.inference.tensorrt import TensorRtEngine
from tests.gpu.workbench import MAX_BATCH, Workbench, say

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(580)]

BATCHES = int(os.environ.get("EDGE_GPU_BATCHES", "10000"))
POISON = 0xA5
ROWS = 20  # of a slot: up to three chunks


WAYS = {
    "copied": DeviceOptions(Memory.COPY),
    "mapped": DeviceOptions(Memory.MAPPED),
    "kernel by kernel": DeviceOptions(Memory.COPY, has_graphs=False),
    "before others": DeviceOptions(Memory.COPY, is_high_priority=True),
}


@pytest.fixture(scope="module", params=list(WAYS.values()), ids=list(WAYS))
def engine(small: Workbench, request: pytest.FixtureRequest) -> Iterator[TensorRtEngine]:
    plan = small.plan(Precision.FP16)
    engine = TensorRtEngine(plan, Precision.FP16, small.context, request.param)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def alone(engine: TensorRtEngine, noise: Image) -> NDArray[np.float32]:
    """What each frame gives by itself, one after the other."""
    return np.concatenate([engine.infer(frame[None]) for frame in noise])


class Slots:
    """Pinned slots that are poisoned as soon as they are given back."""

    def __init__(self, small: Workbench, count: int) -> None:
        self._context = small.context
        width, height = small.graph.preprocessing.input_wh
        with self._context.current():
            shape = (ROWS, height, width, 3)
            self._arrays = [
                PinnedArray(self._context, shape, np.uint8, is_mapped=True) for _ in range(count)
            ]
        self.free: Deque[PinnedArray] = deque(self._arrays)

    def give_back(self, slot: PinnedArray) -> None:
        slot.array[...] = POISON
        self.free.append(slot)

    def close(self) -> None:
        with self._context.current():
            for array in self._arrays:
                array.close()


def runs_of_sizes(random: np.random.Generator) -> Iterator[int]:
    """Mixed, and at times the same for long enough that batches are recorded."""
    while True:
        size = int(random.integers(1, (ROWS if random.random() < 0.1 else MAX_BATCH) + 1))
        yield from [size] * int(random.choice([1, 1, 1, 2, 5, 3 * STEADY]))


Out = Tuple[Pending, PinnedArray, NDArray[np.int64]]


def test_mixed_batches_equal_the_serial_path(
    small: Workbench, engine: TensorRtEngine, noise: Image, alone: NDArray[np.float32]
) -> None:
    random = np.random.default_rng(11)
    slots = Slots(small, 4)
    seat = EngineSeat(ChunkedEngine(engine, MAX_BATCH, lambda cap: None))
    out: Deque[Out] = deque()
    frames = wrong = 0

    def collect() -> None:
        nonlocal wrong
        pending, slot, chosen = out.popleft()
        wrong += not np.array_equal(pending.wait(), alone[chosen])
        slots.give_back(slot)

    sizes = runs_of_sizes(random)
    for _ in range(BATCHES):
        chosen = random.integers(0, len(noise), next(sizes))
        while len(out) == 2 or (len(chosen) > MAX_BATCH and out):
            collect()
        slot = slots.free.popleft()
        slot.array[: len(chosen)] = noise[chosen]
        out.append((seat.launch(slot.array[: len(chosen)]), slot, chosen))
        if len(chosen) > MAX_BATCH:
            collect()
        frames += len(chosen)
    while out:
        collect()
    slots.close()
    say(f"{BATCHES} batches, {frames} frames, {wrong} wrong")
    assert wrong == 0


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_memory_stays_flat(small: Workbench, engine: TensorRtEngine, noise: Image) -> None:
    def run(batches: int) -> Tuple[float, int]:
        random = np.random.default_rng(batches)
        sizes = runs_of_sizes(random)
        for _ in range(batches):
            count = min(next(sizes), MAX_BATCH)
            engine.launch(noise[:count]).wait()
        with small.context.current():
            return resident_mb(), small.context.memory_info().free

    before_mb, before_free = run(BATCHES // 5)
    after_mb, after_free = run(2 * BATCHES)
    say(f"resident {before_mb:.1f}, then {after_mb:.1f} MB; GPU {before_free}, then {after_free}")
    assert after_mb - before_mb < 5
    assert before_free - after_free <= 2 << 20


# In a process of its own: after a fault of the device nothing works any more.
FAULT = """
import ctypes
import sys
import numpy as np
from edge.config.schema import Precision
from edge.errors import CudaError
from edge.inference.cuda import Context
from edge.inference.tensorrt import TensorRtEngine

PTX = b".version 6.0 .target sm_70 .address_size 64 .visible .entry fault() { trap; }"
context = Context()
engine = TensorRtEngine(open(sys.argv[1], "rb").read(), Precision.FP16, context)
width, height = engine.input_wh
with context.current():
    module, fault = ctypes.c_void_p(), ctypes.c_void_p()
    context.driver.call("cuModuleLoadData", ctypes.byref(module), PTX)
    context.driver.call("cuModuleGetFunction", ctypes.byref(fault), module, b"fault")
    context.driver.call("cuLaunchKernel", fault, *[1] * 6, 0, None, None, None)
for _ in range(9):
    try:
        engine.infer(np.zeros((1, height, width, 3), np.uint8))
    except CudaError as error:
        print("failed:", error)
        break
engine.close()
try:
    context.close()
except CudaError as error:
    print("closing:", error)
"""


def test_a_fault_of_the_device_is_an_error_and_no_abort(small: Workbench, tmp_path: Path) -> None:
    path = tmp_path / "engine.plan"
    path.write_bytes(small.plan(Precision.FP16))
    command = [sys.executable, "-c", FAULT, str(path)]
    result = subprocess.run(command, capture_output=True, check=False, text=True)
    say(f"exit {result.returncode}: {result.stdout} {result.stderr}")
    assert result.returncode == 0
    assert result.stdout.startswith("failed: cu")
    assert "PyCUDA" not in result.stderr


def test_engines_are_exchanged_under_load(
    small: Workbench, noise: Image, engine: TensorRtEngine, alone: NDArray[np.float32]
) -> None:
    plan = small.plan(Precision.FP16)

    def made() -> TensorRtEngine:
        return TensorRtEngine(plan, Precision.FP16, small.context)

    engines: List[TensorRtEngine] = [made()]
    seat = EngineSeat(ChunkedEngine(engines[0], MAX_BATCH, lambda cap: None))
    wrong: List[Any] = []
    stop = threading.Event()
    batches = 0

    def work() -> None:
        nonlocal batches
        while not stop.is_set():
            start = batches % (len(noise) - MAX_BATCH)
            part = slice(start, start + 1 + batches % MAX_BATCH)
            if not np.array_equal(seat.launch(noise[part]).wait(), alone[part]):
                wrong.append(part)
            batches += 1

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(10):
        engines.append(made())
        seat.exchange(ChunkedEngine(engines[-1], MAX_BATCH, lambda cap: None))
        engines[-2].close()
    stop.set()
    thread.join(60)
    engines[-1].close()
    say(f"{batches} batches over {len(engines)} engines")
    assert batches > 10
    assert not wrong
