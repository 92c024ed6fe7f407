"""A stream's own time on this machine's clock."""

from __future__ import annotations

from typing import Optional

from edge.clock import NS_PER_S

_WINDOW_NS = 30 * NS_PER_S
_MAX_DELAY_NS = 10 * NS_PER_S


class PtsClock:
    """Tells when a picture was taken from its presentation time stamp (PTS).

    A stream's clock starts anywhere, so the picture that travelled fastest in the last 30 to
    60 s serves as its zero: what the network, the camera's key frames or a busy machine add to
    the others is taken off, and what all of them need stays in. The window follows a clock that
    runs a little slower than this machine's.
    """

    def __init__(self) -> None:
        self._last_pts_ns: Optional[int] = None
        self._last_captured_ns: Optional[int] = None
        self._window_start_ns: Optional[int] = None
        self._window_least_ns: Optional[int] = None
        self._before_least_ns: Optional[int] = None

    def captured_ns(self, pts_ns: int, received_ns: int) -> int:
        """The monotonic time of capture: never after `received_ns`, never before the last one's.

        After a jump of the stream's clock it starts afresh, at `received_ns`.
        """
        offset_ns = received_ns - pts_ns
        if self._has_jumped(pts_ns, offset_ns):
            self._start_afresh()
        self._last_pts_ns = pts_ns
        captured_ns = pts_ns + self._least_offset_ns(offset_ns, received_ns)
        if self._last_captured_ns is not None:
            captured_ns = max(captured_ns, self._last_captured_ns)
        self._last_captured_ns = captured_ns
        return captured_ns

    def _start_afresh(self) -> None:
        self._last_pts_ns = self._last_captured_ns = None
        self._window_start_ns = self._window_least_ns = self._before_least_ns = None

    def _has_jumped(self, pts_ns: int, offset_ns: int) -> bool:
        if self._last_pts_ns is None or self._window_least_ns is None:
            return False
        return pts_ns <= self._last_pts_ns or offset_ns - self._window_least_ns > _MAX_DELAY_NS

    def _least_offset_ns(self, offset_ns: int, now_ns: int) -> int:
        if self._window_start_ns is None or now_ns - self._window_start_ns >= _WINDOW_NS:
            self._window_start_ns = now_ns
            self._before_least_ns = self._window_least_ns
            self._window_least_ns = None
        self._window_least_ns = _lesser(offset_ns, self._window_least_ns)
        return _lesser(self._window_least_ns, self._before_least_ns)


def _lesser(value_ns: int, other_ns: Optional[int]) -> int:
    return value_ns if other_ns is None else min(value_ns, other_ns)
