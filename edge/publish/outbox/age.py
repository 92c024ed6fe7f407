"""How old something is where nobody may believe the wall clock; and what time it was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Optional

from edge.clock import NS_PER_MS, Clock, is_clock_synced

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Stamp:
    """A moment by both clocks; monotonic times compare within one `boot_id` only."""

    boot_id: str
    monotonic_ns: int
    unix_ms: int
    is_synced: bool


def age_ns(stamp: Stamp, now: Stamp) -> int:
    """How old `stamp` is at least.

    Within a boot the monotonic clock knows. Of an earlier boot the wall clock does, where it was
    set both then and now; else all that is known is that this boot came later: its uptime.
    """
    if stamp.boot_id == now.boot_id:
        return max(0, now.monotonic_ns - stamp.monotonic_ns)
    uptime_ns = max(0, now.monotonic_ns)
    if stamp.is_synced and now.is_synced:
        return max(uptime_ns, (now.unix_ms - stamp.unix_ms) * NS_PER_MS)
    return uptime_ns


def wall_offset_ms(now: Stamp) -> int:
    """What turns this boot's monotonic milliseconds into wall-clock ones."""
    return now.unix_ms - now.monotonic_ns // NS_PER_MS


def redated(stamp: Stamp, boot_id: str, offset_ms: int) -> Stamp:
    """The stamp by the clock that is set now, if it is of this boot and was made before that."""
    if stamp.is_synced or stamp.boot_id != boot_id or not boot_id:
        return stamp
    return replace(stamp, unix_ms=stamp.monotonic_ns // NS_PER_MS + offset_ms, is_synced=True)


def read_boot_id(path: Path = _BOOT_ID) -> str:
    """The kernel's name for this boot; empty where it tells none."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


class Timekeeper:
    """Makes stamps; whether the wall clock is set is asked only by `refresh`."""

    def __init__(
        self,
        clock: Clock,
        boot_id: Optional[str] = None,
        clock_synced: Callable[[], bool] = is_clock_synced,
    ) -> None:
        self.clock = clock
        self._boot_id = read_boot_id() if boot_id is None else boot_id
        self._clock_synced = clock_synced
        self._is_synced = clock_synced()

    def now(self) -> Stamp:
        """The present."""
        return Stamp(
            self._boot_id, self.clock.monotonic_ns(), self.clock.unix_ms(), self._is_synced
        )

    def refresh(self) -> bool:
        """Asks the kernel whether the clock is set; True when it has become so."""
        was_synced, self._is_synced = self._is_synced, self._clock_synced()
        return self._is_synced and not was_synced
