"""Which engine serves, over every course a build can take."""

from __future__ import annotations

import threading
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import pytest

from edge.building.engine_store import Hit, Miss
from edge.building.gate_report import Agreement, GateReport, Verdict
from edge.building.supply import EngineSupply, eta
from edge.building.worker import Task
from edge.clock import ManualClock
from edge.config.schema import Precision
from edge.errors import BuildError, CudaError, EdgeError, EngineError, EngineOutOfMemory
from edge.records import BuildPhase, BuildProgress, EngineState, EngineStatus, OnProgress

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
Found = Union[Hit, Miss]


def report(candidate: Precision, verdict: Verdict) -> GateReport:
    return GateReport(
        verdict=verdict,
        reason="because",
        reference="fp16",
        candidate=candidate.value,
        images=90,
        max_loss=0.01,
        min_boxes=500,
        overall=Agreement(boxes=700, ap50=0.99, loss=0.01),
    )


def engine(precision: Precision, verdict: Optional[Verdict] = None) -> Hit:
    is_kept = verdict is None or precision is not INT8 or verdict is Verdict.PASS
    data = precision.value.encode() if is_kept else None
    return Hit(data, None if verdict is None else report(precision, verdict))


class Workshop:
    """A store and the tasks that fill it, as a script; knows what a GPU's toolchain knows."""

    exact = FP32

    def __init__(
        self,
        stored: Dict[Precision, Hit],
        made: Mapping[Tuple[Task, Precision], Union[Dict[Precision, Hit], BuildError, None]],
        first: Precision = FP16,
    ) -> None:
        self.first = first
        self.stored = dict(stored)
        self.made = made
        self.has_evidence = True
        self.has_other_images = False
        self.tasks: List[Tuple[Task, Precision]] = []
        self.refuses: Dict[Precision, EdgeError] = {}
        self.progress: List[BuildProgress] = []

    def ready(self, precision: Precision) -> Optional[bytes]:
        return None

    def find(self, precision: Precision) -> Found:
        return self.stored.get(precision, Miss("none was built yet"))

    def is_up_to_date(self, report: GateReport) -> bool:
        return not self.has_other_images

    def load(self, data: bytes, precision: Precision) -> Any:
        if precision in self.refuses:
            raise self.refuses[precision]
        return data

    def run(self, task: Task, precision: Precision, on_progress: OnProgress) -> bool:
        self.tasks.append((task, precision))
        outcome = self.made[task, precision]
        for progress in self.progress:
            on_progress(progress)
        if isinstance(outcome, BuildError):
            raise outcome
        self.stored.update(outcome or {})
        return outcome is not None


def supply(
    workshop: Workshop, wanted: Precision, clock: Optional[ManualClock] = None
) -> Tuple[EngineSupply, List[EngineStatus]]:
    told: List[EngineStatus] = []
    made = EngineSupply(
        workshop,  # type: ignore[arg-type]  # a script in a Maker's place
        workshop,  # type: ignore[arg-type]  # and in a Toolchain's
        wanted,
        workshop.run,
        told.append,
        clock or ManualClock(),
    )
    return made, told


def course(workshop: Workshop, wanted: Precision) -> Tuple[List[Precision], EngineStatus]:
    """Which precisions served in turn, and what was told last."""
    made, told = supply(workshop, wanted)
    served: List[Precision] = []
    first = made.first()
    if first is not None:
        served.append(first.precision)
        made.serves(first.precision)
        for better in made.improvements():
            served.append(better.precision)
            made.serves(better.precision)
    return served, told[-1]


FLOAT, JUDGE, QUANTIZE = Task.MAKE_FLOAT, Task.JUDGE_FLOAT, Task.MAKE_INT8
GOOD16 = {FP16: engine(FP16, Verdict.PASS), FP32: engine(FP32)}
BAD16 = {FP16: engine(FP16, Verdict.FAIL), FP32: engine(FP32)}


def test_the_first_start_serves_fp16_first_then_int8() -> None:
    workshop = Workshop(
        {},
        {
            (FLOAT, FP16): {FP16: engine(FP16)},
            (JUDGE, FP16): GOOD16,
            (QUANTIZE, FP16): {INT8: engine(INT8, Verdict.PASS)},
        },
    )
    served, last = course(workshop, INT8)
    assert served == [FP16, INT8]
    assert workshop.tasks == [(FLOAT, FP16), (JUDGE, FP16), (QUANTIZE, FP16)]
    assert (last.state, last.serving, last.progress) == (EngineState.SERVING, INT8, None)
    assert last.cache == {INT8: "none was built yet", FP16: "none was built yet"}
    assert last.gate is not None
    assert (last.gate.precision, last.gate.verdict) == (INT8, "pass")


def test_the_second_start_builds_nothing() -> None:
    workshop = Workshop({INT8: engine(INT8, Verdict.PASS), **GOOD16}, {})
    served, last = course(workshop, INT8)
    assert (served, workshop.tasks) == ([INT8], [])
    assert last.cache == {INT8: "hit"}


def test_int8_that_fails_the_gate_never_serves() -> None:
    workshop = Workshop(GOOD16, {(QUANTIZE, FP16): {INT8: engine(INT8, Verdict.FAIL)}})
    served, last = course(workshop, INT8)
    assert served == [FP16]
    assert last.gate is not None
    assert (last.gate.precision, last.gate.verdict) == (INT8, "fail")
    assert (last.state, last.serving) == (EngineState.SERVING, FP16)


def test_a_refusal_is_not_built_again_at_the_next_start() -> None:
    workshop = Workshop({INT8: engine(INT8, Verdict.FAIL), **GOOD16}, {})
    served, last = course(workshop, INT8)
    assert (served, workshop.tasks) == ([FP16], [])
    assert last.cache[INT8] == "refused by the gate"


def test_fp16_that_loses_accuracy_gives_way_and_int8_is_judged_by_fp32() -> None:
    workshop = Workshop(
        {FP16: engine(FP16)},
        {(JUDGE, FP16): BAD16, (QUANTIZE, FP32): {INT8: engine(INT8, Verdict.PASS)}},
    )
    served, _ = course(workshop, INT8)
    assert served == [FP16, FP32, INT8]


def test_fp16_found_wanting_before_is_not_served_again() -> None:
    served, _ = course(Workshop(BAD16, {}), FP16)
    assert served == [FP32]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(BAD16, GOOD16, [FP32, FP16], id="refused before, good now"),
        pytest.param(BAD16, BAD16, [FP32], id="refused again"),
        pytest.param(GOOD16, BAD16, [FP16, FP32], id="good before, refused now"),
        pytest.param(GOOD16, GOOD16, [FP16], id="good again"),
    ],
)
def test_other_images_judge_fp16_anew(
    before: Dict[Precision, Hit], after: Dict[Precision, Hit], expected: List[Precision]
) -> None:
    workshop = Workshop(before, {(JUDGE, FP16): after})
    workshop.has_other_images = True
    served, last = course(workshop, FP16)
    assert (served, workshop.tasks) == (expected, [(JUDGE, FP16)])
    assert last.serving is expected[-1]


def test_without_evidence_nothing_is_judged() -> None:
    workshop = Workshop({FP16: engine(FP16)}, {})
    workshop.has_evidence = False
    served, last = course(workshop, FP16)
    assert (served, workshop.tasks, last.state) == ([FP16], [], EngineState.SERVING)


def test_fp32_is_what_it_is() -> None:
    workshop = Workshop({}, {(FLOAT, FP32): {FP32: engine(FP32)}})
    served, _ = course(workshop, FP32)
    assert (served, workshop.tasks) == ([FP32], [(FLOAT, FP32)])


def test_a_toolchain_of_fp32_alone_judges_no_float_engine() -> None:
    made = {(QUANTIZE, FP32): {INT8: engine(INT8, Verdict.PASS)}}
    workshop = Workshop({FP32: engine(FP32)}, made, first=FP32)
    served, _ = course(workshop, INT8)
    assert (served, workshop.tasks) == ([FP32, INT8], [(QUANTIZE, FP32)])


@pytest.mark.parametrize("task", [(JUDGE, FP16), (QUANTIZE, FP16)])
def test_a_build_that_fails_leaves_what_serves(task: Tuple[Task, Precision]) -> None:
    made = {(JUDGE, FP16): GOOD16, (QUANTIZE, FP16): {INT8: engine(INT8, Verdict.PASS)}}
    workshop = Workshop({FP16: engine(FP16)}, {**made, task: BuildError("memory ran out")})
    served, last = course(workshop, INT8)
    assert served == [FP16]
    assert (last.state, last.serving) == (EngineState.SERVING, FP16)
    assert last.message == "memory ran out"


def test_a_first_build_that_fails_is_the_callers() -> None:
    made, _ = supply(Workshop({}, {(FLOAT, FP16): BuildError("no such operator")}), FP16)
    with pytest.raises(BuildError, match="no such operator"):
        made.first()


NAN = EngineError("the engine gives no numbers (NaN)")


def opened(workshop: Workshop, wanted: Precision = FP16) -> Tuple[object, EngineSupply]:
    made, _ = supply(workshop, wanted)
    found = made.open_first(threading.Event())
    return (None if found is None else found[0]), made


def test_weights_that_overflow_in_fp16_serve_in_fp32() -> None:
    workshop = Workshop(
        {}, {(FLOAT, FP16): {FP16: engine(FP16)}, (FLOAT, FP32): {FP32: engine(FP32)}}
    )
    workshop.refuses[FP16] = NAN
    precision, made = opened(workshop)
    assert precision is FP32
    assert workshop.tasks == [(FLOAT, FP16), (FLOAT, FP32)]
    assert made.status.cache[FP16] == "cannot be loaded: the engine gives no numbers (NaN)"
    made.serves(FP32)
    assert list(made.improvements()) == []  # fp16 is not judged any more
    # At the next start both are kept, and nothing is built in vain.
    workshop.tasks.clear()
    precision, _ = opened(workshop)
    assert (precision, workshop.tasks) == (FP32, [])


def test_a_kept_engine_that_is_refused_is_made_anew() -> None:
    workshop = Workshop({FP16: engine(FP16)}, {(FLOAT, FP16): {FP16: engine(FP16)}})
    workshop.refuses[FP16] = NAN
    made, _ = supply(workshop, FP16)
    run = workshop.run

    def mend(task: Task, precision: Precision, on_progress: OnProgress) -> bool:
        workshop.refuses.clear()
        return run(task, precision, on_progress)

    made._run_task = mend
    found = made.open_first(threading.Event())
    assert found is not None
    assert found[0] is FP16
    assert workshop.tasks == [(FLOAT, FP16)]


@pytest.mark.parametrize(
    "error", [EngineOutOfMemory("no room"), CudaError("CUDA_ERROR_UNKNOWN", "cuInit")]
)
def test_what_says_nothing_of_the_engine_gets_out(error: EdgeError) -> None:
    workshop = Workshop({FP16: engine(FP16), FP32: engine(FP32)}, {})
    workshop.refuses[FP16] = error
    with pytest.raises(type(error)):
        opened(workshop)


def test_an_exact_engine_that_is_refused_has_no_stand_in() -> None:
    workshop = Workshop({}, {(FLOAT, FP32): {FP32: engine(FP32)}})
    workshop.refuses[FP32] = NAN
    with pytest.raises(EngineError, match="NaN"):
        opened(workshop, FP32)


@pytest.mark.parametrize(
    ("stored", "stopped_at", "expected"),
    [({}, (FLOAT, FP16), []), (GOOD16, (QUANTIZE, FP16), [FP16])],
    ids=["first", "int8"],
)
def test_a_stop_ends_it(
    stored: Dict[Precision, Hit], stopped_at: Tuple[Task, Precision], expected: List[Precision]
) -> None:
    served, last = course(Workshop(stored, {stopped_at: None}), INT8)
    assert served == expected
    assert last.progress is None


def test_an_engine_that_vanishes_after_its_build_is_said() -> None:
    made, _ = supply(Workshop({}, {(FLOAT, FP16): {}}), FP16)
    with pytest.raises(BuildError, match="cannot be used: none was built yet"):
        made.first()


def test_progress_is_told_at_a_new_phase_and_then_once_a_second() -> None:
    clock = ManualClock()
    workshop = Workshop({}, {(FLOAT, FP16): {FP16: engine(FP16)}})
    made, told = supply(workshop, FP16, clock)

    def step(ms: float, done: float, phase: BuildPhase = BuildPhase.BUILDING) -> int:
        clock.advance_ms(ms)
        before = len(told)
        made._on_progress(BuildProgress(phase, FP16, done))
        return len(told) - before

    assert step(0, 0.0) == 1
    assert step(999, 0.1) == 0
    assert step(1, 0.2) == 1
    assert told[-1].eta_s == pytest.approx(4.0)
    assert step(1, 0.0, BuildPhase.JUDGING) == 1


@pytest.mark.parametrize(
    ("done", "began_at", "elapsed_s", "expected"),
    [
        (None, 0.0, 10.0, None),
        (0.049, 0.0, 10.0, None),
        (0.05, 0.0, 10.0, 190.0),
        (0.5, 0.0, 10.0, 10.0),
        (1.0, 0.0, 9.0, 0.0),
        # A phase that takes over at two fifths has not done them itself.
        (0.44, 0.4, 10.0, None),
        (0.6, 0.4, 10.0, 20.0),
    ],
)
def test_eta(
    done: Optional[float], began_at: float, elapsed_s: float, expected: Optional[float]
) -> None:
    wanted = None if expected is None else pytest.approx(expected)
    assert eta(done, began_at, elapsed_s) == wanted
