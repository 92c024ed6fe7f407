"""Whether the road of a frame is alive: what was accepted comes out.

Part of the composition root, with `line.py`. An absent camera or broker is no work that waits: a
restart would not bring them back.
"""

from __future__ import annotations

from typing import Callable, Optional, Tuple

from edge.errors import EdgeError, EngineHangs
from edge.inference.lanes import Lanes
from edge.inference.stall import StallWatch
from edge.records import DropCause
from edge.roster import Roster
from edge.threads import OnFailure

# Who drops a frame for one of these has looked at it.
_LOOKED_AT = (DropCause.STALE, DropCause.ABORTED)


class Liveness:
    """Ends the process where work has waited for longer than `stall_s`; belongs to the main loop.

    `device` names what infers.
    """

    def __init__(
        self,
        stall_s: float,
        roster: Roster,
        lanes: Lanes,
        device: Callable[[], str],
        on_failure: OnFailure,
    ) -> None:
        self._stall_s = stall_s
        self._roster = roster
        self._lanes = lanes
        self._device = device
        self._on_failure = on_failure
        self._engine = StallWatch(stall_s)
        self._road = StallWatch(stall_s)
        self._told = 0
        self._passed: Optional[Tuple[int, int]] = None
        self._since_ns = 0

    def frame_told(self) -> None:
        """A frame's result has gone out; one call at a time."""
        self._told += 1

    def look(self, now_ns: int) -> None:
        """Looks whether everything goes on; called several times a second."""
        silent_s = self._engine.look(now_ns, self._lanes.silent_since_ns)
        waiting_s = self._road.look(now_ns, self._waiting_since_ns(now_ns))
        limit = f"(engine.stall_s is {self._stall_s:g})"
        if silent_s is not None:
            words = f"no result for {silent_s:.0f} s {limit}: {self._device()} hangs"
            self._on_failure("inference", EngineHangs(words))
        elif waiting_s is not None:
            words = f"frames wait, and none has come out for {waiting_s:.0f} s {limit}"
            self._on_failure("frames", EdgeError(f"{words}: a thread hangs"))

    def _waiting_since_ns(self, now_ns: int) -> Optional[int]:
        passed = (self._told, self._looked_at())
        if passed != self._passed:
            self._passed, self._since_ns = passed, now_ns
        feeds = [*self._roster.shared_feeds, *self._roster.reserved]
        has_work = self._lanes.in_flight > 0 or any(feed.mailbox.peek() for feed in feeds)
        return self._since_ns if has_work else None

    def _looked_at(self) -> int:
        """Frames that were dropped by who had taken them."""
        dropped = [reading().dropped for reading in self._roster.readings().values()]
        return sum(causes.get(cause, 0) for causes in dropped for cause in _LOOKED_AT)
