"""One opening of a network camera at a time, with the options that OpenCV takes no other way."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import Callable, Iterator

from edge.capture.source import Busy
from edge.config.camera import Transport
from edge.errors import EdgeError

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# Who waits longer is told to come back, so that a wait is not taken for a hang.
_MAX_WAIT_S = 0.5
# OpenCV gives an opening up after 10 s: what takes so long never comes back.
_HOPELESS_S = 60.0
# Files, too, are opened with what the environment says, and take no harm from this.
_HARMLESS = "rtsp_transport;tcp"


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
        self._since_s = 0.0

    @contextmanager
    def opening(self, transport: Transport) -> Iterator[None]:
        """Surrounds an opening; Busy where others keep the gate for longer than half a second.

        Raises EdgeError, which ends the daemon, once nobody can hope to be let in any more.
        """
        if not self._lock.acquire(timeout=self._max_wait_s):
            if time.monotonic() - self._since_s > _HOPELESS_S:
                raise EdgeError(
                    f"FFmpeg has not come back from opening a camera for {_HOPELESS_S:.0f} s, and "
                    "opens no other: only a restart of the process helps"
                )
            raise Busy("other cameras are being opened")
        try:
            self._use(options_for(transport))
            yield
        finally:
            self._lock.release()

    @contextmanager
    def opening_file(self) -> Iterator[None]:
        """Surrounds the opening of a recording, which waits for its turn."""
        with self._lock:
            self._use(_HARMLESS)
            yield

    def _use(self, options: str) -> None:
        self._since_s = time.monotonic()
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
