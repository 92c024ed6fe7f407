"""How long a camera's thread has been inside its driver, and when it is given up there."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum
from typing import Optional

from edge.clock import NS_PER_S, Clock

# Longer than OpenCV's own time-outs of a network camera (10 s to open, 3 x 5 s to read): a driver
# that gives up by itself frees what it holds, a thread that is left behind does not.
_PATIENCE_S = 20.0


class Step(str, Enum):
    """What a source has been asked for."""

    OPEN = "opening"
    READ = "reading"
    CLOSE = "closing"


@dataclass(frozen=True)
class Hang:
    """A call into a driver that has not come back."""

    step: Step
    waited_ns: int

    def __str__(self) -> str:
        return f"{self.step.value} it hung for {self.waited_ns / NS_PER_S:.0f} s"


class Abandoned(Exception):
    """The thread was given up while it hung: what it brings is nobody's any more."""


class Watch:
    """Times the calls of one thread into its driver.

    Whether a call came back or was given up is decided under one lock. So between two calls the
    thread may rely on not being given up, and whoever gave it up, on hearing no more of it.
    """

    def __init__(self, stall_s: float, clock: Clock) -> None:
        self._stall_ns = int(stall_s * NS_PER_S)
        self._hang_ns = hang_ns(stall_s)
        self._clock = clock
        self._lock = threading.Lock()
        self._step = Step.OPEN
        self._since_ns: Optional[int] = None
        self._is_abandoned = False

    def begin(self, step: Step) -> None:
        """The thread enters its driver."""
        with self._lock:
            self._step = step
            self._since_ns = self._clock.monotonic_ns()

    def end(self) -> None:
        """The thread is back; raises Abandoned if it was given up meanwhile."""
        with self._lock:
            self._since_ns = None
            if self._is_abandoned:
                raise Abandoned

    def is_stalled(self, now_ns: int) -> bool:
        """True once a call that a frame should come of has taken `stall_s`."""
        return self._step is not Step.CLOSE and self._waited_ns(now_ns) >= self._stall_ns

    def excuse(self, paused_ns: int) -> None:
        """Takes off what is no fault of the driver: for so long the process did not run."""
        with self._lock:
            if self._since_ns is not None:
                self._since_ns += paused_ns

    def abandon_if_hung(self, now_ns: int) -> Optional[Hang]:
        """Gives the thread up if its call has taken too long; tells which call, once."""
        with self._lock:
            waited_ns = self._waited_ns(now_ns)
            if self._is_abandoned or waited_ns < self._hang_ns:
                return None
            self._is_abandoned = True
            return Hang(self._step, waited_ns)

    def _waited_ns(self, now_ns: int) -> int:
        since_ns = self._since_ns
        return 0 if since_ns is None else now_ns - since_ns


def hang_ns(stall_s: float) -> int:
    """How long a call may take before its thread is given up."""
    return int((stall_s + max(stall_s, _PATIENCE_S)) * NS_PER_S)
