"""When a recorded picture is due, and which frames are too many."""

from __future__ import annotations

from typing import Optional

from edge.clock import NS_PER_S

MAX_LATE_NS = NS_PER_S


class Pacer:
    """Lays a recording's own time on the clock.

    A picture that comes a little late leaves at once and the next ones catch up; after more
    than `MAX_LATE_NS` (a suspended laptop, a starved CPU) the recording goes on from now instead
    of playing fast forward.
    """

    def __init__(self) -> None:
        self._start_ns: Optional[int] = None

    def due_ns(self, media_s: float, now_ns: int) -> int:
        """The monotonic time at which the picture of `media_s` is to be released."""
        media_ns = int(media_s * NS_PER_S)
        if self._start_ns is None or now_ns - (self._start_ns + media_ns) > MAX_LATE_NS:
            self._start_ns = now_ns - media_ns
        return self._start_ns + media_ns


class RateCap:
    """Lets at most `fps` frames a second pass, evenly, without punishing jitter.

    Each admitted frame takes one place on a grid of 1 / fps seconds and may come up to half a
    place early, so a camera whose own rate is the cap keeps its frames. No cap admits all.
    """

    def __init__(self, fps: Optional[float]) -> None:
        self._period_ns = 0 if fps is None else int(NS_PER_S / fps)
        self._place_ns: Optional[int] = None

    def admits(self, now_ns: int) -> bool:
        """Decides about a frame of time `now_ns`, on any clock that does not go back."""
        if not self._period_ns:
            return True
        slack_ns = self._period_ns // 2
        place_ns = now_ns if self._place_ns is None else self._place_ns
        if now_ns < place_ns - slack_ns:
            return False
        # A place that was missed by more than the slack is not made up for later.
        self._place_ns = max(place_ns, now_ns - slack_ns) + self._period_ns
        return True
