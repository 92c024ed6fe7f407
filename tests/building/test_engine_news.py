"""What is told of engines, and how often."""

from __future__ import annotations

from typing import List, Optional

import pytest

from edge.building.engine_news import EngineNews, eta
from edge.clock import ManualClock
from edge.config.schema import Precision
from edge.records import BuildPhase, BuildProgress, EngineState, EngineStatus

FP16 = Precision.FP16


def test_only_what_has_changed_is_told() -> None:
    told: List[EngineStatus] = []
    news = EngineNews(FP16, told.append, ManualClock())
    news.tell(state=EngineState.LOADING)
    assert told == []
    news.tell(state=EngineState.BUILDING)
    assert [status.state for status in told] == [EngineState.BUILDING]


def test_remarks_on_several_matters_stand_side_by_side() -> None:
    told: List[EngineStatus] = []
    news = EngineNews(FP16, told.append, ManualClock())
    news.remark("limit", "at most 8")
    news.remark("failure", "no int8")
    news.remark("limit", "at most 4")
    assert [status.message for status in told] == [
        "at most 8", "at most 8; no int8", "at most 4; no int8",
    ]  # fmt: skip


def test_progress_is_told_at_a_new_phase_and_then_once_a_second() -> None:
    clock = ManualClock()
    told: List[EngineStatus] = []
    news = EngineNews(FP16, told.append, clock)

    def step(ms: float, done: float, phase: BuildPhase = BuildPhase.BUILDING) -> int:
        clock.advance_ms(ms)
        before = len(told)
        news.progress(BuildProgress(phase, FP16, done))
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
