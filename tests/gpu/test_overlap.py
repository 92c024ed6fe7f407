"""Two batches on a real device: nothing stale, nothing swapped, nothing written too early."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Any, Deque, Iterator, List, Tuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.config.schema import Precision
from edge.geometry import Image
from edge.inference.chunks import ChunkedEngine
from edge.inference.cuda import PinnedArray
from edge.inference.engine import Pending
from edge.inference.seat import EngineSeat
from edge.inference.tensorrt import TensorRtEngine
from tests.gpu.workbench import MAX_BATCH, Workbench, say

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(580)]

BATCHES = int(os.environ.get("EDGE_GPU_BATCHES", "10000"))
POISON = 0xA5
ROWS = 20  # of a slot: up to three chunks


@pytest.fixture(scope="module")
def engine(small: Workbench) -> Iterator[TensorRtEngine]:
    engine = TensorRtEngine(small.plan(Precision.FP16), Precision.FP16, small.context)
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
            self._arrays = [
                PinnedArray(self._context, (ROWS, height, width, 3), np.uint8) for _ in range(count)
            ]
        self.free: Deque[PinnedArray] = deque(self._arrays)

    def give_back(self, slot: PinnedArray) -> None:
        slot.array[...] = POISON
        self.free.append(slot)

    def close(self) -> None:
        with self._context.current():
            for array in self._arrays:
                array.close()


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

    for number in range(BATCHES):
        largest = ROWS if number % 16 == 0 else MAX_BATCH
        chosen = random.integers(0, len(noise), random.integers(1, largest + 1))
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


def test_engines_are_exchanged_under_load(
    small: Workbench, noise: Image, alone: NDArray[np.float32]
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
