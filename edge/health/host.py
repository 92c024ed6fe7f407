"""The machine and this process, as any system knows them; the only file that uses psutil."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Tuple

import psutil

from edge.cgroup import read_grant
from edge.health.thermal import is_plausible, zone_name

Reading = Callable[[], Dict[str, float]]

_MIB = float(2**20)


class HostSampler:
    """Reads load, memory, disk and this process' own use; one thread calls it.

    `disk_path` is a folder of the file system to watch. `has_zones` says that the kernel tells
    temperatures by zone: those of chips are left out then.
    """

    def __init__(self, disk_path: Path, *, has_zones: bool = False) -> None:
        self._disk_path = disk_path
        self._has_zones = has_zones
        self._process = psutil.Process()
        self._cpu_ticks = _cpu_ticks()
        # psutil counts a process' load from the previous call.
        self._process.cpu_percent()

    def sample(self) -> Dict[str, float]:
        """Flat numbers with their unit in the key; `_mb` is MiB, what is unknown is absent.

        Loads are means since the previous call.
        """
        return gather(
            (
                self._cpu,
                _memory,
                _swap,
                self._disk,
                self._temperatures,
                _uptime,
                self._own_memory,
                self._own_load,
                self._own_files,
            )
        )

    def _cpu(self) -> Dict[str, float]:
        before, self._cpu_ticks = self._cpu_ticks, _cpu_ticks()
        load_pct = cpu_load_pct(before, self._cpu_ticks)
        return {} if load_pct is None else {"cpu_load_pct": load_pct}

    def _disk(self) -> Dict[str, float]:
        return {"disk_free_mb": _mib(psutil.disk_usage(str(self._disk_path)).free)}

    def _temperatures(self) -> Dict[str, float]:
        by_name = {} if self._has_zones else _chip_temperatures()
        return {f"temp_{name}_c": round(celsius, 1) for name, celsius in by_name.items()}

    def _own_memory(self) -> Dict[str, float]:
        return {"process_rss_mb": _mib(self._process.memory_info().rss)}

    def _own_load(self) -> Dict[str, float]:
        # Of one core: 200 means two cores busy.
        return {
            "process_cpu_pct": self._process.cpu_percent(),
            "process_threads": self._process.num_threads(),
        }

    def _own_files(self) -> Dict[str, float]:
        return {"process_fds": self._process.num_fds()}


def gather(readings: Iterable[Reading]) -> Dict[str, float]:
    """Merges what the readings give; one that fails, or is not a number, is absent."""
    numbers: Dict[str, float] = {}
    for reading in readings:
        try:
            numbers.update(reading())
        except (psutil.Error, OSError, NotImplementedError):
            continue  # this machine does not have it
    return {key: number for key, number in numbers.items() if math.isfinite(number)}


def cpu_load_pct(before: Tuple[float, float], after: Tuple[float, float]) -> Optional[float]:
    """Share of busy time, 0..100, between two (busy_s, total_s); None if no time passed."""
    busy_s, total_s = after[0] - before[0], after[1] - before[1]
    if total_s <= 0:
        return None
    # The kernel's idle counters may step back a tick when a core goes offline.
    return round(min(max(100 * busy_s / total_s, 0.0), 100.0), 1)


def hottest_by_chip(chips: Mapping[str, Iterable[Optional[float]]]) -> Dict[str, float]:
    """The highest plausible temperature of each chip, for machines without thermal zones."""
    hottest: Dict[str, float] = {}
    for chip, temperatures_c in chips.items():
        name = zone_name(chip)
        plausible = [c for c in temperatures_c if c is not None and is_plausible(c)]
        if name is not None and plausible:
            hottest[name] = max(plausible)
    return hottest


def _cpu_ticks() -> Tuple[float, float]:
    times: Any = psutil.cpu_times()
    # Linux counts a guest's time in user already.
    total_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    idle_s = times.idle + getattr(times, "iowait", 0.0)
    return total_s - idle_s, total_s


def free_memory_bytes(root: Path = Path("/")) -> int:
    """What this process can have without swapping: no more than its control group is granted."""
    available = int(psutil.virtual_memory().available)
    granted = read_grant(root).memory_free_bytes
    return available if granted is None else min(available, granted)


def _memory() -> Dict[str, float]:
    memory = psutil.virtual_memory()
    # Not `used`: page cache counts as free, and on Jetson the GPU's share is not in `used`.
    return {
        "ram_used_mb": _mib(memory.total - memory.available),
        "ram_total_mb": _mib(memory.total),
    }


def _swap() -> Dict[str, float]:
    swap = psutil.swap_memory()
    return {"swap_used_mb": _mib(swap.used), "swap_total_mb": _mib(swap.total)}


def _uptime() -> Dict[str, float]:
    # Both come from the same wall clock, so a jump of it cancels out.
    return {"uptime_s": round(max(time.time() - psutil.boot_time(), 0.0))}


def _chip_temperatures() -> Dict[str, float]:
    # psutil leaves the call out where the system has no sensors at all.
    read = getattr(psutil, "sensors_temperatures", dict)
    return hottest_by_chip({chip: [s.current for s in found] for chip, found in read().items()})


def _mib(byte_count: float) -> float:
    return round(byte_count / _MIB, 1)
