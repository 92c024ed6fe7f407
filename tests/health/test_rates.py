from __future__ import annotations

from typing import List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import NS_PER_MS, NS_PER_S
from edge.health.rates import RateMeter, percentiles


def meter_after(totals_per_tick: List[int], tick_ms: int = 250, window_s: float = 5) -> RateMeter:
    meter = RateMeter(window_s)
    for tick, total in enumerate(totals_per_tick):
        meter.observe(tick * tick_ms * NS_PER_MS, total)
    return meter


SERIES = {
    "nothing yet": ([], 0.0),
    "one observation has no span": ([100], 0.0),
    "two observations": ([0, 5], 20.0),
    "the first total is where counting starts": ([1000, 1005], 20.0),
    "steady": ([i * 5 for i in range(100)], 20.0),
    "in bursts every second": ([i // 4 * 20 for i in range(101)], 20.0),
    "stopped within the window": ([i * 5 for i in range(11)] + [50] * 10, 10.0),
    "stopped one tick short of the window": ([0] * 10 + [5] * 20, 1.0),
    "stopped a whole window ago": ([0] * 10 + [5] * 21, 0.0),
    "started anew": ([0] * 100 + [i * 5 for i in range(1, 21)], 20.0),
}


@pytest.mark.parametrize(("totals", "expected"), SERIES.values(), ids=SERIES)
def test_rate_counts_over_the_window(totals: List[int], expected: float) -> None:
    assert meter_after(totals).per_second() == pytest.approx(expected)


def test_observations_of_the_same_moment_have_no_rate() -> None:
    meter = RateMeter(1)
    meter.observe(0, 0)
    meter.observe(0, 10)
    assert meter.per_second() == 0.0


@given(st.lists(st.integers(0, 50 * NS_PER_MS), min_size=1, max_size=3000), st.integers(1, 20))
def test_memory_is_bounded_and_the_rate_is_between_the_extremes(
    gaps_ns: List[int], per_gap: int
) -> None:
    meter = RateMeter(1)
    now_ns = total = 0
    for gap_ns in gaps_ns:
        meter.observe(now_ns, total)
        now_ns, total = now_ns + gap_ns + NS_PER_MS, total + per_gap
        assert len(meter._seen) <= 23
    fastest = per_gap * NS_PER_S / (min(gaps_ns) + NS_PER_MS)
    assert 0 <= meter.per_second() <= fastest * 1.000001


def test_a_thousand_observations_a_second_are_merged() -> None:
    meter = meter_after([i * 3 for i in range(10_000)], tick_ms=1, window_s=1)
    assert len(meter._seen) <= 23
    assert meter.per_second() == pytest.approx(3000)


@pytest.mark.parametrize("window_s", [0, -1])
def test_a_window_must_have_a_length(window_s: float) -> None:
    with pytest.raises(ValueError, match="window_s must be positive"):
        RateMeter(window_s)


def test_latencies_of_nothing_are_unknown() -> None:
    assert percentiles(np.empty(0), (50, 99)) == (None, None)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=100))
def test_percentiles_are_interpolated(samples_ms: List[float]) -> None:
    p50, p99 = percentiles(np.array(samples_ms), (50, 99))
    assert p50 == pytest.approx(float(np.percentile(samples_ms, 50)))
    assert p99 == pytest.approx(float(np.percentile(samples_ms, 99)))
