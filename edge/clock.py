"""Time: a monotonic clock for durations, a wall clock for people, and whether to believe it."""

from __future__ import annotations

import ctypes
import time
from datetime import datetime, timezone
from typing import Callable, Optional, Protocol

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
MS_PER_S = 1_000

# linux/timex.h: the kernel sets STA_UNSYNC until a time daemon has disciplined the clock.
_STA_UNSYNC = 0x0040


class Clock(Protocol):
    """What the rooms ask for the time."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never jumps."""

    def unix_ms(self) -> int:
        """Milliseconds since 1970 by the wall clock; may jump."""


class SystemClock:
    """The machine's own clocks."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def unix_ms(self) -> int:
        """Milliseconds of CLOCK_REALTIME."""
        return time.time_ns() // NS_PER_MS


class ManualClock:
    """A clock that moves only when told to, for simulations and tests."""

    def __init__(self, monotonic_ns: int = 0, unix_ms: int = 1_700_000_000_000) -> None:
        self._monotonic_ns = monotonic_ns
        self._unix_ms_at_zero = unix_ms - monotonic_ns // NS_PER_MS

    def monotonic_ns(self) -> int:
        """Nanoseconds, as set by `advance_ms`."""
        return self._monotonic_ns

    def unix_ms(self) -> int:
        """Milliseconds since 1970, moving with the monotonic clock."""
        return self._unix_ms_at_zero + self._monotonic_ns // NS_PER_MS

    def advance_ms(self, ms: float) -> None:
        """Moves both clocks forward."""
        self._monotonic_ns += int(ms * NS_PER_MS)


class _Timex(ctypes.Structure):
    # Only `modes` (in) and `status` (out) are read; the tail is padding large enough for the
    # kernel's struct timex on 32- and 64-bit (208 bytes on LP64).
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("_tail", ctypes.c_char * 256),
    )


def _read_kernel_status() -> Optional[int]:
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (AttributeError, OSError):
        return None
    timex = _Timex()  # modes = 0: read only, no privilege needed
    return int(timex.status) if adjtimex(ctypes.byref(timex)) >= 0 else None


def is_clock_synced(read_status: Callable[[], Optional[int]] = _read_kernel_status) -> bool:
    """Tells whether a time daemon disciplines the wall clock (kernel's STA_UNSYNC is clear).

    Unknown counts as not synced: a Jetson without a battery starts in 1970, and a false time
    must not pass as true.
    """
    status = read_status()
    return status is not None and not status & _STA_UNSYNC


def rfc3339(unix_ms: int) -> str:
    """Formats wall-clock milliseconds as RFC 3339 in UTC, for example 2026-11-22T12:50:30.123Z."""
    moment = datetime.fromtimestamp(unix_ms // MS_PER_S, tz=timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{unix_ms % MS_PER_S:03d}Z"
