"""How often the cameras deliver, and how long it pays to wait for them."""

from __future__ import annotations

import itertools
import math
from collections import deque
from typing import Deque, Dict, List, Sequence, Tuple

from edge.clock import NS_PER_S

# A camera that was silent for this long is not waited for.
_SILENCE_NS = NS_PER_S

# Long enough that a network camera's pause of half a second (around its I-frames) does not look
# like a slow camera, short enough that a change of rate is followed within seconds.
_MEMORY_NS = 2 * NS_PER_S
_MAX_SAMPLES = 64  # at least that long up to 32 frames a second

# Waiting for less than this many frames only makes the present ones late.
_WORTHWHILE_FRAMES = 0.5


class Arrivals:
    """Each camera's frame rate, by count over span, looked at whenever a frame is admitted.

    What is counted are the frames that reached the mailbox: those replaced there unseen as well,
    but none above the camera's rate cap, which no batch can wait for.
    """

    def __init__(self) -> None:
        self._seen: Dict[str, Deque[Tuple[int, int]]] = {}

    def admitted(self, camera: str, received: int, now_ns: int) -> None:
        """Notes that a frame came into a slot, when so many had reached the mailbox in all."""
        seen = self._seen.setdefault(camera, deque(maxlen=_MAX_SAMPLES))
        seen.append((now_ns, received))
        while len(seen) > 2 and now_ns - seen[0][0] > _MEMORY_NS:
            seen.popleft()

    def forget(self, camera: str) -> None:
        """Does not wait for this camera any more, nor know its rate."""
        self._seen.pop(camera, None)

    def delivering(self, now_ns: int) -> int:
        """How many cameras delivered a frame within the last second."""
        return sum(now_ns - seen[-1][0] <= _SILENCE_NS for seen in self._seen.values())

    def rates(self, now_ns: int) -> List[float]:
        """Frames per second of each delivering camera whose rate is known."""
        rates: List[float] = []
        for seen in self._seen.values():
            (first_ns, first_count), (last_ns, last_count) = seen[0], seen[-1]
            if last_ns > first_ns and now_ns - last_ns <= _SILENCE_NS:
                rates.append((last_count - first_count) * NS_PER_S / (last_ns - first_ns))
        return rates

    def window_ns(self, target: int, limit_ns: int, now_ns: int) -> int:
        """How long to wait after a slot's first frame, at most `limit_ns`.

        Until the target is likely to be reached, and no longer than more frames join than
        replace one of their own camera; not at all where hardly another frame is to be expected
        in that time.
        """
        rates = self.rates(now_ns)
        if not rates:
            return limit_ns
        total = sum(rates)
        window_s = min(limit_ns / NS_PER_S, _turning_s(rates), _likely_frames(target - 1) / total)
        if (total - max(rates)) * window_s < _WORTHWHILE_FRAMES:
            return 0
        return int(window_s * NS_PER_S)


def _likely_frames(wanted: int) -> float:
    """How many frames to allow time for so that `wanted` come, with a standard deviation's margin.

    In the mean time alone half of the batches would stay short of the target, and a full one
    leaves early in any case. One other frame needs no margin: of two cameras, each leads the
    other by at most half a period one way round.
    """
    return wanted + math.sqrt(max(wanted - 1, 0))


def _turning_s(rates: Sequence[float]) -> float:
    """When half of the frames to come are of cameras that have sent one: their median period."""
    half = sum(rates) / 2
    fastest_first = sorted(rates, reverse=True)
    sent = itertools.accumulate(fastest_first)
    return next(1.0 / fps for fps, so_far in zip(fastest_first, sent) if so_far >= half)
