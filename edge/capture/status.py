"""What state a camera is in, and who is told."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Callable, Deque, Optional

from edge.clock import Clock
from edge.config.schema import CameraConfig
from edge.records import CameraState, CameraStatus, PictureState

log = logging.getLogger(__name__)

OnStatus = Callable[[CameraStatus], None]
"""Told each change of a camera's status, in order."""

_TROUBLE = (CameraState.OFFLINE, CameraState.STALLED)
_PICTURE_WORDS = {
    None: "",
    PictureState.OK: "",
    PictureState.FROZEN: "the picture is frozen: nothing in it changes, not even the noise",
    PictureState.BLACK: "the picture is black",
    PictureState.COVERED: "the picture has lost its detail: something covers the lens",
}


class StatusTracker:
    """A camera's status; any thread may change it, and `on_status` is never called under a lock.

    A change of the reason alone is told too, but keeps `since_unix_ms`.
    """

    def __init__(self, config: CameraConfig, clock: Clock, on_status: OnStatus) -> None:
        self._stall_s = config.stall_s
        self._clock = clock
        self._on_status = on_status
        self._lock = threading.Lock()
        self._untold: Deque[CameraStatus] = deque()
        self._is_telling = False
        self._is_announced = False
        state = CameraState.STARTING if config.enabled else CameraState.DISABLED
        self._status = CameraStatus(config.name, state, clock.unix_ms())

    @property
    def status(self) -> CameraStatus:
        """The status now."""
        return self._status

    def announce(self) -> None:
        """Tells the first status, once."""
        with self._lock:
            if not self._is_announced:
                self._is_announced = True
                self._untold.append(self._status)
        self._tell()

    def change(self, state: CameraState, reason: str = "") -> None:
        """Sets the status and tells it if it is news."""
        with self._lock:
            self._set(state, reason)
        self._tell()

    def online(self, picture: Optional[PictureState]) -> None:
        """Says that a frame has come, and what it shows; None where nobody looks at it."""
        with self._lock:
            self._set(CameraState.ONLINE, _PICTURE_WORDS[picture], picture)
        self._tell()

    def stall_if(self, is_stalled: Callable[[], bool]) -> None:
        """Makes the camera stalled if `is_stalled` says so; no frame comes in between."""
        with self._lock:
            # A retry that hangs leaves a camera offline.
            is_offline = self._status.state is CameraState.OFFLINE
            if not is_offline and is_stalled():
                self._set(CameraState.STALLED, f"no frame for {self._stall_s:g} s")
        self._tell()

    def _set(self, state: CameraState, reason: str, picture: Optional[PictureState] = None) -> None:
        before = self._status
        if (state, reason, picture) == (before.state, before.reason, before.picture):
            return
        since_unix_ms = before.since_unix_ms if state is before.state else self._clock.unix_ms()
        self._status = CameraStatus(before.camera, state, since_unix_ms, reason, picture)
        self._untold.append(self._status)

    def _tell(self) -> None:
        # One thread tells at a time; what others change meanwhile, it finds in the queue.
        while True:
            with self._lock:
                if self._is_telling or not self._untold:
                    return
                self._is_telling = True
                status = self._untold.popleft()
            try:
                _log_status(status)
                self._on_status(status)
            finally:
                with self._lock:
                    self._is_telling = False


def _log_status(status: CameraStatus) -> None:
    is_well = status.state not in _TROUBLE and status.picture in (None, PictureState.OK)
    reason = f": {status.reason}" if status.reason else ""
    level = logging.INFO if is_well else logging.WARNING
    log.log(level, "camera %s is %s%s", status.camera, status.state.value, reason)
