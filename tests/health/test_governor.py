from __future__ import annotations

from dataclasses import replace
from typing import List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import NS_PER_S
from edge.config.governor import GovernorConfig
from edge.health.governor import Governor, Targets, Vitals
from edge.health.ladder import GovernedCamera, Load
from edge.records import UNRESTRAINED, StepKind

CONFIG = GovernorConfig(step_s=20, recover_s=120)
COOL = Targets(temp_c=85.0)
QUICK = Targets(latency_ms=100.0)
CAMERAS = [
    GovernedCamera("gate", 30.0, priority=True),
    GovernedCamera("door", 30.0),
    GovernedCamera("yard", 30.0, importance=1),
]
# So many readings of another kind are not believed yet: the median of five counts.
TURN_S = 2
LOAD = Load(CAMERAS, window_ms=10.0)


class Played:
    """A governor, asked once a second."""

    def __init__(
        self, targets: Targets, config: GovernorConfig = CONFIG, load: Load = LOAD
    ) -> None:
        self.governor = Governor(config, targets)
        self.load = load
        self.second = 0
        self.log: List[Tuple[int, str]] = []

    def run(
        self, seconds: int, temp_c: Optional[float] = None, latency_ms: Optional[float] = None
    ) -> Played:
        for _ in range(seconds):
            self.ask(Vitals(temp_c, latency_ms))
        return self

    def ask(self, vitals: Vitals) -> None:
        if self.governor.decide(self.second * NS_PER_S, vitals, self.load):
            change = self.governor.status.change
            assert change is not None
            sign = "-" if change.is_undone else "+"
            name = change.step.camera or change.step.kind.value
            self.log.append((self.second, f"{sign}{name}"))
        self.second += 1

    @property
    def said(self) -> List[str]:
        return [what for _, what in self.log]

    @property
    def depth(self) -> int:
        return len(self.governor.status.steps)


@pytest.mark.parametrize(
    ("targets", "vitals", "is_shed"),
    [
        pytest.param(COOL, Vitals(temp_c=84.9), False, id="just cool enough"),
        pytest.param(COOL, Vitals(temp_c=85.0), True, id="at the target"),
        pytest.param(COOL, Vitals(latency_ms=9e9), False, id="latency is not governed"),
        pytest.param(QUICK, Vitals(latency_ms=100.0), False, id="just quick enough"),
        pytest.param(QUICK, Vitals(latency_ms=100.1), True, id="late"),
        pytest.param(QUICK, Vitals(temp_c=200.0), False, id="heat is not governed"),
        pytest.param(COOL, Vitals(), False, id="nothing is known"),
    ],
)
def test_when_a_step_is_taken(targets: Targets, vitals: Vitals, is_shed: bool) -> None:
    played = Played(targets)
    played.ask(vitals)
    assert played.said == (["+yard"] if is_shed else [])
    assert (played.governor.restraints != UNRESTRAINED) == is_shed


@pytest.mark.parametrize(
    ("targets", "temp_c", "latency_ms", "gap_s"),
    [
        pytest.param(COOL, 85.5, None, 20, id="hot"),
        pytest.param(COOL, 86.9, None, 20, id="not urgent yet"),
        pytest.param(COOL, 87.0, None, 5, id="urgent"),
        pytest.param(QUICK, None, 150.0, 35, id="late"),
    ],
)
def test_a_step_has_time_to_take_effect(
    targets: Targets, temp_c: Optional[float], latency_ms: Optional[float], gap_s: int
) -> None:
    played = Played(targets).run(3 * gap_s + 1, temp_c, latency_ms)
    assert [second for second, _ in played.log] == [0, gap_s, 2 * gap_s, 3 * gap_s]


@pytest.mark.parametrize(
    ("degrees_per_s", "steps"),
    [
        pytest.param(-0.03, 1, id="falls"),
        pytest.param(-0.01, 3, id="hardly falls"),
        pytest.param(0.0, 3, id="stays"),
    ],
)
def test_while_it_gets_cooler_nothing_more_is_shed(degrees_per_s: float, steps: int) -> None:
    played = Played(COOL)
    for second in range(41):
        played.ask(Vitals(86.9 + degrees_per_s * second))
    assert played.depth == steps


def test_what_will_be_too_hot_soon_is_too_hot() -> None:
    played = Played(COOL)
    for second in range(60):
        played.ask(Vitals(81.5 + 0.05 * second))
    assert played.log[0][0] == pytest.approx((85 - 0.05 * 30 - 81.5) / 0.05, abs=5)
    change = played.governor.status.change
    assert change is not None
    assert "rises to 85." in change.reason


def test_latency_is_not_helped_by_a_longer_window() -> None:
    played = Played(QUICK).run(35 * 20, latency_ms=500.0)
    kinds = {step.kind for step in played.governor.status.steps}
    assert kinds == {StepKind.FPS, StepKind.PAUSE}


@pytest.mark.parametrize(
    ("latency_ms", "longest_ms"),
    [pytest.param(40.0, 50.0, id="room"), pytest.param(79.0, None, id="no room")],
)
def test_a_window_never_costs_the_other_target(
    latency_ms: float, longest_ms: Optional[float]
) -> None:
    played = Played(Targets(85.0, 100.0)).run(400, 86.0, latency_ms)
    windows = [s.after for s in played.governor.status.steps if s.kind is StepKind.WINDOW]
    assert bool(windows) == (longest_ms is not None)


def test_where_nothing_is_left_it_says_so() -> None:
    played = Played(COOL, replace_config(pause=False, max_window_ms=0)).run(99, 86.0)
    assert (played.depth, played.governor.status.is_exhausted) == (4, True)
    played.run(3, 84.0)
    assert not played.governor.status.is_exhausted


def replace_config(**keys: object) -> GovernorConfig:
    return GovernorConfig.model_validate({**CONFIG.model_dump(), **keys})


def test_it_gives_back_slowly_and_in_the_reverse_order() -> None:
    played = Played(COOL).run(41, 85.0)
    assert played.said == ["+yard", "+yard", "+door"]
    start_s = played.second
    played.run(1000, 75.0)
    assert played.said[3:] == ["-door", "-yard", "-yard"]
    gaps = [after - before for (before, _), (after, _) in zip(played.log[3:], played.log[4:])]
    assert played.log[3][0] == start_s + TURN_S + 120
    assert gaps == [120, 120]
    assert played.governor.restraints == UNRESTRAINED


@pytest.mark.parametrize(
    ("temp_c", "is_undone"),
    [pytest.param(80.1, False, id="not far enough below"), pytest.param(80.0, True, id="below")],
)
def test_hysteresis(temp_c: float, is_undone: bool) -> None:
    played = Played(COOL).run(1, 85.0).run(1000, temp_c)
    assert ("-yard" in played.said) == is_undone


def test_a_moment_that_is_not_well_starts_the_waiting_anew() -> None:
    played = Played(COOL).run(1, 85.0).run(100, 75.0).run(3, 82.0).run(121, 75.0)
    assert played.said == ["+yard"]
    assert played.run(9, 75.0).said == ["+yard", "-yard"]


def test_one_reading_is_no_reason() -> None:
    played = Played(COOL).run(10, 75.0)
    for _ in range(20):
        played.run(2, 95.0).run(3, 75.0)
    assert played.said == []


def test_an_unknown_temperature_changes_nothing() -> None:
    played = Played(COOL).run(1, 85.0).run(1000, None)
    assert played.said == ["+yard"]


def test_each_relapse_doubles_the_patience_up_to_16_times() -> None:
    played = Played(COOL)
    waits = []
    for _ in range(7):
        played.run(TURN_S + 1, 85.0)
        taken_s = played.second
        while played.depth and played.second < taken_s + 5000:
            played.run(1, 75.0)
        waits.append(played.log[-1][0] - taken_s - TURN_S)
        played.run(30, 75.0)
    assert waits == [120, 240, 480, 960, 1920, 1920, 1920]


def test_patience_returns() -> None:
    played = Played(COOL)
    for _ in range(3):
        played.run(TURN_S + 1, 85.0)
        while played.depth and played.second < 5000:
            played.run(1, 75.0)
        played.run(30, 75.0)
    played.run(TURN_S + 121, 85.0)  # a relapse, and six more steps
    for _ in range(7 * 500):
        played.run(1, 75.0)
    undone = [second for second, what in played.log if what[0] == "-"][-7:]
    gaps = [after - before for before, after in zip(undone, undone[1:])]
    assert gaps == [960, 480, 240, 120, 120, 120]


def test_switched_off_it_lets_everything_go() -> None:
    played = Played(COOL).run(41, 85.0)
    played.governor.configure(replace_config(enabled=False), COOL)
    played.run(5, 95.0)
    assert played.governor.restraints == UNRESTRAINED


def test_switched_off_it_misses_nothing() -> None:
    played = Played(COOL, replace_config(pause=False, max_window_ms=0)).run(99, 86.0)
    assert played.governor.status.is_exhausted
    played.governor.configure(replace_config(enabled=False), COOL)
    assert not played.run(1, 86.0).governor.status.is_exhausted


def test_what_is_late_is_helped_while_it_gets_cooler() -> None:
    played = Played(Targets(temp_c=85.0, latency_ms=100.0))
    for second in range(60):
        played.ask(Vitals(86.9 - 0.03 * second, 200.0))
    reasons = [step.reason for step in played.governor.status.steps]
    assert reasons[0].startswith("the hottest sensor")
    assert reasons[1].startswith("1 of 20 results comes later than 200 ms")


def test_a_camera_that_got_priority_or_is_gone_is_left_alone() -> None:
    played = Played(COOL).run(41, 85.0)
    prioritized = [replace(camera, priority=True) for camera in CAMERAS]
    played.load = Load(prioritized, 10.0)
    played.run(1, 85.0)
    assert played.governor.restraints == UNRESTRAINED
    assert played.governor.status.steps == ()


def test_changes_are_counted() -> None:
    played = Played(COOL).run(41, 85.0).run(1000, 70.0)
    assert played.governor.changes == len(played.log) == 6


@given(temperatures=st.lists(st.tuples(st.floats(60, 100), st.integers(1, 60)), max_size=8))
def test_whatever_happens_it_is_bounded_reversible_and_spares_priority(
    temperatures: List[Tuple[float, int]],
) -> None:
    played = Played(COOL)
    for temp_c, seconds in temperatures:
        played.run(seconds, temp_c)
        found = played.governor.restraints
        assert "gate" not in {*found.fps, *found.paused}
        assert played.depth <= 4 + 3 + 2
    gaps = [after - before for (before, _), (after, _) in zip(played.log, played.log[1:])]
    assert all(gap >= 5 for gap in gaps)
    for _ in range(9 * 20):
        played.second += 120
        played.ask(Vitals(60.0))
    assert played.governor.restraints == UNRESTRAINED
