"""Whether the clock can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest

from edge.doctor.timekeeping import Timekeeping, judge_time, look_at_time
from tests.health.sysfs_files import write_files

NOW = 1_763_800_000
RIGHT = (("rtc0", NOW),)
ROWS: Dict[str, Any] = {
    "well": (Timekeeping(NOW, True, RIGHT), "ok", "ok"),
    "not synchronized": (Timekeeping(NOW, False, RIGHT), "warning", "ok"),
    "before this program": (Timekeeping(1_704_067_199, True, ()), "fault", "warning"),
    "just after": (Timekeeping(1_704_067_200, True, ()), "ok", "warning"),
    "1970": (Timekeeping(60, False, (("rtc0", 60),)), "fault", "ok"),
    "no RTC": (Timekeeping(NOW, True), "ok", "warning"),
    "RTC cannot be read": (Timekeeping(NOW, True, (("rtc0", None),)), "ok", "warning"),
    "RTC a little off": (Timekeeping(NOW, True, (("rtc0", NOW - 120),)), "ok", "ok"),
    "RTC is off": (Timekeeping(NOW, True, (("rtc0", NOW - 121),)), "ok", "warning"),
    "second RTC is right": (Timekeeping(NOW, True, (("rtc0", 9), ("rtc1", NOW))), "ok", "ok"),
}


@pytest.mark.parametrize(("time", "clock", "rtc"), ROWS.values(), ids=ROWS)
def test_row(time: Timekeeping, clock: str, rtc: str) -> None:
    found = list(judge_time(time))
    assert [(f.subject, f.verdict.value) for f in found] == [("clock", clock), ("RTC", rtc)]
    assert all(bool(f.fix) == (f.verdict.value != "ok") for f in found)


def test_files(tmp_path: Path) -> None:
    files = {
        "sys/class/rtc/rtc0/since_epoch": f"{NOW}\n",
        "sys/class/rtc/rtc1/since_epoch": "x\n",
        "sys/class/rtc/rtc2/name": "no time\n",
    }
    time = look_at_time(write_files(tmp_path, files))
    assert time.rtcs == (("rtc0", NOW), ("rtc1", None), ("rtc2", None))
    assert time.unix_s > NOW
