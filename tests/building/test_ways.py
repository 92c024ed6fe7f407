"""The ways to run batches, on a device engine over a CUDA that does nothing unawaited."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import Callable, Iterator, List, Tuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.building import laps
from edge.building.ways import Lap, Ways
from edge.config.schema import Memory, Precision
from edge.errors import EngineError, EngineHangs, EngineOutOfMemory
from edge.geometry import Image
from edge.inference.device import DeviceEngine, DeviceOptions
from edge.inference.engine import Pending, Synchronous
from edge.inference.overlap import IN_FLIGHT
from edge.records import EngineInfo, StageTimes
from tests.inference.host_cuda import HostCuda
from tests.inference.test_overlap import MAX_BATCH, Sums, frames_of

MS = 1_000_000


@contextmanager
def device(*, is_static: bool = False) -> Iterator[Tuple[DeviceEngine, Sums]]:
    host = HostCuda()
    with host.context() as context:
        program = Sums(host, is_static=is_static)
        program.is_alone = True
        options = DeviceOptions(Memory.COPY, has_graphs=False)
        engine = DeviceEngine(lambda: program, Precision.FP16, context, options)
        program.rows.clear()
        try:
            yield engine, program
        finally:
            engine.close()


def ways_of(engine: DeviceEngine, cap: int = MAX_BATCH) -> Ways:
    return Ways(engine, cap, time.perf_counter_ns, lambda: False)


@pytest.mark.parametrize(
    ("rows", "cap", "calls"),
    [
        pytest.param(1, 4, [1], id="one frame"),
        pytest.param(4, 4, [4], id="as many as the cap"),
        pytest.param(6, 4, [4, 2], id="whole calls and a rest"),
        pytest.param(6, 3, [3, 3], id="whole calls"),
    ],
)
def test_a_device_runs_the_same_batches_in_every_way(rows: int, cap: int, calls: List[int]) -> None:
    with device() as (engine, program):
        ways = ways_of(engine, cap)
        assert ways.has_device
        lap = ways.as_daemon(frames_of(rows, 1), 0)
        assert len(lap.latencies_ns) >= 4  # of which the first is left out of the period
        assert program.rows == calls * len(lap.latencies_ns)
        beside = ways.beside(frames_of(rows, 1), 0)
        assert beside is not None
        assert len(beside.serial.latencies_ns) == 1
        assert min(lap.period_ns, beside.serial.period_ns, beside.compute_ns) > 0
        assert [stage.rows for stage in beside.stages] == calls
        assert set(program.rows) == set(calls)


def test_only_what_is_not_judged_is_timed_on_the_device() -> None:
    with device() as (engine, _):
        ways = ways_of(engine)
        ways.beside(frames_of(2, 1), 0)
        timed = len(engine.stage_times)
        ways.as_daemon(frames_of(2, 1), 0)
        ways.as_daemon(frames_of(2, 1), 0)
        assert len(engine.stage_times) <= timed + 1  # one of many, as always


def test_a_static_network_computes_alone_what_it_was_built_for() -> None:
    with device(is_static=True) as (engine, program):
        ways_of(engine).beside(frames_of(1, 1), 0)
        assert set(program.rows) == {MAX_BATCH}


def test_two_batches_are_out_and_no_more() -> None:
    engine = Gated()
    lap = Ways(engine, 4, time.perf_counter_ns, lambda: False).as_daemon(frames_of(1, 1), 20 * MS)
    assert engine.most_out == IN_FLIGHT
    assert engine.launched == len(lap.latencies_ns)


class Gated(Synchronous):
    """A device that counts what is out, and whose n-th wait may fail."""

    in_flight = IN_FLIGHT
    input_wh = (4, 3)
    info = EngineInfo("gated", "1", "test", "fp32", 4)

    def __init__(self, fail: Callable[[int], None] = lambda number: None) -> None:
        self.fail = fail
        self.launched = self.waited = self.most_out = 0

    def launch(self, frames: Image) -> Pending:
        self.launched += 1
        self.most_out = max(self.most_out, self.launched - self.waited)
        return Waiting(self, len(frames))

    def infer(self, frames: Image) -> NDArray[np.float32]:
        return self.launch(frames).wait()

    def compute_alone(self, rows: int, batches: int) -> None:
        self.computed = (rows, batches)

    def time_every(self, seconds: float) -> None:
        self.every_s = seconds

    def close(self) -> None:
        self.launched = 0


class Waiting:
    def __init__(self, engine: Gated, count: int) -> None:
        self._engine = engine
        self._count = count

    def wait(self) -> NDArray[np.float32]:
        time.sleep(0.001)  # long enough for a second to be launched
        self._engine.waited += 1
        self._engine.fail(self._engine.waited)
        return np.zeros((self._count, 1, 6), np.float32)


@pytest.mark.parametrize("error", [EngineError("it fell off the bus"), MemoryError("no room")])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_batch_that_fails_ends_the_lap_with_its_error(number: int, error: Exception) -> None:
    def fail(waited: int) -> None:
        if waited >= number:
            raise error

    ways = Ways(Gated(fail), 4, time.perf_counter_ns, lambda: False)
    with pytest.raises(type(error), match=str(error)):
        ways.as_daemon(frames_of(1, 1), 1000 * MS)


def test_a_bug_while_collecting_ends_it_too(caplog: pytest.LogCaptureFixture) -> None:
    def fail(waited: int) -> None:
        raise KeyError("bug")

    ways = Ways(Gated(fail), 4, time.perf_counter_ns, lambda: False)
    with pytest.raises(KeyError, match="bug"):
        ways.as_daemon(frames_of(1, 1), 1000 * MS)
    assert "thread collecting died" in caplog.text


def test_out_of_memory_on_the_way_is_not_passed_over() -> None:
    def fail(waited: int) -> None:
        if waited == 2:
            raise EngineOutOfMemory("no room")

    ways = Ways(Gated(fail), 4, time.perf_counter_ns, lambda: False)
    with pytest.raises(EngineOutOfMemory, match="only 1 fit into one call"):
        ways.as_daemon(frames_of(2, 1), 0)


@pytest.mark.parametrize("launches", [1, 100], ids=["its last batch", "one of many"])
def test_a_device_that_hangs_ends_the_lap(launches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    may_end = threading.Event()
    monkeypatch.setattr(laps, "_PATIENCE_S", 1)
    engine = Gated(lambda waited: assert_true(may_end.wait(30)))
    with pytest.raises(EngineHangs, match="no result for 1 s: the device hangs"):
        laps.overlapped(
            engine,
            lambda number: frames_of(1, 1),
            laps.exactly(launches),
            time.perf_counter_ns,
        )
    may_end.set()


def assert_true(fact: bool) -> None:
    assert fact


class Processor(Synchronous):
    input_wh = (4, 3)
    info = EngineInfo("host", "1", "cpu", "fp32", 4)
    stage_times: Tuple[StageTimes, ...] = ()

    def infer(self, frames: Image) -> NDArray[np.float32]:
        return np.zeros((len(frames), 1, 6), np.float32)

    def close(self) -> None:
        self.is_closed = True


def test_a_processor_has_one_way() -> None:
    ticks = iter(range(0, 10_000, 5))
    ways = Ways(Processor(), 4, lambda: next(ticks), lambda: False)
    assert not ways.has_device
    # The end is set at 0, so at 30; each batch is begun, launched and done between two looks at it.
    assert ways.as_daemon(frames_of(6, 1), 30) == Lap([10, 10], 10.0)
    assert ways.beside(frames_of(6, 1), 20) is None


def test_a_stop_ends_a_lap_after_one_batch() -> None:
    ways = Ways(Processor(), 4, time.perf_counter_ns, lambda: True)
    assert len(ways.as_daemon(frames_of(1, 1), 3600 * 1000 * MS).latencies_ns) == 1
