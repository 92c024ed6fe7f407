from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config.governor import GovernorConfig
from edge.health.ladder import GovernedCamera, Ladder, Load, restraints, still_due
from edge.records import UNRESTRAINED, Step, StepKind

CONFIG = GovernorConfig()


def cam(name: str, fps: float = 30.0, importance: int = 5) -> GovernedCamera:
    return GovernedCamera(name, fps, importance)


GATE = GovernedCamera("gate", 30.0, importance=1, priority=True)


def climb(
    cameras: Sequence[GovernedCamera],
    config: GovernorConfig = CONFIG,
    *,
    window_ms: float = 10.0,
    room_ms: Optional[float] = None,
    may_widen: bool = True,
) -> Tuple[Step, ...]:
    """All steps there are, one after the other."""
    steps: Tuple[Step, ...] = ()
    while len(steps) < 100:
        load = Load(cameras, window_ms, room_ms)
        step = Ladder(config, load, steps).next("hot", may_widen=may_widen)
        if step is None:
            return steps
        steps = (*steps, step)
    raise AssertionError("the ladder has no end")


def words(steps: Sequence[Step]) -> List[str]:
    return [f"{step.camera or 'window'} {step.before:g}>{step.after:g}" for step in steps]


def test_the_order_of_the_rungs() -> None:
    cameras = [GATE, cam("a"), cam("b"), cam("c", fps=8, importance=2)]
    assert words(climb(cameras)) == [
        *("c 8>4", "c 4>2"),  # the least important first
        *("b 30>15", "a 30>15", "b 15>7.5", "a 15>7.5"),  # of equals in turns, the last first
        *("window 10>20", "window 20>40", "window 40>50"),
        *("c 2>0", "b 7.5>0", "a 7.5>0"),
    ]


@pytest.mark.parametrize(
    ("cameras", "config", "expected"),
    [
        pytest.param([GATE], CONFIG, [], id="never the priority camera"),
        pytest.param([cam("a", fps=0)], CONFIG, [], id="what delivers nothing costs nothing"),
        pytest.param([cam("a")], CONFIG, ["a 30>15", "a 15>7.5"], id="the last camera stays"),
        pytest.param(
            [GATE, cam("a")], CONFIG, ["a 30>15", "a 15>7.5", "a 7.5>0"], id="one beside priority"
        ),
        pytest.param(
            [GATE, cam("a")],
            GovernorConfig(pause=False),
            ["a 30>15", "a 15>7.5"],
            id="without pauses",
        ),
        pytest.param(
            [GATE, cam("a", fps=6)],
            GovernorConfig(min_fps=5),
            ["a 6>0"],
            id="too little to gain above min_fps",
        ),
        pytest.param(
            [GATE, cam("a", fps=6.25)],
            GovernorConfig(min_fps=5, pause=False),
            ["a 6.25>5"],
            id="just enough to gain",
        ),
        pytest.param(
            [cam("a", fps=0), cam("b", fps=2)],
            CONFIG,
            ["b 2>1"],
            id="the last that delivers stays",
        ),
        pytest.param(
            [cam("a", 1), cam("b", 1)],
            GovernorConfig(max_window_ms=10, pause=False),
            [],
            id="a window that is the longest already",
        ),
    ],
)
def test_what_there_is_to_shed(
    cameras: List[GovernedCamera], config: GovernorConfig, expected: List[str]
) -> None:
    assert words(climb(cameras, config)) == expected


SLOW = [cam("a", 1), cam("b", 1)]


@pytest.mark.parametrize(
    ("window_ms", "room_ms", "expected"),
    [
        pytest.param(
            0.0, None, ["window 0>10", "window 10>20", "window 20>40", "window 40>50"], id="0"
        ),
        pytest.param(45.0, None, [], id="nearly the longest"),
        pytest.param(10.0, 0.0, [], id="no room for more latency"),
        pytest.param(
            10.0, 5.0, ["window 10>15", "window 15>20", "window 20>25"], id="a little room"
        ),
    ],
)
def test_windows(window_ms: float, room_ms: Optional[float], expected: List[str]) -> None:
    config = GovernorConfig(pause=False)
    found = words(climb(SLOW, config, window_ms=window_ms, room_ms=room_ms))
    assert found[: len(expected)] == expected
    assert bool(found) == bool(expected)


def test_a_window_helps_only_the_temperature() -> None:
    assert climb(SLOW, GovernorConfig(pause=False), may_widen=False) == ()


def test_a_window_stays_well_below_what_makes_frames_stale() -> None:
    cameras = [cam("a", 1), GovernedCamera("b", 1.0, max_staleness_ms=60.0)]
    last = climb(cameras, GovernorConfig(pause=False))[-1]
    assert (last.kind, last.after) == (StepKind.WINDOW, 30.0)


def test_what_the_steps_amount_to() -> None:
    steps = climb([GATE, cam("a"), cam("b")])
    found = restraints(steps)
    assert found.fps == {"a": 7.5, "b": 7.5}
    assert found.window_ms == 50.0
    assert found.paused == {name: "paused by the governor: hot" for name in ("a", "b")}
    assert restraints(()) == UNRESTRAINED


def test_steps_of_cameras_that_are_gone_are_forgotten() -> None:
    steps = climb([GATE, cam("a"), cam("b")])
    left = still_due(steps, [GovernedCamera("a", 0.0, priority=True), cam("b")])
    assert {step.camera for step in left} == {"b", None}


@given(
    cameras=st.lists(
        st.builds(
            GovernedCamera,
            name=st.uuids().map(str),
            fps=st.floats(0, 240),
            importance=st.integers(1, 10),
            priority=st.booleans(),
            max_staleness_ms=st.one_of(st.none(), st.floats(1, 500)),
        ),
        max_size=6,
    ),
    window_ms=st.floats(0, 100),
)
def test_the_ladder_ends_and_spares_who_is_to_be_spared(
    cameras: List[GovernedCamera], window_ms: float
) -> None:
    steps = climb(cameras, window_ms=window_ms)
    by_name = {camera.name: camera for camera in cameras}
    kinds = [step.kind for step in steps]
    order = {StepKind.FPS: 0, StepKind.WINDOW: 1, StepKind.PAUSE: 2}
    assert kinds == sorted(kinds, key=lambda kind: order[kind])
    for step in steps:
        assert step.camera is None or not by_name[step.camera].priority
        if step.kind is StepKind.FPS:
            assert CONFIG.min_fps <= step.after < step.before
        if step.kind is StepKind.WINDOW:
            assert step.before < step.after <= CONFIG.max_window_ms
    running = [camera for camera in cameras if camera.fps > 0]
    paused = restraints(steps).paused
    assert not running or any(camera.name not in paused for camera in running)
    importances = [
        by_name[s.camera].importance for s in steps if s.kind is StepKind.FPS and s.camera
    ]
    assert importances == sorted(importances)
