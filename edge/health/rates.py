"""Rates and latencies over the recent past, in bounded memory; whoever owns them locks."""

from __future__ import annotations

from collections import deque
from typing import Deque, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.clock import NS_PER_S

# Observations closer together than this share of the window are merged, which bounds memory.
_STEPS = 20


class RateMeter:
    """Events per second over the last `window_s` seconds, from a running total.

    The rate is a count over a span, so a camera that sends in bursts reads as steady, and one
    that stopped falls to 0 within the window.
    """

    def __init__(self, window_s: float = 5.0) -> None:
        if window_s <= 0:
            raise ValueError(f"window_s must be positive, got {window_s}")
        self._window_ns = int(window_s * NS_PER_S)
        self._seen: Deque[Tuple[int, int]] = deque()

    def observe(self, now_ns: int, total: int) -> None:
        """Notes that `total` events have happened since the start, at monotonic `now_ns`."""
        seen = self._seen
        if len(seen) > 1 and now_ns - seen[-2][0] < self._window_ns // _STEPS:
            seen[-1] = (now_ns, total)
        else:
            seen.append((now_ns, total))
        # The newest observation that is a whole window old stays: the span begins there.
        while len(seen) > 2 and seen[1][0] <= now_ns - self._window_ns:
            seen.popleft()

    def per_second(self) -> float:
        """Events per second up to the last observation; 0 before there are two."""
        if len(self._seen) < 2:
            return 0.0
        (first_ns, first_total), (last_ns, last_total) = self._seen[0], self._seen[-1]
        span_ns = last_ns - first_ns
        return (last_total - first_total) * NS_PER_S / span_ns if span_ns > 0 else 0.0


def percentiles(
    samples_ms: NDArray[np.float64], percents: Sequence[float]
) -> Tuple[Optional[float], ...]:
    """The latencies in milliseconds that so many percent of the samples do not exceed.

    Interpolates between samples; None for each while there are none.
    """
    if not len(samples_ms):
        return (None,) * len(percents)
    return tuple(float(value) for value in np.percentile(samples_ms, percents))
