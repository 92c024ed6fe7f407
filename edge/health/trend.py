"""Whether a noisy number rises or falls; pure."""

from __future__ import annotations

from collections import deque
from typing import Deque, Optional, Tuple

from edge.clock import NS_PER_S

_SPAN_NS = 60 * NS_PER_S
_SHORTEST_NS = 15 * NS_PER_S


class Trend:
    """The slope of the least-squares line through the last minute: sensors read in steps of up to
    half a degree, so that two readings alone say nothing.
    """

    def __init__(self) -> None:
        self._points: Deque[Tuple[int, float]] = deque(maxlen=512)

    def add(self, now_ns: int, value: float) -> None:
        """Takes a reading."""
        self._points.append((now_ns, value))
        while self._points[0][0] < now_ns - _SPAN_NS:
            self._points.popleft()

    def restart(self) -> None:
        """What was, says nothing of what comes."""
        self._points.clear()

    def per_s(self) -> Optional[float]:
        """Units a second; None before the readings span 15 s."""
        if not self._points or self._points[-1][0] - self._points[0][0] < _SHORTEST_NS:
            return None
        start_ns = self._points[0][0]
        at_s = [(at_ns - start_ns) / NS_PER_S for at_ns, _ in self._points]
        count = len(at_s)
        mean_s = sum(at_s) / count
        mean = sum(value for _, value in self._points) / count
        joint = sum((s - mean_s) * (v - mean) for s, (_, v) in zip(at_s, self._points))
        return joint / sum((s - mean_s) ** 2 for s in at_s)
