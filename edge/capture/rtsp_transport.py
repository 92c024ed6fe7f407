"""One opening of a network camera at a time, with the options that OpenCV takes no other way."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import Callable, Deque, Iterator

from edge.capture.source import Busy
from edge.config.camera import Transport
from edge.errors import EdgeError

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# Who waits longer is told to come back, so that a wait is not taken for a hang.
_MAX_WAIT_S = 0.5
# OpenCV gives an opening up after 10 s, but not while the system looks up a name, which may take
# minutes: what takes longer never comes back.
_HOPELESS_S = 180.0
# Files, too, are opened with what the environment says, and take no harm from this.
_HARMLESS = "rtsp_transport;tcp"


class TransportGate:
    """Lets one opening in after the other, in the order in which they came.

    OpenCV does no more than one at a time itself (4.5.4 to 5.0), but whoever waits inside it looks
    as if his camera did not answer. And the process has one environment, which it looks into
    whenever it opens a stream.
    """

    def __init__(
        self,
        put_env: Callable[[str, str], object] = os.putenv,
        max_wait_s: float = _MAX_WAIT_S,
    ) -> None:
        self._put_env = put_env
        self._max_wait_s = max_wait_s
        self._turn = threading.Condition()
        # The first one's turn it is, from `_since_s` on.
        self._queue: Deque[object] = deque()
        self._since_s = 0.0
        self._options = ""

    @contextmanager
    def opening(self, who: object, transport: Transport) -> Iterator[None]:
        """Surrounds an opening; Busy where it is not `who`'s turn within half a second.

        He keeps his place, and must come back or `leave`. Raises EdgeError, which ends the daemon,
        once nobody can hope to be let in any more.
        """
        with self._turn:
            self._line_up(who)
            if not self._turn.wait_for(lambda: self._queue[0] is who, self._max_wait_s):
                self._check_hope()
                raise Busy("other cameras are being opened")
        try:
            self._use(options_for(transport))
            yield
        finally:
            self.leave(who)

    @contextmanager
    def opening_file(self) -> Iterator[None]:
        """Surrounds the opening of a recording, which waits for its turn."""
        who = object()
        with self._turn:
            self._line_up(who)
            self._turn.wait_for(lambda: self._queue[0] is who)
        try:
            self._use(_HARMLESS)
            yield
        finally:
            self.leave(who)

    def leave(self, who: object) -> None:
        """Gives up the place of one who waits; nothing where he has none."""
        with self._turn:
            if who not in self._queue:
                return
            if self._queue[0] is who:
                self._since_s = time.monotonic()
            self._queue.remove(who)
            self._turn.notify_all()

    def _line_up(self, who: object) -> None:
        if who not in self._queue:
            self._queue.append(who)
        if self._queue[0] is who:
            self._since_s = time.monotonic()

    def _check_hope(self) -> None:
        if time.monotonic() - self._since_s > _HOPELESS_S:
            raise EdgeError(
                f"FFmpeg has not come back from opening a camera for {_HOPELESS_S:.0f} s, and "
                "opens no other: only a restart of the process helps"
            )

    def _use(self, options: str) -> None:
        if options != self._options:
            self._put_env(_OPTIONS, options)
            self._options = options


def options_for(transport: Transport) -> str:
    """FFmpeg's options for a live stream.

    Its rate is of no interest: FFmpeg would look at twenty frames to learn it, four seconds at
    5 frames/s, and hand them over late.
    """
    return f"rtsp_transport;{transport.value}|fpsprobesize;0"


GATE = TransportGate()
"""The process has one."""
