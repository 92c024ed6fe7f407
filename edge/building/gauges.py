"""What this process uses and the machine has left, as the kernel tells it."""

from __future__ import annotations

import math
import os
import re
import time
from pathlib import Path
from typing import Mapping, Protocol

BYTES_PER_MIB = float(2**20)
_KIB_PER_MIB = 1024.0

_AVAILABLE = re.compile(r"^MemAvailable: +(\d+) kB$", re.MULTILINE)


class Gauges(Protocol):
    """What a measurement reads."""

    @property
    def cores(self) -> int:
        """How many cores the process may run on."""

    def monotonic_ns(self) -> int:
        """Time passed, since any start."""

    def cpu_ns(self) -> int:
        """Time the process' threads have computed, added up."""

    def rss_mb(self) -> float:
        """The process' resident memory in MiB."""

    def available_mb(self) -> float:
        """The MiB that the machine can still give; infinite where it does not say."""


class LoadGauge(Protocol):
    """What records how busy the machine is, on the clock of `Gauges.monotonic_ns`."""

    def mean(self, start_ns: int, end_ns: int) -> Mapping[str, float]:
        """`gpu_utilization` 0..1 and `power_w` between two moments; absent where unknown."""


class ProcessGauges:
    """Reads them from Linux; `root` is where /proc hangs."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = root / "proc"

    @property
    def cores(self) -> int:
        """How many cores the process may run on."""
        return len(os.sched_getaffinity(0))

    def monotonic_ns(self) -> int:
        """Nanoseconds of the finest steady clock."""
        return time.perf_counter_ns()

    def cpu_ns(self) -> int:
        """User and system time of all threads."""
        return time.process_time_ns()

    def rss_mb(self) -> float:
        """Resident memory in MiB, in steps of a page."""
        # proc(5): the second number is the resident set in pages.
        pages = int((self._proc / "self/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / BYTES_PER_MIB

    def available_mb(self) -> float:
        """MiB that programs can get without swapping; a container's own limit is not seen."""
        found = _AVAILABLE.search((self._proc / "meminfo").read_text("ascii"))
        return int(found.group(1)) / _KIB_PER_MIB if found else math.inf
