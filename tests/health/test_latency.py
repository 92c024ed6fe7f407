from __future__ import annotations

from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import NS_PER_S
from edge.health.latency import RecentLatencies, percentiles
from edge.records import Percentiles


def of(latencies: RecentLatencies) -> Percentiles:
    return percentiles([latencies])


def test_of_nothing_nothing_is_known() -> None:
    assert of(RecentLatencies()) == Percentiles()
    assert percentiles([]) == Percentiles()


@given(st.lists(st.floats(0.001, 1e7), min_size=1, max_size=300), st.integers(0, 10))
def test_percentiles_are_within_1_percent_of_a_sample_at_their_rank(
    samples_ms: List[float], looks: int
) -> None:
    latencies = RecentLatencies()
    for index, ms in enumerate(samples_ms):
        latencies.add(ms)
        if looks and index % looks == 0:
            latencies.look(index)
    ordered = sorted(samples_ms)
    found = of(latencies)
    for share, value in ((0.5, found.p50), (0.95, found.p95), (0.99, found.p99)):
        truth = ordered[int(share * (len(ordered) - 1))]
        assert value == pytest.approx(truth, rel=0.011)


def test_several_are_taken_together() -> None:
    fast, slow = RecentLatencies(), RecentLatencies()
    for _ in range(90):
        fast.add(10)
    for _ in range(10):
        slow.add(1000)
    together = percentiles([fast, slow])
    assert together.p50 == pytest.approx(10, rel=0.01)
    assert together.p95 == pytest.approx(1000, rel=0.01)
    assert of(fast).p99 == pytest.approx(10, rel=0.01)  # they stay as they were


AGES = {"the span before": (29, True), "two spans before": (30, False)}


@pytest.mark.parametrize(("age_s", "is_known"), AGES.values(), ids=AGES)
def test_what_is_two_spans_old_is_forgotten(age_s: int, is_known: bool) -> None:
    latencies = RecentLatencies()
    latencies.look(15 * NS_PER_S)
    latencies.add(7.0)
    for second in range(1, age_s + 1):
        latencies.look((15 + second) * NS_PER_S)
    assert (of(latencies).p50 is not None) is is_known


def test_memory_is_bounded_where_nobody_looks() -> None:
    latencies = RecentLatencies()
    for ms in range(20_000):
        latencies.add(float(ms))
    assert len(latencies._waiting) == 8192


def test_no_time_at_all_is_a_duration() -> None:
    latencies = RecentLatencies()
    latencies.add(0.0)
    assert of(latencies) == Percentiles(0.0, 0.0, 0.0)
