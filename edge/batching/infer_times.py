"""What the engine takes for each batch size, also for those it has not seen of late."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Dict, Iterable, Mapping, Tuple

from edge.clock import NS_PER_S

# How much the newest time of a batch size weighs in its running mean.
_WEIGHT = 0.2

_SHORTEST_MS = 1e-3  # changes are ratios: nothing takes no time at all

# Long, as a size that is forgotten has to be tried again, whether it serves the cameras or not.
_MEMORY_NS = 600 * NS_PER_S


@dataclass(frozen=True)
class _Known:
    """A size's mean when it was last seen, and what the others were thought to take then."""

    ms: float
    seen_ns: int
    beside: Mapping[int, float]


class InferTimes:
    """The typical time of each batch size, by its newest batches.

    An engine that a throttled clock or a neighbour slows down is slower at every size: what was
    not seen of late is taken to have changed as the sizes that were.
    """

    def __init__(self) -> None:
        self._known: Dict[int, _Known] = {}

    def learn(self, batches: Iterable[Tuple[int, float]], now_ns: int) -> None:
        """Notes the times in milliseconds of batches that have just been done."""
        believed = self.typical_ms()
        seen = set()
        for size, measured_ms in batches:
            infer_ms = max(measured_ms, _SHORTEST_MS)
            before_ms = believed.get(size, infer_ms)
            believed[size] = before_ms + _WEIGHT * (infer_ms - before_ms)
            seen.add(size)
        for size in seen:
            self._known[size] = _Known(believed[size], now_ns, believed)
        for size, known in list(self._known.items()):
            if now_ns - known.seen_ns > _MEMORY_NS:
                del self._known[size]

    def typical_ms(self) -> Dict[int, float]:
        """Milliseconds by batch size, as the engine is now."""
        typical: Dict[int, float] = {}
        newest_first = sorted(self._known.items(), key=lambda item: -item[1].seen_ns)
        for size, known in newest_first:
            changes = [
                typical[other] / known.beside[other]
                for other in typical
                if other in known.beside and self._known[other].seen_ns > known.seen_ns
            ]
            typical[size] = known.ms * statistics.median(changes) if changes else known.ms
        return typical
