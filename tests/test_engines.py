"""The daemon's engines over courses that no CPU can take: a script stands for the workshop."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.building.engine_store import Hit
from edge.building.gate_report import Verdict
from edge.building.loader import Loader
from edge.building.supply import EngineSupply
from edge.building.worker import Task
from edge.clock import ManualClock
from edge.commands.refusal import Refused
from edge.config.schema import Config, Precision
from edge.engines import Engines
from edge.errors import (
    BuildError,
    CudaError,
    EngineError,
    EngineHangs,
    EngineOutOfMemory,
    ModelError,
)
from edge.geometry import Image
from edge.records import DeployedGraph, EngineInfo, EngineState, EngineStatus, OnProgress
from edge.records import Preprocessing as Spec
from tests.building.test_supply import LOAD_LIMIT_S, Workshop, engine, supply

HANG_S = 30.0
FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
Outcome = Union[Dict[Precision, Hit], BuildError, None]

GRAPH = DeployedGraph(b"", "parts", "0" * 64, "yolov8", Spec((8, 8)), ("bolt",), 10)
GOOD16 = {FP16: engine(FP16, Verdict.PASS), FP32: engine(FP32)}
MAKES_FP16 = {(Task.MAKE_FLOAT, FP16): {FP16: engine(FP16)}}
MAKES_INT8 = {(Task.MAKE_INT8, FP16): {INT8: engine(INT8, Verdict.PASS)}}


class Loaded:
    """An engine that is only looked at."""

    input_wh = (8, 8)

    def __init__(self, precision: Precision, in_flight: int = 1) -> None:
        self.in_flight = in_flight
        self.is_closed = False
        self.info = EngineInfo("script", "1", "test", precision.value, 8)

    def infer(self, frames: Image) -> NDArray[np.float32]:
        raise AssertionError("nothing is inferred here")

    def close(self) -> None:
        self.is_closed = True


class LoadingWorkshop(Workshop):
    """Loads what it has, or fails at it; may set `stop` while it makes something."""

    def __init__(
        self,
        stored: Dict[Precision, Hit],
        made: Mapping[Tuple[Task, Precision], Outcome],
        cannot_load: Optional[Mapping[Precision, Exception]] = None,
        stop_at: Optional[Task] = None,
    ) -> None:
        super().__init__(stored, made)
        self.cannot_load = cannot_load or {}
        self.stop_at = stop_at
        self.mends = False  # what is made anew can be loaded
        self.stop = threading.Event()
        self.loaded: List[Precision] = []
        self.in_flight = 1
        self.is_closed = False

    def run(self, task: Task, precision: Precision, on_progress: OnProgress) -> bool:
        is_done = super().run(task, precision, on_progress)
        if self.mends:
            made = INT8 if task is Task.MAKE_INT8 else precision
            self.cannot_load = {p: e for p, e in self.cannot_load.items() if p is not made}
        if task is self.stop_at:
            self.stop.set()
        return is_done

    def load(self, data: bytes, precision: Precision) -> Loaded:
        if precision in self.cannot_load:
            raise self.cannot_load[precision]
        super().load(data, precision)
        self.loaded.append(precision)
        return Loaded(precision, self.in_flight)

    def close(self) -> None:
        self.is_closed = True


class Bench:
    """Engines of a workshop, and whatever they tell and exchange."""

    def __init__(
        self,
        workshop: LoadingWorkshop,
        monkeypatch: pytest.MonkeyPatch,
        wanted: Precision = INT8,
        *cameras: Dict[str, Any],
    ) -> None:
        self.told: List[EngineStatus] = []
        self.exchanged: List[str] = []
        self.for_priority: List[str] = []
        self.failures: List[str] = []

        def open_scripted(*arguments: Any) -> EngineSupply:
            on_status = arguments[2]
            return EngineSupply(
                workshop,  # type: ignore[arg-type]  # a script in its place
                wanted,
                on_status,
                ManualClock(),
                Loader(workshop.stop, LOAD_LIMIT_S),
            )

        monkeypatch.setattr("edge.engines.open_supply", open_scripted)
        config = Config.model_validate(
            {
                "model": {"path": Path("parts.onnx")},
                "engine": {"backend": "onnxruntime"},
                "cameras": [{"name": "a", "uri": "synthetic://1"}, *cameras],
            }
        )
        clock = ManualClock()
        self.engines = Engines(config, GRAPH, None, self.told.append, clock, workshop.stop)

    def improve(self) -> None:
        """Lets the improvements come to their end."""
        self.engines.improve(
            lambda better: self.exchanged.append(better.info.precision),
            lambda better: self.for_priority.append(better.info.precision),
            lambda name, error: self.failures.append(repr(error)),
        )
        self.wait()

    def wait(self) -> None:
        """Until nothing is improved any more."""
        assert self.engines._thread is not None
        assert self.engines._thread.join(HANG_S)
        assert self.engines.stop(0)


def test_what_is_better_takes_over_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(LoadingWorkshop(GOOD16, MAKES_INT8), monkeypatch)
    first = bench.engines.first()
    assert first is not None
    assert first.info.precision == "fp16"
    bench.improve()
    assert (bench.exchanged, bench.failures) == (["int8"], [])
    assert (bench.told[-1].state, bench.told[-1].serving) == (EngineState.SERVING, INT8)


@pytest.mark.parametrize(
    "error",
    [
        EngineError("the engine cannot be deserialized"),
        EngineOutOfMemory("no room for a second engine"),
        CudaError("CUDA_ERROR_ILLEGAL_ADDRESS", "cuModuleLoad"),
        ModelError("'parts' cannot be run"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_improvement_that_cannot_be_loaded_leaves_what_serves(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    bench = Bench(LoadingWorkshop(GOOD16, MAKES_INT8, {INT8: error}), monkeypatch)
    assert bench.engines.first() is not None
    bench.improve()
    assert (bench.exchanged, bench.failures) == ([], [])
    last = bench.told[-1]
    assert (last.state, last.serving) == (EngineState.SERVING, FP16)
    assert last.message.startswith(f"the int8 engine cannot serve: {error}")
    assert bench.engines.close(HANG_S)


def test_a_first_engine_that_the_device_cannot_take_is_the_callers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = CudaError("CUDA_ERROR_UNKNOWN", "cuCtxCreate")
    workshop = LoadingWorkshop(GOOD16, {}, {FP16: error})
    with pytest.raises(CudaError):
        Bench(workshop, monkeypatch, FP16).engines.first()
    assert workshop.tasks == []  # a new one would fare no better


def test_a_first_engine_without_room_is_made_for_fewer_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workshop = LoadingWorkshop(GOOD16, MAKES_FP16)
    workshop.fits = 2
    first = Bench(workshop, monkeypatch, FP16).engines.first()
    assert first is not None
    assert workshop.tasks == [(Task.MAKE_FLOAT, FP16)] * 2  # of 4 and of 2 frames


@pytest.mark.parametrize(
    ("refused", "made", "tasks", "serves"),
    [
        pytest.param(
            [FP16, FP32], MAKES_FP16, [(Task.MAKE_FLOAT, FP16)], "fp16", id="fp16 is made anew"
        ),
        pytest.param([FP16], {}, [], "fp32", id="fp32 serves instead of fp16"),
        pytest.param([INT8], {}, [], "fp16", id="fp16 serves instead of int8"),
        pytest.param(
            [INT8, FP16, FP32],
            {**MAKES_FP16, (Task.JUDGE_FLOAT, FP16): GOOD16},
            [(Task.MAKE_FLOAT, FP16)],
            "fp16",
            id="all are refused",
        ),
    ],
)
def test_a_kept_engine_that_cannot_be_loaded_any_more_is_no_reason_to_stop(
    monkeypatch: pytest.MonkeyPatch,
    refused: List[Precision],
    made: Mapping[Tuple[Task, Precision], Outcome],
    tasks: List[Tuple[Task, Precision]],
    serves: str,
) -> None:
    stored = {INT8: engine(INT8, Verdict.PASS), **GOOD16}
    error = EngineError("cannot read the engine")
    workshop = LoadingWorkshop(stored, {**made, **MAKES_INT8}, {one: error for one in refused})
    workshop.mends = True
    bench = Bench(workshop, monkeypatch, INT8 if INT8 in refused else FP16)
    first = bench.engines.first()
    assert first is not None
    assert first.info.precision == serves
    assert workshop.tasks == tasks
    assert bench.told[-1].cache[refused[0]] == "cannot be loaded: cannot read the engine"
    bench.improve()
    assert bench.exchanged == (["int8"] if INT8 in refused else [])


@pytest.mark.parametrize(
    ("refused", "opens"),
    [([], INT8), ([INT8], FP16), ([INT8, FP16], FP32), ([INT8, FP16, FP32], None)],
    ids=str,
)
def test_what_is_ready_and_cannot_be_loaded_is_passed_over(
    refused: List[Precision], opens: Optional[Precision]
) -> None:
    error = EngineError("cannot read the engine")
    stored = {INT8: engine(INT8, Verdict.PASS), **GOOD16}
    workshop = LoadingWorkshop(stored, {}, {one: error for one in refused})
    made, told = supply(workshop, INT8)
    opened = made.open_ready()
    assert (opened and opened[0], workshop.tasks) == (opens, [])
    unloadable = [p for p, why in made.status.cache.items() if why.startswith("cannot be loaded")]
    assert unloadable == refused
    assert told[-1] == made.status


def test_a_new_engine_that_cannot_be_loaded_either_is_the_callers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = EngineError("no numbers")
    made = {**MAKES_FP16, (Task.MAKE_FLOAT, FP32): {FP32: engine(FP32)}}
    workshop = LoadingWorkshop(GOOD16, made, {FP16: error, FP32: error})
    with pytest.raises(EngineError, match="no numbers"):
        Bench(workshop, monkeypatch, FP16).engines.first()
    assert workshop.tasks == [(Task.MAKE_FLOAT, FP16), (Task.MAKE_FLOAT, FP32)]


@pytest.mark.parametrize(
    "made", [{(Task.MAKE_FLOAT, FP16): None}, MAKES_FP16], ids=["given up", "ended first"]
)
def test_a_stop_during_the_first_build_loads_nothing(
    monkeypatch: pytest.MonkeyPatch, made: Mapping[Tuple[Task, Precision], Outcome]
) -> None:
    workshop = LoadingWorkshop({}, made, stop_at=Task.MAKE_FLOAT)
    bench = Bench(workshop, monkeypatch)
    assert bench.engines.first() is None
    assert workshop.loaded == []
    assert bench.engines.stop(0)  # nothing runs
    assert bench.engines.close(HANG_S)
    assert workshop.is_closed


@pytest.mark.parametrize(
    "made", [{(Task.MAKE_INT8, FP16): None}, MAKES_INT8], ids=["given up", "ended first"]
)
def test_a_stop_during_an_improvement_exchanges_nothing(
    monkeypatch: pytest.MonkeyPatch, made: Mapping[Tuple[Task, Precision], Outcome]
) -> None:
    workshop = LoadingWorkshop(GOOD16, made, stop_at=Task.MAKE_INT8)
    bench = Bench(workshop, monkeypatch)
    assert bench.engines.first() is not None
    bench.improve()
    assert (bench.exchanged, bench.failures, workshop.loaded) == ([], [], [FP16])


def test_the_device_is_kept_while_an_improvement_is_still_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_held = threading.Event()
    workshop = LoadingWorkshop(GOOD16, MAKES_INT8)
    run = workshop.run

    def held(task: Task, precision: Precision, on_progress: OnProgress) -> bool:
        assert is_held.wait(HANG_S)
        return run(task, precision, on_progress)

    monkeypatch.setattr(workshop, "run", held)
    bench = Bench(workshop, monkeypatch)
    assert bench.engines.first() is not None
    bench.engines.improve(lambda better: None, lambda better: None, lambda name, error: None)
    assert not bench.engines.stop(0.01)
    assert not bench.engines.close(0.01)
    assert not workshop.is_closed
    is_held.set()
    bench.wait()
    assert bench.engines.close(HANG_S)
    assert workshop.is_closed


class HeldWorkshop(LoadingWorkshop):
    """Loads engines of some precision only once it may."""

    def __init__(self, held: Precision) -> None:
        super().__init__(GOOD16, MAKES_INT8)
        self.held = held
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.engines: List[Loaded] = []

    def load(self, data: bytes, precision: Precision) -> Loaded:
        if precision is self.held:
            self.has_begun.set()
            assert self.may_end.wait(HANG_S)
        self.engines.append(super().load(data, precision))
        return self.engines[-1]


def test_a_device_that_hangs_at_the_start_ends_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = HeldWorkshop(FP16)
    workshop.stored.pop(FP32)
    bench = Bench(workshop, monkeypatch, FP16)
    with pytest.raises(EngineHangs, match="the device hangs"):
        bench.engines.first()
    assert bench.told[-1].cache[FP16].startswith("cannot be loaded: no engine within 1 s")
    # Whoever closed the device would wait for it as well.
    assert not bench.engines.close(HANG_S)
    assert not workshop.is_closed
    workshop.may_end.set()
    wait_until(lambda: len(workshop.engines) == 1 and workshop.engines[0].is_closed)


def test_an_improvement_that_hangs_is_told_and_frames_flow_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workshop = HeldWorkshop(INT8)
    bench = Bench(workshop, monkeypatch)
    assert bench.engines.first() is not None
    bench.improve()
    assert (bench.exchanged, bench.failures) == ([], [])
    last = bench.told[-1]
    assert (last.state, last.serving) == (EngineState.SERVING, FP16)
    assert last.message.startswith("the int8 engine cannot serve: no engine within 1 s")
    assert not bench.engines.close(HANG_S)
    workshop.may_end.set()


def test_a_stop_leaves_what_is_being_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = HeldWorkshop(INT8)
    bench = Bench(workshop, monkeypatch)
    assert bench.engines.first() is not None
    bench.engines.improve(
        lambda better: bench.exchanged.append("better"),
        lambda better: None,
        lambda name, error: bench.failures.append(repr(error)),
    )
    assert workshop.has_begun.wait(HANG_S)
    workshop.stop.set()
    bench.wait()
    assert not bench.engines.close(HANG_S)
    workshop.may_end.set()
    wait_until(lambda: workshop.engines[-1].is_closed)
    assert (bench.exchanged, bench.failures) == ([], [])


def test_an_engine_that_comes_with_the_stop_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopping(HeldWorkshop):
        def load(self, data: bytes, precision: Precision) -> Loaded:
            loaded = super().load(data, precision)
            if precision is INT8:
                self.stop.set()
            return loaded

    workshop = Stopping(FP32)
    bench = Bench(workshop, monkeypatch)
    assert bench.engines.first() is not None
    bench.improve()
    assert (bench.exchanged, bench.failures) == ([], [])
    wait_until(lambda: workshop.engines[-1].is_closed)
    assert not workshop.engines[0].is_closed  # it serves


def test_the_first_engine_is_closed_where_nobody_took_it(monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = HeldWorkshop(FP32)
    bench = Bench(workshop, monkeypatch)
    assert bench.engines.first() is not None
    assert len(workshop.engines) == 1
    assert bench.engines.close(HANG_S)  # what was to take it could not be made
    assert workshop.engines[0].is_closed
    assert workshop.is_closed


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_fault_of_the_program_stops_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(LoadingWorkshop(GOOD16, MAKES_INT8, {INT8: KeyError("bug")}), monkeypatch)
    assert bench.engines.first() is not None
    bench.improve()
    assert bench.failures == ["KeyError('bug')"]


# --- priority frames ------------------------------------------------------------------------------

PRIORITY = {"name": "p", "uri": "synthetic://2", "priority": True}


class PriorityBench(Bench):
    """A device with a shared INT8 engine, and a workshop for the priority cameras' own."""

    def __init__(
        self, own: LoadingWorkshop, monkeypatch: pytest.MonkeyPatch, **camera: Any
    ) -> None:
        shared = LoadingWorkshop({INT8: engine(INT8, Verdict.PASS), **GOOD16}, {})
        shared.in_flight = own.in_flight = 2
        shared.priority = own
        self.shared = shared
        super().__init__(shared, monkeypatch, INT8, {**PRIORITY, **camera})
        own.stop = shared.stop


def test_priority_frames_get_fp16_first_and_then_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {**MAKES_FP16, (Task.JUDGE_FLOAT, FP16): GOOD16, **MAKES_INT8}
    own = LoadingWorkshop({}, made)
    bench = PriorityBench(own, monkeypatch)
    assert bench.engines.first() is not None
    bench.improve()
    assert (bench.exchanged, bench.for_priority, bench.failures) == ([], ["fp16", "int8"], [])
    last = bench.told[-1]
    assert last.priority is not None
    assert (last.state, last.serving, last.message) == (EngineState.SERVING, INT8, "")
    assert (last.priority.state, last.priority.serving) == (EngineState.SERVING, INT8)
    assert bench.engines.close(HANG_S)
    assert (bench.shared.is_closed, own.is_closed) == (
        True,
        False,
    )  # the device is the shared one's


def test_the_shared_engine_is_improved_first(monkeypatch: pytest.MonkeyPatch) -> None:
    order: List[str] = []
    own = LoadingWorkshop(GOOD16, MAKES_INT8)
    bench = PriorityBench(own, monkeypatch)
    bench.shared.stored = dict(GOOD16)
    bench.shared.made = MAKES_INT8
    assert bench.engines.first() is not None
    bench.engines.improve(
        lambda better: order.append("shared " + better.info.precision),
        lambda better: order.append("priority " + better.info.precision),
        lambda name, error: order.append(repr(error)),
    )
    bench.wait()
    assert order == ["shared int8", "priority fp16", "priority int8"]


@pytest.mark.parametrize(
    ("camera", "in_flight"),
    [({}, 1), ({"priority": False}, 2), ({"enabled": False}, 2)],
    ids=["on a CPU", "no priority camera", "disabled"],
)
def test_where_it_would_not_help_there_is_none(
    monkeypatch: pytest.MonkeyPatch, camera: Dict[str, Any], in_flight: int
) -> None:
    own = LoadingWorkshop(GOOD16, {})
    bench = PriorityBench(own, monkeypatch, **camera)
    bench.shared.in_flight = in_flight
    assert bench.engines.first() is not None
    bench.improve()
    assert (bench.for_priority, own.loaded, bench.failures) == ([], [], [])
    assert bench.told[-1].priority is None


@pytest.mark.parametrize(
    "own",
    [
        LoadingWorkshop({}, {(Task.MAKE_FLOAT, FP16): BuildError("no such operator")}),
        LoadingWorkshop(GOOD16, {}, {FP16: CudaError("CUDA_ERROR_UNKNOWN", "cuModuleLoad")}),
        LoadingWorkshop(GOOD16, {}, {FP16: EngineOutOfMemory("no room for a second engine")}),
    ],
    ids=["cannot be made", "cannot be loaded", "no room"],
)
def test_without_it_priority_frames_share_the_other_engine(
    monkeypatch: pytest.MonkeyPatch, own: LoadingWorkshop
) -> None:
    own.max_batch = 1
    bench = PriorityBench(own, monkeypatch)
    assert bench.engines.first() is not None
    bench.improve()
    assert (bench.for_priority, bench.failures) == ([], [])
    last = bench.told[-1]
    assert last.priority is not None
    assert (last.state, last.serving, last.message) == (EngineState.SERVING, INT8, "")
    assert last.priority.state is EngineState.FAILED
    assert last.priority.message.startswith("priority frames go on through the shared engine: ")


@pytest.mark.parametrize("made", [{(Task.MAKE_FLOAT, FP16): None}, MAKES_FP16], ids=str)
def test_a_stop_during_its_build_ends_it(
    monkeypatch: pytest.MonkeyPatch, made: Mapping[Tuple[Task, Precision], Outcome]
) -> None:
    own = LoadingWorkshop({}, made, stop_at=Task.MAKE_FLOAT)
    bench = PriorityBench(own, monkeypatch)
    assert bench.engines.first() is not None
    bench.improve()
    assert (bench.for_priority, own.loaded, bench.failures) == ([], [], [])
    assert own.tasks == [(Task.MAKE_FLOAT, FP16)]
    assert bench.engines.close(HANG_S)


def test_an_engine_is_made_anew_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = LoadingWorkshop(GOOD16, MAKES_INT8)
    bench = Bench(workshop, monkeypatch)
    assert bench.engines.first() is not None
    with pytest.raises(Refused, match="made already"):
        bench.engines.rebuild()
    bench.improve()
    assert "the present one serves" in bench.engines.rebuild()
    bench.wait()
    assert bench.exchanged == ["int8", "int8"]
    assert workshop.tasks == [(Task.MAKE_INT8, FP16)] * 2
    bench.engines.rebuild()
    bench.wait()
    assert (len(bench.exchanged), bench.failures) == (3, [])


def test_nothing_is_made_anew_beside_what_is_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    is_held = threading.Event()
    workshop = LoadingWorkshop(GOOD16, MAKES_INT8)
    run = workshop.run

    def held(task: Task, precision: Precision, on_progress: OnProgress) -> bool:
        assert is_held.wait(HANG_S)
        return run(task, precision, on_progress)

    monkeypatch.setattr(workshop, "run", held)
    bench = Bench(workshop, monkeypatch)
    assert bench.engines.first() is not None
    bench.engines.improve(lambda better: None, lambda better: None, lambda name, error: None)
    with pytest.raises(Refused, match="made already"):
        bench.engines.rebuild()
    is_held.set()
    bench.wait()
    assert workshop.tasks == [(Task.MAKE_INT8, FP16)]


def test_where_nothing_is_built_there_is_nothing_to_make_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workshop = LoadingWorkshop(GOOD16, {})
    monkeypatch.setattr(workshop, "ready", lambda precision: b"the model")
    bench = Bench(workshop, monkeypatch, FP16)
    assert bench.engines.first() is not None
    bench.improve()
    with pytest.raises(Refused, match="run from the model itself"):
        bench.engines.rebuild()
    assert workshop.tasks == []
