from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Callable, List, Optional, Tuple, Union

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.batching.lane_queue import LaneQueue
from edge.building.graph import deploy
from edge.clock import Clock, ManualClock, SystemClock
from edge.config.schema import EngineConfig, ModelConfig
from edge.errors import EngineError
from edge.geometry import Image, Letterbox
from edge.inference.chunks import ChunkedEngine
from edge.inference.engine import Engine, Synchronous
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.inference.pipeline import Pipeline
from edge.records import (
    Batch,
    BatchItem,
    BatchResult,
    EngineInfo,
    FrameInfo,
    Lane,
    Slot,
    TimestampSource,
)
from edge.threads import OnFailure
from tests.building.tiny_detectors import TinyDetector, random_frames, reference_detections
from tests.inference.async_engine import AsyncEngine, Permits

HANG_S = 30.0
INPUT_WH = (8, 8)

RELEASED: List[int] = []
"""The slots that came back, in order; each bench starts it afresh."""


class EchoEngine(Synchronous):
    """Detects each frame's first byte, under the test's control: waits, fails, takes time."""

    def __init__(self, max_batch: int = 4, clock: Optional[ManualClock] = None) -> None:
        self.input_wh = INPUT_WH
        self.info = EngineInfo("echo", "1", "test", "fp32", max_batch)
        self.gate = threading.Semaphore(10_000)
        self.sizes: List[int] = []
        self.fails_at: Optional[int] = None
        self.has_begun = threading.Event()
        self._clock = clock

    def let_through(self, calls: int) -> None:
        for _ in range(calls):
            self.gate.release()

    def infer(self, frames: Image) -> NDArray[np.float32]:
        self.has_begun.set()
        assert self.gate.acquire(timeout=HANG_S)
        self.sizes.append(len(frames))
        if len(self.sizes) == self.fails_at:
            raise EngineError("the device fell off the bus")
        if self._clock is not None:
            self._clock.advance_ms(5)
        detections = np.zeros((len(frames), 1, 6), np.float32)
        detections[:, 0, 0] = frames[:, 0, 0, 0]
        return detections

    def close(self) -> None:
        self.gate.release()

    def hold(self) -> None:
        """From now on `infer` waits to be let through."""
        self.gate = threading.Semaphore(0)


def make_pipeline(
    engine: Engine,
    on_result: Callable[[BatchResult], None],
    clock: Clock,
    on_failure: OnFailure,
    depth: int,
) -> Pipeline:
    chunked = ChunkedEngine(engine, engine.info.max_batch, lambda cap: None)
    return Pipeline(chunked, LaneQueue(burst=2), on_result, clock, on_failure, depth)


class Bench:
    """A pipeline with everything it tells written down."""

    def __init__(self, engine: Engine, depth: int = 1) -> None:
        self.results: List[BatchResult] = []
        self.released = RELEASED
        self.released.clear()
        self.failures: List[Tuple[str, BaseException]] = []
        self.stale: List[Tuple[str, int]] = []
        self.told = threading.Condition()
        self.on_result: Callable[[BatchResult], None] = lambda result: None
        self.pipeline = make_pipeline(engine, self._result, SystemClock(), self._failure, depth)

    def start(self) -> Pipeline:
        self.pipeline.start(self._room, self._stale)
        return self.pipeline

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.told:
            assert self.told.wait_for(condition, HANG_S)

    def feed(self, batches: List[Batch]) -> None:
        """Submits as a batcher does: only when there is room."""
        for batch in batches:
            self.wait(lambda: self.pipeline.can_take() or bool(self.failures))
            self.pipeline.submit(batch)

    def _result(self, result: BatchResult) -> None:
        self.on_result(result)
        with self.told:
            self.results.append(result)
            self.told.notify_all()

    def _room(self) -> None:
        with self.told:
            self.told.notify_all()

    def _stale(self, info: FrameInfo) -> None:
        self.stale.append((info.camera, info.frame_id))

    def _failure(self, thread: str, error: BaseException) -> None:
        with self.told:
            self.failures.append((thread, error))
            self.told.notify_all()


def batch_of(
    batch_id: int, size: int = 2, rows: Optional[Image] = None, lane: Lane = Lane.BATCH
) -> Batch:
    if rows is None:
        rows = np.zeros((size + 1, *INPUT_WH, 3), np.uint8)
        rows[:, 0, 0, 0] = [10 * (batch_id % 20) + i for i in range(size + 1)]
    info = FrameInfo("cam", batch_id, INPUT_WH, 1, 2, TimestampSource.RECEIVE)
    items = (BatchItem(info, Letterbox.fit(INPUT_WH, INPUT_WH)),) * size
    slot = Slot(batch_id, rows, lambda slot: RELEASED.append(slot.index))
    return Batch(batch_id, slot, items, 0, 0, lane)


def firsts(result: BatchResult) -> List[int]:
    return [int(value) for value in result.detections[:, 0, 0]]


def assert_set(event: threading.Event) -> None:
    assert event.wait(HANG_S)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_order_is_kept(depth: int) -> None:
    bench = Bench(EchoEngine(), depth)
    pipeline = bench.start()
    bench.feed([batch_of(i) for i in range(100)])
    assert pipeline.stop(HANG_S)
    assert [r.batch.batch_id for r in bench.results] == list(range(100))
    assert all(firsts(r) == [10 * (i % 20), 10 * (i % 20) + 1] for i, r in enumerate(bench.results))
    assert bench.released == list(range(100))
    assert not bench.failures
    assert (pipeline.in_flight, pipeline.abandoned) == (0, ())


@pytest.mark.parametrize(
    ("size", "chunks"), [(1, [1]), (4, [4]), (5, [4, 1]), (8, [4, 4]), (9, [4, 4, 1])]
)
def test_chunks_are_rejoined(size: int, chunks: List[int]) -> None:
    engine = EchoEngine(max_batch=4)
    bench = Bench(engine)
    bench.start().submit(batch_of(3, size))
    assert bench.pipeline.stop(HANG_S)
    assert engine.sizes == chunks
    assert firsts(bench.results[0]) == [30 + i for i in range(size)]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_slow_engine_holds_the_source_back(depth: int) -> None:
    engine = EchoEngine()
    engine.hold()
    bench = Bench(engine, depth)
    pipeline = bench.start()
    for i in range(depth):
        assert pipeline.can_take()
        pipeline.submit(batch_of(i))
    assert not pipeline.can_take()
    assert pipeline.in_flight == depth
    assert repr(pipeline) == f"<Pipeline {depth} of {depth} in flight>"
    engine.let_through(1)
    bench.wait(lambda: len(bench.released) == 1)
    assert pipeline.can_take()
    engine.let_through(depth)
    assert pipeline.stop(HANG_S)


def test_slow_consumer_holds_the_source_back_but_not_the_slot() -> None:
    """While one result is handed on, the engine works on one more batch, and on no other."""
    go_on = threading.Event()
    bench = Bench(EchoEngine(), depth=1)
    bench.on_result = lambda result: assert_set(go_on)
    pipeline = bench.start()
    pipeline.submit(batch_of(0))
    bench.wait(lambda: len(bench.released) == 1)
    assert bench.released == [0]
    assert pipeline.can_take()
    pipeline.submit(batch_of(1))
    assert not pipeline.can_take()
    assert bench.results == []
    go_on.set()
    bench.wait(lambda: len(bench.results) == 2)
    assert pipeline.can_take()
    assert pipeline.stop(HANG_S)


def test_failing_engine_is_reported_once_and_nothing_hangs() -> None:
    engine = EchoEngine()
    engine.fails_at = 3
    bench = Bench(engine, depth=2)
    pipeline = bench.start()
    bench.feed([batch_of(i) for i in range(6)])
    bench.wait(lambda: bool(bench.failures))
    assert not pipeline.can_take()
    assert not pipeline.stop(HANG_S)
    assert [(name, str(e)) for name, e in bench.failures] == [
        ("inference", "the device fell off the bus")
    ]
    assert [r.batch.batch_id for r in bench.results] == [0, 1]
    assert [b.batch_id for b in pipeline.abandoned] == [2, 3, 4, 5]


def test_failing_consumer_is_reported_once_and_nothing_hangs() -> None:
    def fail(result: BatchResult) -> None:
        raise OSError("no room")

    bench = Bench(EchoEngine(), depth=2)
    bench.on_result = fail
    pipeline = bench.start()
    bench.feed([batch_of(i) for i in range(3)])
    bench.wait(lambda: bool(bench.failures))
    pipeline.stop(HANG_S)
    assert [name for name, _ in bench.failures] == ["results"]
    assert not pipeline.can_take()
    assert [b.batch_id for b in pipeline.abandoned] == [1, 2]


def test_stop_drains_what_was_taken() -> None:
    engine = EchoEngine()
    engine.hold()
    bench = Bench(engine, depth=4)
    pipeline = bench.start()
    for i in range(4):
        pipeline.submit(batch_of(i))
    stopped: List[bool] = []
    stopper = threading.Thread(target=lambda: stopped.append(pipeline.stop(HANG_S)))
    stopper.start()
    engine.let_through(4)
    stopper.join(HANG_S)
    assert stopped == [True]
    assert [r.batch.batch_id for r in bench.results] == [0, 1, 2, 3]
    assert pipeline.stop(HANG_S)


def test_stop_tells_what_it_abandons() -> None:
    engine = EchoEngine()
    engine.hold()
    bench = Bench(engine, depth=3)
    pipeline = bench.start()
    for i in range(3):
        pipeline.submit(batch_of(i))
    assert engine.has_begun.wait(HANG_S)
    assert not pipeline.stop(0.01)
    assert [b.batch_id for b in pipeline.abandoned] == [0, 1, 2]
    engine.let_through(3)
    assert not pipeline.stop(HANG_S)  # its threads have ended, and hand nothing on any more
    assert bench.results == []
    assert engine.sizes == [2]
    assert [b.batch_id for b in pipeline.abandoned] == [0, 1, 2]


def test_batches_after_a_stop_are_abandoned() -> None:
    bench = Bench(EchoEngine())
    pipeline = bench.start()
    assert pipeline.stop(HANG_S)
    assert not pipeline.can_take()
    pipeline.submit(batch_of(7))
    assert [b.batch_id for b in pipeline.abandoned] == [7]
    assert bench.results == []


def test_stop_without_start() -> None:
    bench = Bench(EchoEngine())
    bench.pipeline.submit(batch_of(0))
    assert not bench.pipeline.stop(HANG_S)
    assert len(bench.pipeline.abandoned) == 1


def test_times_and_busy_counter() -> None:
    clock = ManualClock(1_000_000)
    results: List[BatchResult] = []
    pipeline = make_pipeline(EchoEngine(clock=clock), results.append, clock, _fail, 4)
    pipeline.start(lambda: None, lambda info: None)
    pipeline.submit(batch_of(0, 2))
    pipeline.submit(batch_of(1, 8))
    assert pipeline.stop(HANG_S)
    assert [(r.started_ns, r.done_ns) for r in results] == [
        (1_000_000, 6_000_000),
        (6_000_000, 16_000_000),
    ]
    assert pipeline.busy_ns == 15_000_000


def _fail(thread: str, error: BaseException) -> None:
    raise AssertionError(thread) from error


@pytest.mark.parametrize("depth", [0, -1])
def test_depth_must_be_positive(depth: int) -> None:
    with pytest.raises(ValueError, match="depth must be positive"):
        Bench(EchoEngine(), depth)


@pytest.mark.parametrize("fixed_batch", ["batch", 3])
def test_real_engine_end_to_end(tmp_path: Path, fixed_batch: Union[str, int]) -> None:
    tiny = TinyDetector(batch=fixed_batch)
    path = tiny.save(tmp_path)
    graph = deploy(path, ModelConfig(path=path, max_candidates=40))
    engine = OnnxRuntimeEngine(graph, EngineConfig(threads=2))
    bench = Bench(engine, depth=2)
    pipeline = bench.start()
    sizes = [1, 7, 8, 9, 20, 2]
    batches = [
        batch_of(i, size, random_frames(24, tiny.input_wh, seed=i)) for i, size in enumerate(sizes)
    ]
    bench.feed(batches)
    assert pipeline.stop(HANG_S)
    assert pipeline.busy_ns > 0
    assert [r.batch.batch_id for r in bench.results] == list(range(len(sizes)))
    for result in bench.results:
        expected = reference_detections(TinyDetector().model(), result.batch.frames, 40)
        np.testing.assert_allclose(result.detections, expected, atol=1e-3)
        assert result.done_ns >= result.started_ns


def test_priority_overtakes_what_is_queued_but_not_what_runs() -> None:
    engine = EchoEngine()
    engine.hold()
    bench = Bench(engine, depth=3)
    pipeline = bench.start()
    for batch_id in range(3):
        pipeline.submit(batch_of(batch_id))
    assert engine.has_begun.wait(HANG_S)  # the first one runs
    pipeline.submit(batch_of(10, 1, lane=Lane.PRIORITY))
    assert not pipeline.can_take()
    engine.let_through(10)
    assert pipeline.stop(HANG_S)
    assert [result.batch.batch_id for result in bench.results] == [0, 10, 1, 2]


def test_priority_batches_leave_room_for_a_shared_one() -> None:
    engine = EchoEngine()
    engine.hold()
    bench = Bench(engine, depth=1)
    pipeline = bench.start()
    for batch_id in range(3):
        pipeline.submit(batch_of(batch_id, 1, lane=Lane.PRIORITY))
    assert pipeline.can_take()
    pipeline.submit(batch_of(3))
    assert not pipeline.can_take()
    engine.let_through(10)
    assert pipeline.stop(HANG_S)
    assert len(bench.results) == 4


def with_limits(batch: Batch, fresh_until_ns: List[Optional[int]]) -> Batch:
    """The batch with a camera for each row, and until when its frame is fresh."""
    items = tuple(
        replace(item, info=replace(item.info, camera=f"cam{row}"), fresh_until_ns=limit_ns)
        for row, (item, limit_ns) in enumerate(zip(batch.items, fresh_until_ns))
    )
    return replace(batch, items=items)


LONG_AGO_NS, NEVER_NS = 1, 2**62


@pytest.mark.parametrize(
    ("fresh_until_ns", "inferred"),
    [
        pytest.param([None, None, None], [0, 1, 2], id="no limit"),
        pytest.param([NEVER_NS, None, NEVER_NS], [0, 1, 2], id="all fresh"),
        pytest.param([LONG_AGO_NS, None, NEVER_NS], [1, 2], id="the first is stale"),
        pytest.param([NEVER_NS, LONG_AGO_NS, None], [0, 2], id="one in the middle"),
        pytest.param([LONG_AGO_NS, None, LONG_AGO_NS], [1], id="one is left"),
        pytest.param([LONG_AGO_NS] * 3, [], id="none is left"),
    ],
)
def test_frames_that_are_stale_when_the_engine_takes_them_are_left_out(
    fresh_until_ns: List[Optional[int]], inferred: List[int]
) -> None:
    bench = Bench(EchoEngine())
    pipeline = bench.start()
    pipeline.submit(with_limits(batch_of(2, 3), fresh_until_ns))
    assert pipeline.stop(HANG_S)
    told = [
        (item.info.camera, first)
        for result in bench.results
        for item, first in zip(result.batch.items, firsts(result))
    ]
    assert told == [(f"cam{row}", 20 + row) for row in inferred]
    assert bench.stale == [(f"cam{row}", 2) for row in range(3) if row not in inferred]
    assert bench.released == [2]
    assert (pipeline.in_flight, pipeline.abandoned) == (0, ())


def test_a_batch_that_is_stale_as_a_whole_makes_room_for_the_next() -> None:
    bench = Bench(EchoEngine(), depth=1)
    pipeline = bench.start()
    pipeline.submit(with_limits(batch_of(0, 1), [LONG_AGO_NS]))
    bench.wait(pipeline.can_take)
    pipeline.submit(batch_of(1))
    assert pipeline.stop(HANG_S)
    assert bench.released == [0, 1]
    assert [result.batch.batch_id for result in bench.results] == [1]


def test_what_waits_can_be_exchanged_until_the_engine_takes_it() -> None:
    engine = EchoEngine()
    engine.hold()
    bench = Bench(engine)
    pipeline = bench.start()
    running, waiting, newer = (batch_of(n, 1, lane=Lane.PRIORITY) for n in range(3))
    pipeline.submit(running)
    assert engine.has_begun.wait(HANG_S)
    pipeline.submit(waiting)
    assert not pipeline.exchange(running, newer)
    assert pipeline.exchange(waiting, newer)
    assert pipeline.in_flight == 2
    engine.let_through(2)
    assert pipeline.stop(HANG_S)
    assert [result.batch.batch_id for result in bench.results] == [0, 2]
    assert bench.released == [0, 2]  # the other one is its owner's again


def test_after_a_stop_nothing_is_exchanged() -> None:
    bench = Bench(EchoEngine())
    waiting, newer = (batch_of(n, 1, lane=Lane.PRIORITY) for n in range(2))
    bench.pipeline.submit(waiting)
    assert not bench.pipeline.stop(0.01)
    assert not bench.pipeline.exchange(waiting, newer)
    assert [batch.batch_id for batch in bench.pipeline.abandoned] == [0]


# --- an engine that works on two at once ----------------------------------------------------------


def test_what_the_engine_cannot_begin_yet_is_overtaken_and_exchanged() -> None:
    permits = Permits()
    permits.hold()
    engine = AsyncEngine(permits)
    bench = Bench(engine, depth=3)
    pipeline = bench.start()
    for number in range(3):
        pipeline.submit(small_batch(number))
    engine.wait_for([0, 1])
    waiting = small_batch(3, Lane.PRIORITY)
    pipeline.submit(waiting)
    assert pipeline.exchange(waiting, small_batch(4, Lane.PRIORITY))
    assert engine.launched == [0, 1]
    permits.give(1)
    engine.wait_for([0, 1, 4])
    permits.free()
    assert pipeline.stop(HANG_S)
    assert engine.launched == [0, 1, 4, 2]
    assert [result.batch.batch_id for result in bench.results] == [0, 1, 4, 2]


def test_an_engine_that_fails_is_given_no_batch_that_waited_for_it() -> None:
    permits = Permits()
    permits.hold()
    engine = AsyncEngine(permits)
    bench = Bench(engine, depth=4)
    pipeline = bench.start()
    for number in range(4):
        pipeline.submit(small_batch(number))
    engine.wait_for([0, 1])
    engine.fails = True
    permits.free()
    bench.wait(lambda: bool(bench.failures))
    assert not pipeline.stop(HANG_S)
    assert pipeline.has_ended
    assert engine.launched == [0, 1]
    assert [name for name, _ in bench.failures] == ["completion"]
    assert [batch.batch_id for batch in pipeline.abandoned] == [0, 1, 2, 3]


def small_batch(number: int, lane: Lane = Lane.BATCH) -> Batch:
    return batch_of(number, 1, np.full((1, 2, 2, 3), number, np.uint8), lane)


def test_an_engine_is_silent_from_its_last_answer_on_while_it_has_work() -> None:
    permits = Permits()
    permits.hold()
    engine = AsyncEngine(permits)
    bench = Bench(engine, depth=3)
    pipeline = bench.start()
    assert pipeline.silent_since_ns is None
    for batch_id in range(2):
        pipeline.submit(batch_of(batch_id))
    engine.wait_for([0, 10])
    first_ns = pipeline.silent_since_ns
    assert first_ns is not None
    permits.give(1)
    bench.wait(lambda: len(bench.results) == 1)
    second_ns = pipeline.silent_since_ns
    assert second_ns == bench.results[0].done_ns > first_ns
    permits.free()
    assert pipeline.stop(HANG_S)
    assert pipeline.silent_since_ns is None


@pytest.mark.parametrize("is_async", [False, True], ids=["at once", "overlapped"])
def test_what_only_waits_for_a_slow_consumer_is_no_silence(is_async: bool) -> None:
    goes_on = threading.Event()
    engine: Engine = AsyncEngine(Permits()) if is_async else EchoEngine()
    bench = Bench(engine, depth=2)
    bench.on_result = lambda result: assert_true(goes_on.wait(HANG_S))
    pipeline = bench.start()
    for batch_id in range(3):
        pipeline.submit(batch_of(batch_id))
    wait_until(lambda: pipeline.in_flight == 2 and pipeline.silent_since_ns is None)
    goes_on.set()
    assert pipeline.stop(HANG_S)
    assert len(bench.results) == 3


def assert_true(fact: bool) -> None:
    assert fact


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
