"""One opening of a network camera at a time, with the options that OpenCV takes no other way."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import Callable, Iterator

from edge.capture.source import Busy
from edge.config.camera import Transport

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# Who waits longer is told to come back, so that a wait is not taken for a hang.
_MAX_WAIT_S = 2.0


class TransportGate:
    """Lets one opening in after the other.

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
        self._lock = threading.Lock()
        self._options = ""

    @contextmanager
    def opening(self, transport: Transport) -> Iterator[None]:
        """Surrounds an opening; Busy where others keep the gate for longer than two seconds."""
        if not self._lock.acquire(timeout=self._max_wait_s):
            raise Busy("other cameras are being opened")
        try:
            options = options_for(transport)
            if options != self._options:
                self._put_env(_OPTIONS, options)
                self._options = options
            yield
        finally:
            self._lock.release()


def options_for(transport: Transport) -> str:
    """FFmpeg's options for a live stream.

    Its rate is of no interest: FFmpeg would look at twenty frames to learn it, four seconds at
    5 frames/s, and hand them over late.
    """
    return f"rtsp_transport;{transport.value}|fpsprobesize;0"


GATE = TransportGate()
"""The process has one."""
