"""What a histogram remembers, and which part of it is worth a scale."""

from __future__ import annotations

from typing import Any, List, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.building.value_ranges import Histogram, ValueRange, best_threshold
from edge.config.schema import CalibrationMethod

ENTROPY, MINMAX = CalibrationMethod.ENTROPY, CalibrationMethod.MINMAX


def histogram(*tensors: Any) -> Histogram:
    made = Histogram()
    for tensor in tensors:
        made.add(np.asarray(tensor, np.float32))
    return made


@pytest.mark.parametrize(
    ("values", "expected"),
    {
        "both signs": ([-1.5, 0.25, 3.0], (-1.5, 3.0)),
        "always positive": ([0.5, 2.0], (0.0, 2.0)),
        "always negative": ([-0.5, -2.0], (-2.0, 0.0)),
        "always zero": ([0.0, 0.0], (0.0, 0.0)),
        "one value": ([4.0], (0.0, 4.0)),
        "next to nothing": ([1.4012984643e-45, -1.4012984643e-45], (-1.5e-45, 1.5e-45)),
    }.values(),
)
@pytest.mark.parametrize("method", [MINMAX, ENTROPY])
def test_the_range_holds_zero_and_no_more_than_occurred(
    values: List[float], expected: Tuple[float, float], method: CalibrationMethod
) -> None:
    found = histogram(values).value_range(method)
    assert expected[0] <= found.low <= 0 <= found.high <= expected[1]
    if method is MINMAX:
        assert (found.low, found.high) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20), st.integers(1, 19))
def test_the_extremes_do_not_depend_on_the_order_or_the_batches(
    values: List[float], cut: int
) -> None:
    forward, backward = histogram(values), histogram(values[::-1])
    assert forward.value_range(MINMAX) == backward.value_range(MINMAX)
    if values[cut:]:
        assert histogram(values[:cut], values[cut:]).value_range(MINMAX) == forward.value_range(
            MINMAX
        )


def test_counts_of_small_values_survive_a_much_larger_one() -> None:
    random = np.random.default_rng(1)
    bulk = random.normal(0, 1, 50_000)
    early = histogram([100.0], bulk).value_range(ENTROPY)
    late = histogram(bulk, [100.0]).value_range(ENTROPY)
    assert 4 < early.high < 25
    assert 4 < late.high < 25


def test_entropy_clips_what_is_rare_and_minmax_does_not() -> None:
    bulk = np.random.default_rng(1).normal(0, 1, 50_000)
    outliers = histogram(bulk, [-40.0, 50.0])
    assert outliers.value_range(MINMAX) == ValueRange(-40.0, 50.0)
    clipped = outliers.value_range(ENTROPY)
    assert 3 < clipped.high < 15
    assert -15 < clipped.low < -3


def test_entropy_keeps_values_that_are_all_equally_likely() -> None:
    counts = np.full(2048, 100)
    assert best_threshold(counts, 128) >= 2048 - 16


def test_one_sign_alone_has_all_levels_and_is_clipped_less() -> None:
    positive = histogram(np.random.default_rng(1).lognormal(0, 1.5, 50_000))
    assert (
        positive.value_range(ENTROPY).high > positive.value_range(ENTROPY, is_symmetric=True).high
    )


def test_channel_means_are_those_of_all_that_was_added() -> None:
    first = np.array([[[1, 3], [5, 5]], [[3, 5], [7, 7]]], np.float32)
    second = np.array([[[6, 6], [0, 0]]], np.float32)
    found = histogram(first[:1], first[1:], second).channel_means
    np.testing.assert_allclose(found, [4, 4])


def test_a_long_tensor_is_sampled_but_its_extremes_are_found() -> None:
    values = np.zeros(1_000_000, np.float32)
    values[777_777] = 9.0
    values[::2] = 1.0
    found = histogram(values)
    assert found.value_range(MINMAX) == ValueRange(0.0, 9.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_noticed(bad: float) -> None:
    assert histogram([1.0, 2.0]).is_finite
    assert not histogram([1.0, bad, 2.0]).is_finite
    assert not histogram([1.0, bad], [2.0]).is_finite
