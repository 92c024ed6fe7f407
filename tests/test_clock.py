from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import NS_PER_MS, ManualClock, SystemClock, is_clock_synced, rfc3339

STATUSES = {
    "disciplined": (0x0001, True),
    "disciplined by a pulse": (0x2107, True),
    "not yet disciplined": (0x0040, False),
    "other flags beside": (0x2041, False),
    "no flags at all": (0, True),
    "unknown": (None, False),
}


@pytest.mark.parametrize(("status", "expected"), STATUSES.values(), ids=STATUSES)
def test_is_clock_synced(status: Optional[int], expected: bool) -> None:
    assert is_clock_synced(lambda: status) is expected


def test_the_kernel_can_be_asked() -> None:
    assert is_clock_synced() in (True, False)


MOMENTS = {
    "epoch": (0, "1970-01-01T00:00:00.000Z"),
    "milliseconds keep their zeros": (1_795_351_830_007, "2026-11-22T12:50:30.007Z"),
    "last millisecond of a second": (1_795_351_830_999, "2026-11-22T12:50:30.999Z"),
    "leap day": (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
    "before the epoch": (-1, "1969-12-31T23:59:59.999Z"),
}


@pytest.mark.parametrize(("unix_ms", "expected"), MOMENTS.values(), ids=MOMENTS)
def test_rfc3339(unix_ms: int, expected: str) -> None:
    assert rfc3339(unix_ms) == expected


@given(st.integers(0, 4_102_444_800_000))
def test_rfc3339_can_be_read_back(unix_ms: int) -> None:
    text = rfc3339(unix_ms)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    assert round(moment.timestamp() * 1000) == unix_ms


def test_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(monotonic_ns=5 * NS_PER_MS, unix_ms=1_000)
    assert (clock.monotonic_ns(), clock.unix_ms()) == (5 * NS_PER_MS, 1_000)

    clock.advance_ms(2.5)

    assert clock.monotonic_ns() == 7 * NS_PER_MS + NS_PER_MS // 2
    assert clock.unix_ms() == 1_002


def test_system_clock_is_the_machines() -> None:
    clock = SystemClock()
    before, wall_before = time.monotonic_ns(), time.time_ns() // NS_PER_MS
    monotonic_ns, unix_ms = clock.monotonic_ns(), clock.unix_ms()
    assert before <= monotonic_ns <= time.monotonic_ns()
    # A wall clock may be set back between two readings, but not by a day in a test.
    assert abs(unix_ms - wall_before) < 86_400_000
