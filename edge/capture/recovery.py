"""When a camera that was lost is opened again, and what its owner may do meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Optional

from edge.backoff import Backoff
from edge.clock import NS_PER_S
from edge.config.camera_uri import CsiSpec, GStreamerSpec
from edge.config.schema import CameraConfig

# A camera that delivers a moment and dies again must not be opened once a second for ever.
_PROOF_NS = 10 * NS_PER_S
_POLL_S = 0.5
_FAILURES_BEFORE_ADVICE = 3
_ARGUS_ADVICE = (
    "; if it stays away, `sudo systemctl restart nvargus-daemon` on the Jetson often brings a CSI "
    "camera back"
)


class Recovery:
    """How long to wait before each attempt: pure but for the random part of the delay.

    Delays start over once a stream has delivered for 10 s. `advice` is added to the reason after
    three failures in a row.
    """

    def __init__(self, backoff: Backoff, advice: str = "") -> None:
        self._backoff = backoff
        self._advice = advice
        self._failures = 0
        self._first_ns: Optional[int] = None

    def delivered(self, now_ns: int) -> None:
        """The stream gave a frame."""
        if self._first_ns is None:
            self._first_ns = now_ns
        if self._failures and now_ns - self._first_ns >= _PROOF_NS:
            self.start_over()

    def lost(self) -> float:
        """The stream broke off, or did not begin; seconds to wait before the next attempt."""
        self._first_ns = None
        self._failures += 1
        return self._backoff.next_s()

    def start_over(self) -> None:
        """Forgets the failures so far."""
        self._failures = 0
        self._backoff.reset()

    def explain(self, reason: str) -> str:
        """The reason, with the advice where waiting alone has not helped."""
        is_stubborn = self._failures >= _FAILURES_BEFORE_ADVICE
        return reason + self._advice if is_stubborn else reason


def advice_for(camera: CameraConfig) -> str:
    """What brings back a camera that stays away; empty where nothing but patience is known."""
    spec = camera.uri.resolve(Path())
    is_argus = isinstance(spec, CsiSpec) or (
        isinstance(spec, GStreamerSpec) and "nvarguscamerasrc" in spec.launch_line
    )
    return _ARGUS_ADVICE if is_argus else ""


def wait_for_plug(stop: threading.Event, delay_s: float, device: Optional[Path]) -> bool:
    """Waits until `delay_s` have passed or `stop` is set; True at once where `device` appears."""
    if device is None:
        stop.wait(delay_s)
        return False
    was_absent = not device.exists()
    left_s = delay_s
    while left_s > 0 and not stop.wait(min(_POLL_S, left_s)):
        left_s -= _POLL_S
        is_absent = not device.exists()
        if was_absent and not is_absent:
            return True
        was_absent = is_absent
    return False
