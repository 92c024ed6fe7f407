"""Whether a device hangs: it raises nothing, so only its silence tells."""

from __future__ import annotations

from typing import Optional

from edge.clock import NS_PER_S

# Who looks does so several times a second. After a longer gap it was this process that stood
# still, stopped by a signal or by a busy machine, and the device may have answered since.
_LONGEST_STEP_NS = NS_PER_S // 2


class StallWatch:
    """Adds up the time that a device was seen to be silent; called several times a second."""

    def __init__(self, stall_s: float) -> None:
        self._stall_ns = int(stall_s * NS_PER_S)
        self._looked_ns: Optional[int] = None
        self._since_ns: Optional[int] = None
        self._silent_ns = 0

    def look(self, now_ns: int, silent_since_ns: Optional[int]) -> Optional[float]:
        """Seconds of silence once they are more than `stall_s`, else None.

        `silent_since_ns` is when the device should have begun to answer, None while nothing is
        asked of it.
        """
        looked_ns, self._looked_ns = self._looked_ns, now_ns
        if silent_since_ns != self._since_ns:
            self._since_ns, self._silent_ns = silent_since_ns, 0
        if silent_since_ns is None:
            return None
        from_ns = silent_since_ns if looked_ns is None else max(looked_ns, silent_since_ns)
        # It may have begun between the reading of the clock and this call.
        self._silent_ns += min(max(now_ns - from_ns, 0), _LONGEST_STEP_NS)
        return self._silent_ns / NS_PER_S if self._silent_ns > self._stall_ns else None
