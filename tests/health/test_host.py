from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Dict, List, NoReturn, Optional, Tuple

import psutil
import pytest

from edge.health.host import HostSampler, cpu_load_pct, gather, hottest_by_chip

EVERYWHERE = {
    "ram_used_mb",
    "ram_total_mb",
    "swap_used_mb",
    "swap_total_mb",
    "disk_free_mb",
    "uptime_s",
    "process_rss_mb",
    "process_cpu_pct",
    "process_threads",
    "process_fds",
}


def test_any_linux_knows_these(tmp_path: Path) -> None:
    numbers = HostSampler(tmp_path).sample()

    assert set(numbers) >= EVERYWHERE
    assert all(math.isfinite(number) and number >= 0 for number in numbers.values())
    assert 0 < numbers["ram_used_mb"] <= numbers["ram_total_mb"]
    assert numbers["ram_total_mb"] == pytest.approx(
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20, rel=0.5
    )
    assert numbers["process_threads"] >= 1


def test_load_is_counted_between_samples(tmp_path: Path) -> None:
    sampler = HostSampler(tmp_path)
    before = psutil.cpu_times()
    while psutil.cpu_times() == before:  # the kernel counts in ticks of 10 ms
        sum(range(10_000))
    assert 0 <= sampler.sample()["cpu_load_pct"] <= 100


def test_a_missing_disk_is_absent(tmp_path: Path) -> None:
    numbers = HostSampler(tmp_path / "absent").sample()
    assert "disk_free_mb" not in numbers
    assert EVERYWHERE - {"disk_free_mb"} <= set(numbers)


def test_chips_are_left_out_where_zones_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reading:
        current = 61.0

    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: {"coretemp": [Reading()]})
    assert HostSampler(tmp_path).sample()["temp_coretemp_c"] == 61.0
    assert "temp_coretemp_c" not in HostSampler(tmp_path, has_zones=True).sample()


def failing(error: Exception) -> Dict[str, float]:
    def fail() -> NoReturn:
        raise error

    return gather([lambda: {"a": 1.0}, fail, lambda: {"b": 2.0}])


ERRORS = {
    "no such file": FileNotFoundError("gone"),
    "powered down": OSError(11, "try again"),
    "denied": psutil.AccessDenied(1),
    "process gone": psutil.NoSuchProcess(1),
    "not on this system": NotImplementedError("no"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_a_reading_that_fails_is_absent_and_spares_the_others(error: Exception) -> None:
    assert failing(error) == {"a": 1.0, "b": 2.0}


def test_a_programming_error_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        failing(KeyError("typo"))


def test_what_is_not_a_number_is_absent() -> None:
    assert gather([lambda: {"a": math.nan, "b": math.inf, "c": 0.0}]) == {"c": 0.0}


LOADS = {
    "idle": ((10.0, 100.0), (10.0, 110.0), 0.0),
    "half": ((10.0, 100.0), (15.0, 110.0), 50.0),
    "full": ((10.0, 100.0), (20.0, 110.0), 100.0),
    "counter stepped back": ((10.0, 100.0), (9.0, 110.0), 0.0),
    "idle stepped back": ((10.0, 100.0), (21.0, 110.0), 100.0),
    "no time passed": ((10.0, 100.0), (10.0, 100.0), None),
    "total stepped back": ((10.0, 100.0), (10.0, 99.0), None),
}


@pytest.mark.parametrize(("before", "after", "expected"), LOADS.values(), ids=LOADS)
def test_cpu_load_pct(
    before: Tuple[float, float], after: Tuple[float, float], expected: Optional[float]
) -> None:
    assert cpu_load_pct(before, after) == expected


CHIPS = {
    "hottest core": ({"coretemp": [40.0, 55.0, 50.0]}, {"coretemp": 55.0}),
    "two chips": ({"k10temp": [60.0], "nvme": [40.0]}, {"k10temp": 60.0, "nvme": 40.0}),
    "one sensor off": ({"cpu_thermal": [-256.0, 41.0]}, {"cpu": 41.0}),
    "every sensor off": ({"coretemp": [-256.0, None]}, {}),
    "no sensors": ({"coretemp": []}, {}),
    "no chips": ({}, {}),
}


@pytest.mark.parametrize(("chips", "expected"), CHIPS.values(), ids=CHIPS)
def test_hottest_by_chip(
    chips: Dict[str, List[Optional[float]]], expected: Dict[str, float]
) -> None:
    assert hottest_by_chip(chips) == expected
