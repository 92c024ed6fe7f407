from __future__ import annotations

from typing import Dict, List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.batching.tuner import Cost, Load, Tuner
from edge.clock import NS_PER_MS, NS_PER_S
from edge.records import BatchSetting

BOUNDS = BatchSetting(target=32, window_ms=50.0)
SMALL_GPU = {n: 6 + 2.2 * n for n in (1, 4, 8)}


def load(arrival_fps: float, utilization: float = 0.5) -> Load:
    return Load(arrival_fps, utilization, SMALL_GPU)


def settled(arrival_fps: float, utilization: float = 0.5, bounds: BatchSetting = BOUNDS) -> Tuner:
    """A tuner that has seen this load for ten seconds."""
    tuner = Tuner(bounds)
    for second in range(11):
        tuner.advise(second * NS_PER_S, load(arrival_fps, utilization))
    return tuner


def advice_after(
    tuner: Tuner, ms: float, arrival_fps: float, utilization: float = 0.5
) -> Optional[BatchSetting]:
    """What `settled`'s tuner says so long after the last time it was asked."""
    return tuner.advise(10 * NS_PER_S + int(ms * NS_PER_MS), load(arrival_fps, utilization))


@pytest.mark.parametrize(
    ("infer_ms", "expected"),
    [
        pytest.param({1: 8.2, 8: 23.6}, Cost(6.0, 2.2), id="two sizes"),
        pytest.param({1: 8.2, 4: 14.8, 20: 50.0}, Cost(6.0, 2.2), id="three on the line"),
        pytest.param({4: 20.0}, Cost(20.0, 0.0), id="one size: hopeful"),
        pytest.param({2: 20.0, 4: 40.0}, Cost(0.0, 10.0), id="batching brings nothing"),
        pytest.param({2: 20.0, 4: 60.0}, Cost(0.0, 40.0 / 3), id="worse: no negative base"),
        pytest.param({2: 20.0, 4: 18.0}, Cost(19.0, 0.0), id="noise: no negative slope"),
    ],
)
def test_cost_is_a_line_with_no_negative_part(infer_ms: Dict[int, float], expected: Cost) -> None:
    cost = Cost.fit(infer_ms)
    assert cost.base_ms == pytest.approx(expected.base_ms, abs=1e-9)
    assert cost.frame_ms == pytest.approx(expected.frame_ms, abs=1e-9)


@pytest.mark.parametrize(
    ("fps", "largest", "expected"),
    [
        pytest.param(100, 8, 1, id="carried by single frames"),
        pytest.param(101, 8, 2, id="just not"),
        pytest.param(400, 8, 4, id="just by four"),
        pytest.param(401, 8, 5, id="five"),
        pytest.param(401, 4, 4, id="no more than the largest"),
        pytest.param(9e9, 8, 8, id="by none"),
    ],
)
def test_smallest_batch_that_carries_a_load(fps: float, largest: int, expected: int) -> None:
    assert Cost(base_ms=10.0, frame_ms=0.0).smallest_batch(fps, largest) == expected


@pytest.mark.parametrize(
    ("arrival_fps", "target", "window_ms"),
    [
        pytest.param(20, 1, 0.0, id="hardly anything: every frame at once"),
        pytest.param(80, 3, 0.0, id="light: gathered only while the engine is busy"),
        pytest.param(300, 23, 23.3, id="heavy: at the knee"),
        pytest.param(600, 23, 36.7, id="beyond saturation: no further than the knee"),
    ],
)
def test_a_lasting_load_gets_the_setting_it_needs(
    arrival_fps: float, target: int, window_ms: float
) -> None:
    tuner = Tuner(BOUNDS)
    advised = [
        advice
        for second in range(20)
        for advice in [tuner.advise(second * NS_PER_S, load(arrival_fps))]
        if advice is not None
    ]
    assert advised[-1].target == target
    assert advised[-1].window_ms == pytest.approx(window_ms, abs=0.1)
    assert len(advised) == 1, "one change, then peace"


@pytest.mark.parametrize(
    ("ms", "arrival_fps", "changes"),
    [
        pytest.param(1_000, 600, True, id="more, at once"),
        pytest.param(60_000, 100, False, id="the same, never"),
        pytest.param(60_000, 103, False, id="a little more, never"),
        pytest.param(60_000, 97, False, id="a little less, never"),
    ],
)
def test_changes_wait_for_their_reason_to_last(
    ms: float, arrival_fps: float, changes: bool
) -> None:
    assert (advice_after(settled(100), ms, arrival_fps) is not None) is changes


def test_less_load_is_followed_after_five_seconds() -> None:
    tuner = settled(100)
    assert advice_after(tuner, 1_000, 600) is not None
    assert advice_after(tuner, 5_999, 20) is None
    assert advice_after(tuner, 6_000, 20) == BatchSetting(1, 0.0)


def test_a_second_rise_waits_for_a_second() -> None:
    tuner = settled(20)
    assert advice_after(tuner, 1_000, 100) is not None
    assert advice_after(tuner, 1_999, 600) is None
    assert advice_after(tuner, 2_000, 600) is not None


def test_an_engine_that_is_full_against_the_arithmetic_gets_larger_batches() -> None:
    tuner = settled(20)
    assert advice_after(tuner, 1_000, 20, utilization=0.94) is None
    advice = advice_after(tuner, 1_000, 20, utilization=0.95)
    assert advice is not None
    assert advice.target > 1


@pytest.mark.parametrize(
    ("infer_ms", "utilization", "is_tried"),
    [
        pytest.param({1: 20.0}, 0.899, False, id="one size known, and time to spare"),
        pytest.param({1: 20.0}, 0.9, True, id="one size known, and hardly time to spare"),
        pytest.param({1: 20.0, 4: 26.0}, 0.5, True, id="known to pay"),
    ],
)
def test_larger_batches_are_tried_only_where_somebody_needs_them(
    infer_ms: Dict[int, float], utilization: float, is_tried: bool
) -> None:
    tuner = settled(10)
    advice = tuner.advise(12 * NS_PER_S, Load(44.0, utilization, infer_ms))
    assert (advice is not None) is is_tried


@pytest.mark.parametrize(
    "unknown",
    [Load(100.0, 0.5, {}), Load(0.0, 0.0, SMALL_GPU)],
    ids=["no batch yet", "no frames"],
)
def test_without_knowledge_nothing_changes(unknown: Load) -> None:
    tuner = Tuner(BOUNDS)
    assert [tuner.advise(second * NS_PER_S, unknown) for second in range(20)] == [None] * 20


@given(
    steps=st.lists(
        st.tuples(
            st.integers(1, 8_000),
            st.floats(0, 5_000),
            st.floats(0, 1.2),
            st.dictionaries(st.integers(1, 64), st.floats(0.01, 500), max_size=5),
        ),
        max_size=40,
    ),
    target=st.integers(1, 64),
    window_ms=st.sampled_from([0.0, 3.3, 10.0, 1000.0]),
)
def test_advice_stays_within_the_bounds_and_dwells(
    steps: List[Tuple[int, float, float, Dict[int, float]]], target: int, window_ms: float
) -> None:
    tuner = Tuner(BatchSetting(target, window_ms))
    now_ns, changed_ns = 0, 0
    for gap_ms, arrival_fps, utilization, infer_ms in steps:
        now_ns += gap_ms * NS_PER_MS
        advice = tuner.advise(now_ns, Load(arrival_fps, utilization, infer_ms))
        if advice is not None:
            assert 1 <= advice.target <= target
            assert 0 <= advice.window_ms <= window_ms
            assert changed_ns == 0 or now_ns - changed_ns >= NS_PER_S
            changed_ns = now_ns
