from __future__ import annotations

import math
import mmap
import os
from pathlib import Path

import pytest

from edge.building.gauges import ProcessGauges


def proc(root: Path, meminfo: str) -> Path:
    folder = root / "proc/self"
    folder.mkdir(parents=True)
    pages = 3 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    (folder / "statm").write_text(f"99999 {pages} 12 1 0 34 0\n")
    (root / "proc/meminfo").write_text(meminfo)
    return root


def test_memory_as_the_kernel_says_it(tmp_path: Path) -> None:
    text = "MemTotal:        8000000 kB\nMemFree: 1 kB\nMemAvailable:    2560 kB\n"
    gauges = ProcessGauges(proc(tmp_path, text))
    assert gauges.rss_mb() == 3.0
    assert gauges.available_mb() == 2.5


def test_a_kernel_that_does_not_say_what_is_available(tmp_path: Path) -> None:
    assert ProcessGauges(proc(tmp_path, "MemTotal: 8000000 kB\n")).available_mb() == math.inf


def test_this_process() -> None:
    gauges = ProcessGauges()
    started_ns, cpu_ns, rss_mb = gauges.monotonic_ns(), gauges.cpu_ns(), gauges.rss_mb()
    # Pages of its own: what the allocator gives may be memory that the process has already.
    with mmap.mmap(-1, 64 * 2**20) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        grown_mb = gauges.rss_mb() - rss_mb
    assert gauges.monotonic_ns() > started_ns
    assert gauges.cpu_ns() > cpu_ns
    assert grown_mb == pytest.approx(64, abs=24)
    assert gauges.cores >= 1
    assert 0 < gauges.available_mb() < math.inf
