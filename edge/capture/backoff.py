"""How long to wait before a camera is tried again."""

from __future__ import annotations

import random

FIRST_S = 1.0
MAX_S = 30.0


class Backoff:
    """Delays that double from 1 to 30 s.

    Each is shortened at random by up to half, so that cameras lost together (a switch that
    restarts) do not all come back in the same instant.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._longest_s = FIRST_S

    def next_s(self) -> float:
        """Seconds to wait before the next attempt."""
        longest_s = self._longest_s
        self._longest_s = min(longest_s * 2, MAX_S)
        return longest_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Starts over, after a success."""
        self._longest_s = FIRST_S
