"""Which engine serves, over every course a build can take."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import pytest

from edge.building.batch_limit import LimitFile, LimitKey
from edge.building.engine_store import Hit, Miss
from edge.building.gate_report import Agreement, GateReport, Verdict
from edge.building.loader import Loader
from edge.building.supply import EngineSupply, Supplied
from edge.building.worker import Task
from edge.clock import ManualClock
from edge.config.schema import Precision
from edge.errors import (
    BuildError,
    CudaError,
    EdgeError,
    EngineError,
    EngineHangs,
    EngineOutOfMemory,
)
from edge.records import BuildProgress, EngineState, EngineStatus, OnProgress
from tests.building.test_fingerprint import BACKEND, GRAPH

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
Found = Union[Hit, Miss]
Made = Mapping[Tuple[Task, Precision], Union[Dict[Precision, Hit], EdgeError, None]]
LOAD_LIMIT_S = 1.0
LIMIT = LimitKey(graph=GRAPH, backend=BACKEND, wanted=FP16, max_batch=8)


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
    """A store and the tasks that fill it, as a script; knows what a GPU's toolchain knows.

    It is its own maker and toolchain. Engines of more than `fits` frames do not fit into memory,
    and none of larger batches is there for smaller ones.
    """

    exact = FP32
    max_batch = 8
    fits = 8

    def __init__(
        self,
        stored: Dict[Precision, Hit],
        made: Made,
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
        self.priority: Optional[Workshop] = None

    @property
    def maker(self) -> Workshop:
        return self

    toolchain = maker

    def of_at_most(self, max_batch: int) -> Workshop:
        smaller = copy.copy(self)
        smaller.max_batch, smaller.stored = max_batch, {}
        return smaller

    def halved(self) -> Optional[Workshop]:
        return None if self.max_batch == 1 else self.of_at_most(self.max_batch // 2)

    def for_priority(self) -> Workshop:
        assert self.priority is not None, "nobody asked for it"
        return self.priority

    def ready(self, precision: Precision) -> Optional[bytes]:
        return None

    def find(self, precision: Precision) -> Found:
        return self.stored.get(precision, Miss("none was built yet"))

    def is_up_to_date(self, report: GateReport) -> bool:
        return not self.has_other_images

    def load(self, data: bytes, precision: Precision) -> Any:
        if precision in self.refuses:
            raise self.refuses[precision]
        if self.max_batch > self.fits:
            raise EngineOutOfMemory(f"no room for {self.max_batch} frames")
        return data

    def run(self, task: Task, precision: Precision, on_progress: OnProgress) -> bool:
        self.tasks.append((task, precision))
        outcome = self.made[task, precision]
        for progress in self.progress:
            on_progress(progress)
        if isinstance(outcome, EdgeError):
            raise outcome
        self.stored.update(outcome or {})
        return outcome is not None


def supply(
    workshop: Workshop,
    wanted: Precision,
    clock: Optional[ManualClock] = None,
    limits: Optional[LimitFile] = None,
) -> Tuple[EngineSupply, List[EngineStatus]]:
    told: List[EngineStatus] = []
    made = EngineSupply(
        workshop,  # type: ignore[arg-type]  # a script in its place
        wanted,
        told.append,
        clock or ManualClock(),
        Loader(threading.Event(), LOAD_LIMIT_S),
        limits,
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
MAKES16 = {(FLOAT, FP16): {FP16: engine(FP16)}}


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


def test_a_kept_engine_that_is_refused_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = Workshop({FP16: engine(FP16)}, {(FLOAT, FP16): {FP16: engine(FP16)}})
    workshop.refuses[FP16] = NAN
    made, _ = supply(workshop, FP16)
    run = workshop.run

    def mend(task: Task, precision: Precision, on_progress: OnProgress) -> bool:
        workshop.refuses.clear()
        return run(task, precision, on_progress)

    monkeypatch.setattr(workshop, "run", mend)
    found = made.open_first(threading.Event())
    assert found is not None
    assert found[0] is FP16
    assert workshop.tasks == [(FLOAT, FP16)]


def test_what_says_nothing_of_the_engine_gets_out() -> None:
    workshop = Workshop({FP16: engine(FP16), FP32: engine(FP32)}, {})
    workshop.refuses[FP16] = CudaError("CUDA_ERROR_UNKNOWN", "cuInit")
    with pytest.raises(CudaError):
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


# --- a device that hangs --------------------------------------------------------------------------

HANGS = EngineHangs("no engine within 600 s")


@pytest.mark.parametrize(
    ("hanging", "serves"),
    [([INT8], FP16), ([INT8, FP16], FP32), ([INT8, FP16, FP32], None)],
    ids=["int8", "int8 and fp16", "all"],
)
def test_an_engine_that_hangs_is_passed_over_for_another_that_is_kept(
    hanging: List[Precision], serves: Optional[Precision]
) -> None:
    workshop = Workshop({INT8: engine(INT8, Verdict.PASS), **GOOD16}, {})
    workshop.refuses = dict.fromkeys(hanging, HANGS)
    made, told = supply(workshop, INT8)
    if serves is None:
        with pytest.raises(EngineHangs, match="within 600 s"):
            made.open_first(threading.Event())
    else:
        found = made.open_first(threading.Event())
        assert found is not None
        assert found[0] is serves
    assert workshop.tasks == []  # nothing is built on such a device
    assert told[-1].cache[INT8] == "cannot be loaded: no engine within 600 s"


def test_a_new_engine_that_hangs_is_the_callers() -> None:
    workshop = Workshop({}, MAKES16)
    workshop.refuses[FP16] = HANGS
    with pytest.raises(EngineHangs):
        opened(workshop)
    assert workshop.tasks == [(FLOAT, FP16)]


def test_an_improvement_that_hangs_leaves_what_serves() -> None:
    workshop = Workshop({INT8: engine(INT8, Verdict.PASS), **GOOD16}, {})
    workshop.refuses[INT8] = HANGS
    made, told = supply(workshop, INT8)
    assert made.load_better(Supplied(INT8, b"int8")) is None
    assert told[-1].message == "the int8 engine cannot serve: no engine within 600 s"


def test_what_hangs_keeps_its_memory_and_that_halves_nothing(tmp_path: Path) -> None:
    may_end = threading.Event()

    class Hanging(Workshop):
        def load(self, data: bytes, precision: Precision) -> Any:
            if precision is INT8:
                assert may_end.wait(30)
                return Closing()
            raise EngineOutOfMemory("no room beside it")

    workshop = Hanging({INT8: engine(INT8, Verdict.PASS), **GOOD16}, {})
    made, _ = supply(workshop, INT8, limits=LimitFile(tmp_path, LIMIT))
    with pytest.raises(EngineOutOfMemory, match=r"^no room beside it$"):
        made.open_first(threading.Event())
    assert not made.close()  # the device is in use
    may_end.set()
    assert list(tmp_path.iterdir()) == []


class Closing:
    def close(self) -> None:
        """Nothing."""


# --- out of memory --------------------------------------------------------------------------------


@pytest.mark.parametrize(("fits", "max_batch"), [(8, 8), (7, 4), (4, 4), (3, 2), (1, 1)])
def test_out_of_memory_halves_the_largest_batch_until_it_fits(
    tmp_path: Path, fits: int, max_batch: int
) -> None:
    workshop = Workshop({FP16: engine(FP16)}, MAKES16)
    workshop.fits = fits
    made, told = supply(workshop, FP16, limits=LimitFile(tmp_path, LIMIT))
    opened = made.open_first(threading.Event())
    assert opened is not None
    assert opened[0] is FP16
    halvings = {8: 0, 4: 1, 2: 2, 1: 3}[max_batch]
    assert workshop.tasks == [(FLOAT, FP16)] * halvings
    limit = LimitFile(tmp_path, LIMIT).read()
    assert (limit and limit.max_batch) == (max_batch if halvings else None)
    if halvings:
        said = f"at most {max_batch} frames at once, as memory ran out with more (no room for"
        assert told[-1].message.startswith(said)


def test_the_next_start_does_not_try_the_large_batch_again(tmp_path: Path) -> None:
    limits = LimitFile(tmp_path, LIMIT)
    limits.keep(2, "no room for 4 frames")
    workshop = Workshop({FP16: engine(FP16)}, MAKES16)
    workshop.fits = 2
    made, told = supply(workshop, FP16, limits=limits)
    assert "no room for 4 frames" in told[0].message
    opened = made.open_first(threading.Event())
    assert opened is not None
    assert opened[0] is FP16
    assert workshop.tasks == [(FLOAT, FP16)]  # of two frames, once


def test_a_single_frame_that_does_not_fit_is_one_clear_line(tmp_path: Path) -> None:
    workshop = Workshop({}, MAKES16)
    workshop.fits = 0
    made, _ = supply(workshop, FP16, limits=LimitFile(tmp_path, LIMIT))
    with pytest.raises(EngineOutOfMemory, match=r"^no room for 1 frames; nor .* smaller network$"):
        made.open_first(threading.Event())


def test_memory_that_ends_while_the_first_engine_is_made_halves_too() -> None:
    workshop = Workshop({}, {(FLOAT, FP16): EngineOutOfMemory("no room to build")})
    with pytest.raises(EngineOutOfMemory, match="no room to build"):
        supply(workshop, FP16)[0].open_first(threading.Event())
    assert workshop.tasks == [(FLOAT, FP16)] * 4  # of 8, 4, 2 and 1 frames


def test_what_is_ready_is_only_looked_at_and_never_halved(tmp_path: Path) -> None:
    workshop = Workshop({FP16: engine(FP16)}, {})
    workshop.fits = 4
    made, _ = supply(workshop, FP16, limits=LimitFile(tmp_path, LIMIT))
    with pytest.raises(EngineOutOfMemory):
        made.open_ready()
    assert list(tmp_path.iterdir()) == []


def test_an_improvement_without_room_leaves_the_largest_batch_alone(tmp_path: Path) -> None:
    workshop = Workshop({INT8: engine(INT8, Verdict.PASS), **GOOD16}, {})
    workshop.refuses[INT8] = EngineOutOfMemory("no room beside fp16")
    made, told = supply(workshop, INT8, limits=LimitFile(tmp_path, LIMIT))
    assert made.load_better(Supplied(INT8, b"int8")) is None
    assert told[-1].message == (
        "the int8 engine cannot serve: no room beside fp16; the next start tries it alone"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_limit_and_a_later_failure_are_both_told(tmp_path: Path) -> None:
    limits = LimitFile(tmp_path, LIMIT)
    limits.keep(4, "no room")
    made_int8: Made = {**MAKES16, (JUDGE, FP16): BuildError("memory ran out")}
    made, told = supply(Workshop({}, made_int8), INT8, limits=limits)
    assert made.open_first(threading.Event()) is not None
    made.serves(FP16)
    assert list(made.improvements()) == []
    limit_words, failure = told[-1].message.rsplit("; ", 1)
    assert failure == "memory ran out"
    assert limit_words.endswith(f"delete {tmp_path / 'batch-limit.json'}")


# --- an engine for priority frames ----------------------------------------------------------------


@pytest.mark.parametrize(("serving", "tasks"), [(INT8, [FP16]), (FP16, [FP16]), (FP32, [FP32])])
def test_priority_frames_get_what_serves_the_others(
    serving: Precision, tasks: List[Precision]
) -> None:
    shared = Workshop({INT8: engine(INT8, Verdict.PASS), **GOOD16}, {})
    shared.priority = Workshop({}, {(FLOAT, one): {one: engine(one)} for one in (FP16, FP32)})
    made, _ = supply(shared, INT8)
    made.serves(serving)
    told: List[EngineStatus] = []
    priority = made.for_priority(told.append)
    found = priority.first()
    assert found is not None
    assert [found.precision] == tasks
    assert (priority.status.wanted, told[-1].wanted) == (serving, serving)


def test_a_priority_engine_that_cannot_be_had_is_told() -> None:
    shared = Workshop(GOOD16, {})
    shared.priority = Workshop({}, {})
    told: List[EngineStatus] = []
    supply(shared, FP16)[0].for_priority(told.append).fails("no room for it")
    assert (told[-1].state, told[-1].message) == (EngineState.FAILED, "no room for it")


# --- made anew because somebody asks for it ----------------------------------------------------


def remade(workshop: Workshop, wanted: Precision) -> Tuple[List[Precision], EngineStatus]:
    """Which precisions are to serve in turn once all is made anew, and what was told last."""
    made, told = supply(workshop, wanted)
    first = made.first()
    assert first is not None
    made.serves(first.precision)
    served = []
    for again in made.remake():
        assert told[-1].state is EngineState.IMPROVING
        served.append(again.precision)
        made.serves(again.precision)
    return served, told[-1]


PASSED8 = {INT8: engine(INT8, Verdict.PASS)}
REFUSED8 = {INT8: engine(INT8, Verdict.FAIL)}


@pytest.mark.parametrize(
    ("stored", "made", "wanted", "tasks", "served"),
    [
        pytest.param(
            {**GOOD16, **PASSED8},
            {(QUANTIZE, FP16): PASSED8},
            INT8,
            [(QUANTIZE, FP16)],
            [INT8],
            id="int8, which serves already",
        ),
        pytest.param(
            {**GOOD16, **REFUSED8},
            {(QUANTIZE, FP16): PASSED8},
            INT8,
            [(QUANTIZE, FP16)],
            [INT8],
            id="int8, which was refused and passes now",
        ),
        pytest.param(
            {**GOOD16, **PASSED8},
            {(QUANTIZE, FP16): REFUSED8},
            INT8,
            [(QUANTIZE, FP16)],
            [],
            id="int8, which is refused now",
        ),
        pytest.param(
            GOOD16,
            {(FLOAT, FP16): {FP16: engine(FP16)}, (JUDGE, FP16): GOOD16},
            FP16,
            [(FLOAT, FP16), (JUDGE, FP16)],
            [FP16],
            id="fp16, judged again",
        ),
        pytest.param(
            GOOD16,
            {(FLOAT, FP16): {FP16: engine(FP16)}, (JUDGE, FP16): BAD16},
            FP16,
            [(FLOAT, FP16), (JUDGE, FP16)],
            [FP16, FP32],
            id="fp16, found wanting now",
        ),
        pytest.param(
            {FP32: engine(FP32)},
            {(FLOAT, FP32): {FP32: engine(FP32)}},
            FP32,
            [(FLOAT, FP32)],
            [FP32],
            id="fp32",
        ),
        pytest.param(
            {FP32: engine(FP32)},
            {(FLOAT, FP32): None},
            FP32,
            [(FLOAT, FP32)],
            [],
            id="told to stop meanwhile",
        ),
    ],
)
def test_what_is_wanted_is_made_anew_though_it_is_there(
    stored: Dict[Precision, Hit],
    made: Made,
    wanted: Precision,
    tasks: List[Tuple[Task, Precision]],
    served: List[Precision],
) -> None:
    workshop = Workshop(stored, made)
    assert remade(workshop, wanted)[0] == served
    assert workshop.tasks == tasks


def test_a_making_anew_that_fails_leaves_what_serves_and_is_told() -> None:
    workshop = Workshop(GOOD16, {(FLOAT, FP16): BuildError("no memory")})
    served, told = remade(workshop, FP16)
    assert served == []
    assert (told.state, told.serving) == (EngineState.SERVING, FP16)
    assert "no memory" in told.message


def test_what_is_run_from_the_model_itself_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = Workshop(GOOD16, {})
    made, _ = supply(workshop, FP16)
    assert made.is_built
    monkeypatch.setattr(workshop, "ready", lambda precision: b"the model")
    assert not made.is_built
    assert supply(workshop, INT8)[0].is_built
