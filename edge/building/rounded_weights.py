"""A layer's weights in 8 bits, and the bias that makes up for what the rounding shifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

_SMALLEST_SCALE = 1e-12
_BIAS_LIMIT = 2.0**30


@dataclass(frozen=True, eq=False)
class Weighted:
    """A layer in float32; `axis` counts its output channels, None asks for one scale for all."""

    weights: NDArray[np.float32]
    bias: Optional[NDArray[np.float32]]
    axis: Optional[int]


@dataclass(frozen=True, eq=False)
class Rounded:
    """Weights as `steps` int8 of `scales`, one per output channel or one for all; and the bias."""

    steps: NDArray[np.int8]
    scales: NDArray[np.float32]
    bias: Optional[NDArray[np.float32]]


def round_layer(
    layer: Weighted,
    limit: int,
    input_scale: float,
    input_means: Optional[NDArray[np.float64]] = None,
) -> Rounded:
    """Rounds to at most `limit` steps; `input_means` is the mean of each input channel, if known.

    Rounded weights shift a channel's mean, for all pixels alike; the bias takes that back.
    """
    scales = _scales(layer, limit, input_scale)
    along = [-1 if axis == layer.axis else 1 for axis in range(layer.weights.ndim)]
    steps = np.clip(np.round(layer.weights / scales.reshape(along)), -limit, limit)
    bias = layer.bias
    if bias is not None and input_means is not None and layer.weights.ndim == 4 and layer.axis == 0:
        error = steps * scales.reshape(along) - layer.weights
        bias = (bias - _mean_shift(error, input_means)).astype(np.float32)
    return Rounded(steps.astype(np.int8), scales, bias)


def _scales(layer: Weighted, limit: int, input_scale: float) -> NDArray[np.float32]:
    """Wide enough for the largest weight, and for a bias of 32 bits in steps of both scales."""
    others = tuple(axis for axis in range(layer.weights.ndim) if axis != layer.axis)
    largest = np.max(np.abs(layer.weights), axis=others)
    bias: Any = np.zeros(1) if layer.bias is None else np.abs(layer.bias)
    if layer.axis is None:
        bias = np.max(bias)
    wide = np.maximum(largest / limit, bias / (input_scale * _BIAS_LIMIT))
    scales: NDArray[np.float32] = np.maximum(wide, _SMALLEST_SCALE).astype(np.float32)
    return scales


def _mean_shift(error: NDArray[Any], input_means: NDArray[np.float64]) -> NDArray[np.float64]:
    """What wrong kernels [out, in / groups, h, w] add to each output, away from the border."""
    outputs, inputs = error.shape[:2]
    groups = len(input_means) // inputs
    means = input_means.reshape(groups, inputs).repeat(outputs // groups, axis=0)
    shift: NDArray[np.float64] = (error.sum(axis=(2, 3)) * means).sum(axis=1)
    return shift
