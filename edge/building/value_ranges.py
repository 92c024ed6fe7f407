"""Which values a tensor takes, and which of them are worth a place on an 8-bit scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.config.schema import CalibrationMethod

_BINS = 2048
# Magnitudes that 8 bits tell apart, with a sign and without.
_SIGNED_LEVELS, _UNSIGNED_LEVELS = 127, 255

_STEP = 8  # bins between two thresholds that are tried

# Of each frame's tensor at most about this many values are counted: over hundreds of frames that
# is plenty. Its extremes are looked for among all.
_COUNTED = 65_536

# Bins of a tensor of next to nothing must still have a width.
_SMALLEST_LIMIT = 1e-30

# Stands for the probability of values that a scale cannot tell from others that never occur.
_TINY = 1e-10


@dataclass(frozen=True)
class ValueRange:
    """The values that 8 bits are spread over; always holds 0, which padding must hit exactly."""

    low: float
    high: float


class Histogram:
    """How often each magnitude occurred in a tensor, and its channels' means, in bounded memory.

    When a larger value arrives, the bins widen by a factor of two and the old counts merge in
    pairs, so one pass over the images is enough.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)
        self._limit = 0.0
        self._added = 0
        self._sums: NDArray[np.float64] = np.zeros(1)
        self.low = 0.0
        self.high = 0.0

    @property
    def channel_means(self) -> NDArray[np.float64]:
        """The mean of each index of the second axis; of all values where there is none."""
        return self._sums / max(self._added, 1)

    @property
    def is_finite(self) -> bool:
        """False once a NaN or an infinity was added."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def add(self, values: NDArray[np.float32]) -> None:
        """Counts a tensor's values."""
        # np.minimum and np.maximum keep NaN, Python's min() and max() would lose it.
        self.low = float(np.minimum(self.low, np.min(values)))
        self.high = float(np.maximum(self.high, np.max(values)))
        if self.is_finite and self.low < self.high:
            self._widen(max(-self.low, self.high))
            self._count(np.abs(_sample(values)))
            others = tuple(axis for axis in range(values.ndim) if axis != 1)
            self._sums = self._sums + np.mean(values, axis=others, dtype=np.float64)
        self._added += 1

    def value_range(self, method: CalibrationMethod, *, is_symmetric: bool = False) -> ValueRange:
        """All values that occurred, or for `entropy` those that tell most of them apart."""
        if method is CalibrationMethod.MINMAX or not self._counts[1:].any():
            return ValueRange(self.low, self.high)
        levels = _SIGNED_LEVELS if is_symmetric else self._levels_of_larger_sign()
        cut = self._limit * best_threshold(self._counts, levels) / _BINS
        return ValueRange(max(self.low, -cut), min(self.high, cut))

    def _levels_of_larger_sign(self) -> int:
        share = max(-self.low, self.high) / (self.high - self.low)
        return round(_UNSIGNED_LEVELS * share)

    def _widen(self, largest: float) -> None:
        if self._limit == 0.0:
            self._limit = max(largest, _SMALLEST_LIMIT)
        while self._limit < largest:
            self._counts[: _BINS // 2] = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts[_BINS // 2 :] = 0
            self._limit *= 2

    def _count(self, magnitudes: NDArray[np.float32]) -> None:
        bins = (magnitudes * np.float32(_BINS / self._limit)).astype(np.intp)
        self._counts += np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS)


def _sample(values: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = values.reshape(-1)
    # An odd step does not fall on the same column of every row.
    return flat[:: flat.size // _COUNTED | 1]


def best_threshold(counts: NDArray[np.int64], levels: int) -> int:
    """The number of bins to keep so that `levels` lose the least information.

    What lies beyond is clipped. The loss is the Kullback-Leibler divergence of the values'
    distribution from what is left of it on so few levels, as TensorRT's calibrator has it.
    """
    weights = counts.astype(np.float64)
    # Zeros are exact on any scale, and there are so many that they would decide alone.
    weights[0] = weights[1]
    total = weights.sum()
    kept = np.cumsum(weights)
    candidates = range(levels, len(weights) + 1, _STEP)
    losses = [_loss(weights[:size], total - kept[size - 1], levels) for size in candidates]
    return candidates[int(np.argmin(losses))]


def _loss(kept: NDArray[np.float64], clipped: float, levels: int) -> float:
    size = len(kept)
    edges = np.arange(levels) * size // levels
    occurs = kept > 0
    level_mass = np.add.reduceat(kept, edges)
    level_bins = np.add.reduceat(occurs.astype(np.float64), edges)
    means = level_mass / np.maximum(level_bins, 1)
    coarse = np.repeat(means, np.diff(np.append(edges, size))) * occurs
    fine = kept.copy()
    fine[-1] += clipped
    occurs = fine > 0
    p = fine[occurs] / fine.sum()
    q = np.maximum(coarse[occurs] / max(coarse.sum(), _TINY), _TINY)
    return float(np.sum(p * np.log(p / q)))
