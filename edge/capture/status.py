"""What state a camera is in, and who is told."""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import contextmanager
from typing import Callable, Deque, Iterator, Optional

from edge.clock import NS_PER_S, Clock
from edge.config.schema import CameraConfig
from edge.records import CameraState, CameraStatus

log = logging.getLogger(__name__)

OnStatus = Callable[[CameraStatus], None]
"""Told each change of a camera's status, in order."""

_TROUBLE = (CameraState.OFFLINE, CameraState.STALLED)


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
        self._waiting_since_ns: Optional[int] = None
        state = CameraState.STARTING if config.enabled else CameraState.DISABLED
        self._status = CameraStatus(config.name, state, clock.unix_ms())

    @property
    def status(self) -> CameraStatus:
        """The status now."""
        return self._status

    def announce(self) -> None:
        """Tells the first status."""
        with self._lock:
            self._untold.append(self._status)
        self._tell()

    def change(self, state: CameraState, reason: str = "") -> None:
        """Sets the status and tells it if it is news."""
        with self._lock:
            self._set(state, reason)
        self._tell()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Surrounds an opening or the wait for a frame, which is to end within `stall_s`."""
        with self._lock:
            self._waiting_since_ns = self._clock.monotonic_ns()
        try:
            yield
        finally:
            with self._lock:
                self._waiting_since_ns = None

    def check_stall(self, now_ns: int) -> None:
        """Makes the camera stalled if its frame has been waited for too long."""
        with self._lock:
            # A retry that hangs leaves a camera offline.
            is_offline = self._status.state is CameraState.OFFLINE
            if not is_offline and is_stalled(self._waiting_since_ns, now_ns, self._stall_s):
                self._set(CameraState.STALLED, f"no frame for {self._stall_s:g} s")
        self._tell()

    def _set(self, state: CameraState, reason: str) -> None:
        before = self._status
        if (state, reason) == (before.state, before.reason):
            return
        since_unix_ms = before.since_unix_ms if state is before.state else self._clock.unix_ms()
        self._status = CameraStatus(before.camera, state, since_unix_ms, reason)
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


def is_stalled(waiting_since_ns: Optional[int], now_ns: int, stall_s: float) -> bool:
    """Tells whether a wait for a frame has reached `stall_s`."""
    return waiting_since_ns is not None and now_ns - waiting_since_ns >= stall_s * NS_PER_S


def _log_status(status: CameraStatus) -> None:
    level = logging.WARNING if status.state in _TROUBLE else logging.INFO
    reason = f": {status.reason}" if status.reason else ""
    log.log(level, "camera %s is %s%s", status.camera, status.state.value, reason)
