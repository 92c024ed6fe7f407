"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import random


class Backoff:
    """Delays that double from `first_s` to `limit_s`.

    Each is shortened at random by up to half, so that what was lost together (cameras behind a
    switch that restarts, a site's appliances when their broker does) does not all come back in
    the same instant.
    """

    def __init__(self, rng: random.Random, first_s: float = 1.0, limit_s: float = 30.0) -> None:
        self._rng = rng
        self._first_s = first_s
        self._longest_s = first_s
        self.limit_s = limit_s

    def next_s(self) -> float:
        """Seconds to wait before the next attempt."""
        longest_s = self._longest_s
        self._longest_s = min(longest_s * 2, self.limit_s)
        return longest_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Starts over, after a success."""
        self._longest_s = self._first_s
