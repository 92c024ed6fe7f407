"""Whether the wall clock can be believed, now and after a power cut."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Optional, Tuple

from edge.clock import MS_PER_S, SystemClock, is_clock_synced, rfc3339
from edge.doctor.finding import Finding, fault, ok, warning

# 2024: this program is younger.
_EARLIEST_UNIX_S = 1_704_067_200
_APART_S = 120


@dataclass(frozen=True)
class Timekeeping:
    """`rtcs`: each real-time clock's name, and its seconds since 1970 where it can be read."""

    unix_s: int
    is_synchronized: bool
    rtcs: Tuple[Tuple[str, Optional[int]], ...] = ()


def look_at_time(root: Path = Path("/")) -> Timekeeping:
    """Reads the clocks; asks no server."""
    clocks = sorted((root / "sys/class/rtc").glob("rtc*"))
    now_s = SystemClock().unix_ms() // MS_PER_S
    return Timekeeping(now_s, is_clock_synced(), tuple((c.name, _epoch_s(c)) for c in clocks))


def judge_time(time: Timekeeping) -> Iterator[Finding]:
    """Messages say themselves whether their time is to be believed."""
    now = rfc3339(time.unix_s * MS_PER_S)
    fix = "sudo timedatectl set-ntp true; where no server is reached, name one in timesyncd.conf"
    if time.unix_s < _EARLIEST_UNIX_S:
        words = f"{now} cannot be: TLS certificates are refused and messages marked"
        yield fault("clock", words, fix)
    elif not time.is_synchronized:
        yield warning("clock", f"{now}, not synchronized: messages say so", fix)
    else:
        yield ok("clock", f"{now}, synchronized")
    yield _rtc(time)


def _rtc(time: Timekeeping) -> Finding:
    read = [(name, seconds) for name, seconds in time.rtcs if seconds is not None]
    if not read:
        words = "no clock that outlives a power cut: the time is wrong until a server is reached"
        return warning("RTC", words, "fit one, or keep a time server on the cameras' network")
    right = [name for name, seconds in read if abs(seconds - time.unix_s) <= _APART_S]
    if right:
        return ok("RTC", f"{right[0]} agrees")
    name, seconds = read[0]
    return warning(
        "RTC",
        f"{name} says {rfc3339(seconds * MS_PER_S)}: wrong after a power cut",
        "once the clock is synchronized: sudo hwclock --systohc; check its battery",
    )


def _epoch_s(clock: Path) -> Optional[int]:
    try:
        return int((clock / "since_epoch").read_text("ascii"))
    except (OSError, ValueError):
        return None
