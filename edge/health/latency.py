"""How long things took lately: percentiles of DataDog's DDSketch, each within 1 % of the truth."""

from __future__ import annotations

from collections import deque
from typing import Deque, Iterable

from ddsketch import DDSketch

from edge.clock import NS_PER_S
from edge.records import Percentiles

_ACCURACY = 0.01

# Percentiles are over the last one to two of these.
_SPAN_NS = 15 * NS_PER_S

# What came since the last look; more than that at once is more than any percentile needs.
_WAITING = 8192


class RecentLatencies:
    """Durations of the last 15 to 30 seconds.

    `add` belongs to the frame path, and only notes; the sketches belong to whoever looks.
    """

    def __init__(self) -> None:
        # Appended by one thread and emptied by the other: both ends of a deque are thread-safe.
        self._waiting: Deque[float] = deque(maxlen=_WAITING)
        self._before, self._now = _sketch(), _sketch()
        self._began_ns = 0

    def add(self, ms: float) -> None:
        """Notes a duration."""
        self._waiting.append(ms)

    def look(self, now_ns: int) -> None:
        """Takes in what was noted, and forgets what is too old; called a few times a second."""
        if now_ns - self._began_ns >= _SPAN_NS:
            self._before, self._now, self._began_ns = self._now, _sketch(), now_ns
        self._take_in()

    def add_to(self, sketch: DDSketch) -> None:
        """Adds what is remembered."""
        self._take_in()
        sketch.merge(self._before)
        sketch.merge(self._now)

    def _take_in(self) -> None:
        while self._waiting:
            self._now.add(self._waiting.popleft())


def percentiles(latencies: Iterable[RecentLatencies]) -> Percentiles:
    """Of all that these remember together; None each where that is nothing."""
    everything = _sketch()
    for each in latencies:
        each.add_to(everything)
    return Percentiles(*(everything.get_quantile_value(share) for share in (0.5, 0.95, 0.99)))


def _sketch() -> DDSketch:
    return DDSketch(_ACCURACY)
