from __future__ import annotations

from typing import Dict, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.batching.infer_times import InferTimes
from edge.clock import NS_PER_S


def learnt(*steps: List[Tuple[int, float]]) -> Dict[int, float]:
    """What is typical after so many steps, one a second."""
    times = InferTimes()
    for second, batches in enumerate(steps):
        times.learn(batches, second * NS_PER_S)
    return times.typical_ms()


def lasting(batches: List[Tuple[int, float]]) -> List[List[Tuple[int, float]]]:
    """The same again, until the running mean has followed."""
    return [batches * 10] * 10


def test_a_size_has_the_running_mean_of_its_times() -> None:
    assert learnt([(4, 10.0), (4, 20.0)]) == {4: pytest.approx(12.0)}
    assert learnt(*lasting([(4, 10.0)]), *lasting([(4, 30.0)]))[4] == pytest.approx(30.0)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.25, 3.0])
def test_sizes_not_seen_change_as_those_that_are(factor: float) -> None:
    before = lasting([(1, 20.0), (4, 70.0), (16, 282.0)])
    after = lasting([(1, 20.0 * factor), (4, 70.0 * factor)])
    typical = learnt(*before, *after)
    assert typical[16] == pytest.approx(282.0 * factor)
    # And as it was, once the engine is what it was.
    typical = learnt(*before, *after, *lasting([(1, 20.0)]))
    assert typical == pytest.approx({1: 20.0, 4: 70.0, 16: 282.0})


def test_a_change_is_passed_on_from_size_to_size() -> None:
    """The largest was never seen beside the smallest; the one between links them."""
    typical = learnt(
        *lasting([(8, 80.0), (16, 150.0)]),
        *lasting([(8, 80.0), (1, 12.0)]),
        *lasting([(1, 24.0)]),
    )
    assert typical == pytest.approx({1: 24.0, 8: 160.0, 16: 300.0})


def test_a_size_seen_again_goes_on_from_what_was_believed() -> None:
    before = lasting([(1, 20.0), (16, 282.0)])
    typical = learnt(*before, *lasting([(1, 40.0)]), [(16, 564.0)])
    assert typical[16] == pytest.approx(564.0, rel=1e-3)


@pytest.mark.parametrize(("seconds", "is_known"), [(600, True), (601, False)])
def test_a_size_is_forgotten_after_ten_minutes(seconds: int, is_known: bool) -> None:
    times = InferTimes()
    times.learn([(16, 282.0)], 0)
    times.learn([(1, 20.0)], seconds * NS_PER_S)
    assert (16 in times.typical_ms()) is is_known


@given(
    st.lists(st.lists(st.tuples(st.integers(1, 64), st.floats(0, 1e4)), max_size=4), max_size=30)
)
def test_every_size_seen_has_a_time_above_nothing(steps: List[List[Tuple[int, float]]]) -> None:
    typical = learnt(*steps)
    assert set(typical) == {size for batches in steps for size, _ in batches}
    assert all(0 < infer_ms < float("inf") for infer_ms in typical.values())
