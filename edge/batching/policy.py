"""When a batch leaves, and who rides in it: pure decisions, time comes in as a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional

from edge.clock import NS_PER_MS, NS_PER_S
from edge.config.schema import BatchingConfig


@dataclass(frozen=True)
class Decision:
    """Close the open slot now, or look again at `wake_ns` (None: only when something changes)."""

    close: bool
    wake_ns: Optional[int] = None


_CLOSE = Decision(close=True)
_IDLE = Decision(close=False)


class BatchPolicy:
    """Closes on full, or when the slot's first frame has waited `max_wait_ms`.

    Never while the pipeline is busy (late binding): a slot closed early would only queue, while
    an open one still takes newer frames.
    """

    def __init__(self, config: BatchingConfig) -> None:
        self._target = config.target
        self._max_wait_ns = int(config.max_wait_ms * NS_PER_MS)

    def decide(
        self, occupied: int, opened_ns: int, cameras: int, can_take: bool, now_ns: int
    ) -> Decision:
        """Decides about a slot of `occupied` rows whose first frame came at `opened_ns`.

        `cameras` is how many deliver at present: each has at most one row, so a slot that holds
        one of every camera is full below the target.
        """
        if occupied == 0 or not can_take:
            return _IDLE
        if occupied >= min(self._target, max(cameras, 1)):
            return _CLOSE
        deadline_ns = opened_ns + self._max_wait_ns
        return _CLOSE if now_ns >= deadline_ns else Decision(close=False, wake_ns=deadline_ns)


class TurnOrder:
    """Least recently admitted camera first, so that more cameras than rows starve nobody."""

    def __init__(self) -> None:
        self._last_turn: Dict[str, int] = {}
        self._last_ns: Dict[str, int] = {}
        self._turn = 0

    def sorted(self, cameras: Iterable[str]) -> List[str]:
        """The cameras in the order in which they may take a free row."""
        return sorted(cameras, key=lambda camera: self._last_turn.get(camera, -1))

    def admitted(self, camera: str, now_ns: int) -> None:
        """Notes that `camera` took a row."""
        self._turn += 1
        self._last_turn[camera] = self._turn
        self._last_ns[camera] = now_ns

    def delivering(self, now_ns: int) -> int:
        """How many cameras took a row within the last second: nobody waits for the others."""
        return sum(now_ns - last_ns <= NS_PER_S for last_ns in self._last_ns.values())
