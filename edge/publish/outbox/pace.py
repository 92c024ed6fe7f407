"""How fast what has piled up goes out."""

from __future__ import annotations

from edge.clock import NS_PER_S

# What comes in grants two to go out: what has piled up shrinks while new ones come.
_PER_PUT = 2

# What may collect at least, or a slow pace would lose what a burst of puts has granted.
_BURST = 256


class DrainPace:
    """Lets out two for every one that comes in, and `drain_per_s` on top; pure.

    So it is never slower than twice the live rate, however that changes, and yet a gateway is
    not flooded with what an outage left.
    """

    def __init__(self, drain_per_s: float) -> None:
        self._drain_per_s = drain_per_s
        self._most = max(drain_per_s, _BURST)
        self._allowed = self._most
        self._counted_ns = 0

    def note_put(self) -> None:
        """An entry has come in."""
        self._allowed = min(self._allowed + _PER_PUT, self._most)

    def allowance(self, now_ns: int) -> int:
        """How many may go out now."""
        elapsed_s = max(0, now_ns - self._counted_ns) / NS_PER_S
        self._counted_ns = now_ns
        self._allowed = min(self._allowed + self._drain_per_s * elapsed_s, self._most)
        return int(self._allowed)

    def spend(self, count: int) -> None:
        """So many have gone out."""
        self._allowed -= count

    def pause_s(self, now_ns: int) -> float:
        """How long until one more may go out; 0 where one may now."""
        if self.allowance(now_ns) >= 1:
            return 0.0
        return (1 - self._allowed) / self._drain_per_s
