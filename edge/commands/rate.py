"""How many commands are carried out within a minute."""

from __future__ import annotations

import math
from collections import deque
from typing import Deque

from edge.clock import NS_PER_S

_MINUTE_NS = 60 * NS_PER_S


class RateLimit:
    """Admits at most `per_minute` within any minute; pure."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._admitted_ns: Deque[int] = deque()

    def wait_s(self, now_ns: int) -> int:
        """Whole seconds until the next one is admitted; 0 for now."""
        while self._admitted_ns and now_ns - self._admitted_ns[0] >= _MINUTE_NS:
            self._admitted_ns.popleft()
        if len(self._admitted_ns) < self._per_minute:
            return 0
        return math.ceil((self._admitted_ns[0] + _MINUTE_NS - now_ns) / NS_PER_S)

    def admit(self, now_ns: int) -> None:
        """Counts one that is carried out."""
        self._admitted_ns.append(now_ns)
