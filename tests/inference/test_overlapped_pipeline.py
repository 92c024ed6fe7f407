"""The whole loop on a CUDA that is lazy on purpose: pipeline, chunks and seat over the overlap."""

from __future__ import annotations

import contextlib
import threading
from contextlib import ExitStack
from typing import List, Tuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.batching.lane_queue import LaneQueue
from edge.batching.ring import SlotRing
from edge.clock import SystemClock
from edge.config.schema import Precision
from edge.errors import EngineOutOfMemory
from edge.geometry import Image, Letterbox
from edge.inference.chunks import ChunkedEngine
from edge.inference.cuda import Context, PinnedArray, Stream
from edge.inference.device import DeviceEngine
from edge.inference.overlap import IN_FLIGHT
from edge.inference.pipeline import Pipeline
from edge.inference.seat import EngineSeat
from edge.records import (
    Batch,
    BatchItem,
    BatchResult,
    FrameInfo,
    TimestampSource,
)
from tests.inference.host_cuda import POISON, HostCuda
from tests.inference.test_overlap import HEIGHT, MAX_BATCH, WIDTH, Sums, frames_of, sums

ROWS = 10  # of a slot: up to three chunks
SLOTS = IN_FLIGHT + 2
HANG_S = 30.0
LETTERBOX = Letterbox.fit((WIDTH, HEIGHT), (WIDTH, HEIGHT))


class Tight(Sums):
    """A program whose device has room for so many rows only."""

    def __init__(self, host: HostCuda) -> None:
        super().__init__(host)
        self.room = MAX_BATCH

    def enqueue(
        self, rows: int, frames_pointer: int, detections_pointer: int, stream: Stream
    ) -> None:
        if rows > self.room:
            raise EngineOutOfMemory(f"no room for {rows} rows")
        super().enqueue(rows, frames_pointer, detections_pointer, stream)


class HostEngine(DeviceEngine):
    """The product's own engine, on the CUDA of the host."""

    def __init__(self, context: Context, program: Tight) -> None:
        self.program = program
        super().__init__(lambda: program, Precision.FP32, context)


class Line:
    """Slots, pipeline and engine; batches go in, detections come out, and everything is freed."""

    def __init__(self, room: int = MAX_BATCH) -> None:
        self.host = HostCuda()
        self._stack = ExitStack()
        self.context = self._stack.enter_context(self.host.context())
        self._stack.callback(self._free)
        self._pinned: List[PinnedArray] = []
        self.engines: List[HostEngine] = []
        self.caps: List[int] = []
        self.failures: List[str] = []
        self.expected: List[NDArray[np.float32]] = []
        self.results: List[BatchResult] = []
        self._room = threading.Event()
        self._ring = SlotRing(SLOTS, ROWS, (WIDTH, HEIGHT), self._allocate)
        self.seat = EngineSeat(self.engine(room))
        self.pipeline = Pipeline(
            self.seat, LaneQueue(4), self._on_result, SystemClock(), self._on_failure, SLOTS - 1
        )
        self.pipeline.start(self._room.set, lambda info: None)

    def engine(self, room: int = MAX_BATCH) -> ChunkedEngine:
        made = HostEngine(self.context, Tight(self.host))
        made.program.room = room  # less than when it was loaded
        self.engines.append(made)
        return ChunkedEngine(made, MAX_BATCH, self.caps.append)

    def submit(self, count: int) -> None:
        number = len(self.expected)
        slot = self._ring.acquire()
        while slot is None or not self.pipeline.can_take():
            assert not self.failures, self.failures
            assert self._room.wait(HANG_S)
            self._room.clear()
            slot = slot or self._ring.acquire()
        slot.rows[...] = POISON  # what is left of the batch before must not be seen
        frames = frames_of(count, number)
        slot.rows[:count] = frames
        self.expected.append(sums(frames))
        items = tuple(self._item(number, row) for row in range(count))
        self.pipeline.submit(Batch(number, slot, items, 0, 0))

    def end(self) -> None:
        """Everything that went in has come out, in order and its own, and nothing is left."""
        try:
            assert self.pipeline.stop(HANG_S), self.failures
            assert [result.batch.batch_id for result in self.results] == list(
                range(len(self.expected))
            )
            for result, expected in zip(self.results, self.expected):
                np.testing.assert_array_equal(result.detections, expected)
            assert not self.failures
        finally:
            self._stack.close()

    def _on_result(self, result: BatchResult) -> None:
        self.results.append(result)

    def _on_failure(self, name: str, error: BaseException) -> None:
        self.failures.append(f"{name}: {error}")
        self._room.set()

    def _allocate(self, shape: Tuple[int, int, int, int]) -> Image:
        with self.context.current():
            self._pinned.append(PinnedArray(self.context, shape, np.uint8))
        rows: Image = self._pinned[-1].array
        return rows

    def _free(self) -> None:
        for engine in self.engines:
            engine.close()
        with self.context.current():
            for array in self._pinned:
                array.close()

    @staticmethod
    def _item(number: int, row: int) -> BatchItem:
        info = FrameInfo(f"cam{row}", number, (WIDTH, HEIGHT), 0, 0, TimestampSource.RECEIVE)
        return BatchItem(info, LETTERBOX)


@settings(max_examples=40)
@given(counts=st.lists(st.integers(1, ROWS), min_size=1, max_size=40))
def test_mixed_batches_come_out_in_order_each_its_own(counts: List[int]) -> None:
    line = Line()
    for count in counts:
        line.submit(count)
    line.end()


@settings(max_examples=20)
@given(counts=st.lists(st.integers(1, ROWS), min_size=1, max_size=20), room=st.integers(1, 3))
def test_memory_that_runs_out_loses_and_doubles_nothing(counts: List[int], room: int) -> None:
    line = Line(room)
    for count in counts:
        line.submit(count)
    line.end()
    assert line.caps == sorted(line.caps, reverse=True)
    assert all(cap >= 1 for cap in line.caps)
    if max(counts) > room:
        assert line.caps
        assert line.seat.engine.cap <= room


@settings(max_examples=20)
@given(counts=st.lists(st.integers(1, ROWS), min_size=4, max_size=30), data=st.data())
def test_engines_are_exchanged_between_batches(counts: List[int], data: st.DataObject) -> None:
    line = Line()
    for count in counts:
        if data.draw(st.booleans()):
            line.seat.exchange(line.engine())
            line.engines[-2].close()
        line.submit(count)
    line.end()


def test_an_engine_that_dies_stops_the_pipeline_and_says_why() -> None:
    line = Line()
    line.submit(2)
    line.engines[0].program.fails = True
    while not line.failures:
        with contextlib.suppress(AssertionError):  # nobody takes it any more
            line.submit(1)
    assert "fell off the bus" in line.failures[0]
    line.pipeline.stop(HANG_S)
    assert [failure.split(":")[0] for failure in line.failures] == ["inference"]
    line.expected.clear()
    line.results.clear()
    line.failures.clear()
    line._stack.close()


def test_a_wait_that_fails_stops_the_pipeline_too() -> None:
    line = Line()
    line.host.fail["cuEventSynchronize"] = "CUDA_ERROR_LAUNCH_FAILED"
    line.submit(1)
    assert line._room.wait(HANG_S)
    assert line.failures == ["completion: cuEventSynchronize failed: CUDA_ERROR_LAUNCH_FAILED"]
    assert not line.pipeline.can_take()
    line.host.fail.clear()
    line.pipeline.stop(HANG_S)
    assert len(line.pipeline.abandoned) == 1
    line._stack.close()
