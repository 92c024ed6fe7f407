"""TCP or UDP for FFmpeg's network cameras, which OpenCV reads from the environment alone."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import Callable, Iterator

from edge.config.camera import Transport
from edge.errors import CaptureError

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# An opening gives up after 10 s, and only the name server can hold it longer.
_MAX_WAIT_S = 30.0


class TransportGate:
    """Lets openings with the same transport go on together, and others wait for them.

    The process has one environment, and OpenCV looks into it whenever it opens a stream.
    """

    def __init__(self, put_env: Callable[[str, str], object] = os.putenv) -> None:
        self._put_env = put_env
        self._changed = threading.Condition()
        self._transport = Transport.TCP  # what OpenCV takes where nothing is said
        self._openings = 0

    @contextmanager
    def opening(self, transport: Transport) -> Iterator[None]:
        """Surrounds an opening; CaptureError if others hold the gate for half a minute."""
        self._enter(transport)
        try:
            yield
        finally:
            with self._changed:
                self._openings -= 1
                self._changed.notify_all()

    def _enter(self, transport: Transport) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._admits(transport), _MAX_WAIT_S):
                raise CaptureError(
                    f"cannot change to {transport.value}: other cameras have been opening for "
                    f"{_MAX_WAIT_S:g} s"
                )
            if transport is not self._transport:
                self._put_env(_OPTIONS, f"rtsp_transport;{transport.value}")
                self._transport = transport
            self._openings += 1

    def _admits(self, transport: Transport) -> bool:
        return self._openings == 0 or self._transport is transport


GATE = TransportGate()
"""The process has one."""
