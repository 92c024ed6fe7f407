"""Weights in 8 bits, and the bias that makes up for them."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.building.rounded_weights import Rounded, Weighted, round_layer


def layer(shape: tuple[int, ...], axis: Optional[int] = 0, bias: bool = True) -> Weighted:
    random = np.random.default_rng(2)
    weights = random.normal(0, 1, shape).astype(np.float32)
    biases = random.normal(0, 1, shape[axis or 0]).astype(np.float32)
    return Weighted(weights, biases if bias else None, axis)


def restored(rounded: Rounded, axis: Optional[int]) -> NDArray[Any]:
    along = [-1 if number == axis else 1 for number in range(rounded.steps.ndim)]
    made: NDArray[Any] = rounded.steps * rounded.scales.reshape(along)
    return made


@pytest.mark.parametrize("limit", [63, 127])
@pytest.mark.parametrize(
    ("shape", "axis"),
    {
        "convolution": ((6, 4, 3, 3), 0),
        "depthwise": ((8, 1, 3, 3), 0),
        "transposed": ((4, 6, 2, 2), 1),
        "matrix": ((5, 7), 1),
        "one scale for all": ((4, 6, 2, 2), None),
    }.values(),
)
def test_no_weight_moves_by_more_than_half_a_step(
    shape: tuple[int, ...], axis: Optional[int], limit: int
) -> None:
    made = layer(shape, axis, bias=False)
    rounded = round_layer(made, limit, 0.1)
    assert rounded.scales.shape == (() if axis is None else (shape[axis],))
    assert np.max(np.abs(rounded.steps.astype(int))) == limit
    error = np.abs(restored(rounded, axis) - made.weights)
    assert np.max(error) <= np.max(rounded.scales) * 0.501


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_the_bias_keeps_the_mean_of_the_output(groups: int) -> None:
    made = layer((16, 8 // groups, 3, 3))
    means = np.random.default_rng(3).normal(2, 1, 8)
    rounded = round_layer(made, 7, 1e-3, means)
    assert made.bias is not None
    assert rounded.bias is not None
    patches = means.reshape(groups, 1, 8 // groups, 1, 1)

    def output(weights: NDArray[Any], bias: NDArray[np.float32]) -> NDArray[Any]:
        grouped = weights.reshape(groups, 16 // groups, 8 // groups, 3, 3)
        total: NDArray[Any] = (grouped * patches).sum(axis=(2, 3, 4)).reshape(16) + bias
        return total

    exact = output(made.weights, made.bias)
    assert np.max(np.abs(output(restored(rounded, 0), made.bias) - exact)) > 0.1
    np.testing.assert_allclose(output(restored(rounded, 0), rounded.bias), exact, atol=1e-4)


def test_without_means_or_bias_nothing_is_made_up() -> None:
    made = layer((6, 4, 3, 3))
    assert round_layer(made, 63, 0.1).bias is made.bias
    assert round_layer(layer((6, 4, 3, 3), bias=False), 63, 0.1, np.ones(4)).bias is None


def test_a_large_bias_fits_into_32_bits() -> None:
    tiny = Weighted(np.full((1, 1, 1, 1), 1e-9, np.float32), np.array([1e4], np.float32), 0)
    rounded = round_layer(tiny, 63, 1e-6)
    assert 1e4 / (float(rounded.scales[0]) * 1e-6) < 2**31
