"""Taking times on a machine that others use as well."""

from __future__ import annotations

import time
from typing import Callable, Dict, List, Mapping, Sequence

import numpy as np

from edge.clock import NS_PER_MS

Way = Callable[[], object]
"""One of several ways to do the same work."""


def interleave(ways: Mapping[str, Way], rounds: int) -> Dict[str, List[float]]:
    """Milliseconds of each way in each round, taken in turn, so that all see the same noise.

    Every way runs once before, untimed.
    """
    for way in ways.values():
        way()
    took_ms: Dict[str, List[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            took_ms[name].append(time_ms(way))
    return took_ms


def time_ms(way: Way) -> float:
    """Milliseconds of wall clock that one call takes."""
    start_ns = time.perf_counter_ns()
    way()
    return (time.perf_counter_ns() - start_ns) / NS_PER_MS


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over the rounds of ours / theirs: a slow spell that hits one round counts once."""
    return float(np.median(np.asarray(ours) / np.asarray(theirs)))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed."""
    return float(np.percentile(np.asarray(values), percent))
