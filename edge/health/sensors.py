"""All that the kernel's files tell of the machine, on a Jetson and elsewhere.

Some belong to root, some to one generation of modules: whatever cannot be read is absent.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Optional, Tuple

from edge.health.board import (
    cpu_clocks,
    gpu_clocks,
    gpu_node,
    read_gpu_load,
    read_power_mode_id,
)
from edge.health.cores import CoreLoads
from edge.health.machine import read_machine
from edge.health.rails import power_numbers, read_rails
from edge.health.sysfs import read_int, read_text
from edge.health.thermal import read_zones
from edge.health.throttling import Throttling

Numbers = Dict[str, float]

_KB_PER_MB = 1024
_PAGE_KB = 4
_HZ_PER_MHZ = 1_000_000
_KHZ_PER_MHZ = 1_000
_FULL_PWM = 255

_MODE_EVERY = 10  # readings: it changes by hand, and is the dearest to read

_NVMAP = re.compile(r"^NvMapMemUsed:\s+(\d{1,15}) kB", re.MULTILINE)
_FREE_LIST = re.compile(r"^Node \d+, zone\s+\w+((?:\s+\d{1,15})+)\s*$", re.MULTILINE)

# The memory's clock, and how much of its bandwidth is used (in kHz of that clock): for root only.
_EMC_RATES_HZ = (
    "sys/kernel/debug/bpmp/debug/clk/emc/rate",
    "sys/kernel/debug/clk/emc/clk_rate",
    "sys/class/devfreq/bwmgr/cur_freq",  # Thor
)
_EMC_ACTIVITIES_KHZ = (
    "sys/kernel/debug/cactmon/mc_all",
    "sys/kernel/debug/bpmp/debug/actmon/mc_all_avg_activity",
    "sys/kernel/actmon_avg_activity/mc_all",
)


class Sensors:
    """Reads the files under `root`; one thread calls it."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._throttling = Throttling(root)
        self._core_loads = CoreLoads(root)
        self._reads = 0
        self._mode: Numbers = {}

    def read(self) -> Numbers:
        """Flat numbers with their unit in the key."""
        root = self._root
        if self._reads % _MODE_EVERY == 0:
            self._mode = _mode(root)
        self._reads += 1
        zones_c = read_zones(root)
        return {
            **{f"temp_{name}_c": round(celsius, 1) for name, celsius in zones_c.items()},
            **power_numbers(read_rails(root)),
            **_gpu(root),
            **_core_clocks(root),
            **self._core_loads.read(),
            **_emc(root),
            **_memory(root),
            **_fan(root),
            **self._mode,
            **self._throttling.read(),
        }


def is_jetson(root: Path = Path("/")) -> bool:
    """Tells a Jetson, also from inside a container, by what other machines have none of."""
    machine = read_machine(root)
    is_named = "jetson" in (machine.module or "").lower()
    return is_named or machine.l4t is not None or gpu_node(root) is not None


def _gpu(root: Path) -> Numbers:
    load, node = read_gpu_load(root), gpu_node(root)
    hertz = None if node is None else read_int(node / "cur_freq")
    numbers = {} if load is None else {"gpu_load_pct": round(100 * load, 1)}
    if hertz is not None:
        numbers["gpu_freq_mhz"] = hertz // _HZ_PER_MHZ
    return numbers


def _core_clocks(root: Path) -> Numbers:
    numbers: Numbers = {}
    for policy in (root / "sys/devices/system/cpu/cpufreq").glob("policy*"):
        kilohertz = read_int(policy / "scaling_cur_freq")
        cores = (read_text(policy / "affected_cpus") or "").split()
        if kilohertz is not None:
            for core in filter(str.isdigit, cores):
                numbers[f"cpu_{core}_freq_mhz"] = kilohertz // _KHZ_PER_MHZ
    return numbers


def _emc(root: Path) -> Numbers:
    hertz = _first_int(root, _EMC_RATES_HZ)
    if not hertz:
        return {}
    numbers: Numbers = {"emc_freq_mhz": hertz // _HZ_PER_MHZ}
    active_khz = _first_int(root, _EMC_ACTIVITIES_KHZ)
    if active_khz is not None:
        numbers["emc_load_pct"] = round(min(100 * active_khz * 1000 / hertz, 100.0), 1)
    return numbers


def _memory(root: Path) -> Numbers:
    """What the GPU holds of the common memory, and its largest free blocks."""
    numbers: Numbers = {}
    nvmap = _NVMAP.search(read_text(root / "proc/meminfo") or "")
    if nvmap is not None:
        numbers["gpu_mem_used_mb"] = round(int(nvmap.group(1)) / _KB_PER_MB, 1)
    # One row per zone: free blocks of 1, 2, 4, ... pages.
    for row in _FREE_LIST.findall(read_text(root / "proc/buddyinfo") or ""):
        free = [int(count) for count in row.split()]
        order = max((order for order, count in enumerate(free) if count), default=None)
        if order is None:
            continue
        block_mb, blocks = _PAGE_KB * 2**order / _KB_PER_MB, free[order]
        best_mb = numbers.get("ram_lfb_mb", 0.0)
        if block_mb > best_mb:
            numbers["ram_lfb_mb"], numbers["ram_lfb_blocks"] = block_mb, blocks
        elif block_mb == best_mb:
            numbers["ram_lfb_blocks"] += blocks
    return numbers


def _fan(root: Path) -> Numbers:
    """Of the first that there is; the pulse and its count may be two devices."""
    numbers: Numbers = {}
    devices = [*sorted((root / "sys/class/hwmon").glob("hwmon*")), root / "sys/devices/pwm-fan"]
    for device in devices:
        pulse = _first_int(device, ("pwm1", "target_pwm"))
        turns = _first_int(device, ("fan1_input", "rpm", "rpm_measured"))
        if pulse is not None:
            numbers.setdefault("fan_pct", round(100 * min(pulse, _FULL_PWM) / _FULL_PWM, 1))
        if turns is not None:
            numbers.setdefault("fan_rpm", turns)
    return numbers


def _mode(root: Path) -> Numbers:
    """nvpmodel's mode, and whether the clocks are locked as `jetson_clocks` leaves them."""
    mode, gpu, cpu = read_power_mode_id(root), gpu_clocks(root), cpu_clocks(root)
    numbers: Numbers = {} if mode is None else {"nvpmodel_id": mode}
    if gpu is not None and cpu is not None:
        numbers["jetson_clocks"] = int(gpu.is_locked and cpu.is_locked)
    return numbers


def _first_int(folder: Path, names: Tuple[str, ...]) -> Optional[int]:
    values = (read_int(folder / name) for name in names)
    return next((value for value in values if value is not None), None)
