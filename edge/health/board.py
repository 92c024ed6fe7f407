"""What decides how fast the machine is: module, JetPack, power mode, clocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Optional

from edge.health.machine import read_machine
from edge.health.sysfs import read_int, read_text

# By L4T release, as NVIDIA pairs them.
_JETPACKS = {
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
    "39.2.1": "7.2.1",
}

# Xavier NX: 17000000.gv11b; Orin: 17000000.ga10b, with JetPack 6 17000000.gpu; Thor: gpu-gpc-0.
_GPU_NODE = re.compile(r"\.g[a-z]\d+b$|\.gpu$|^gpu-gpc-0$")
_PER_MILLE = 1000.0

_MODE = re.compile(r"\bpmode:0*(\d{1,9})")
_CPU_MODEL = re.compile(r"^model name\s*: (.+)$", re.MULTILINE)

_HZ_PER_MHZ = 1_000_000
_KHZ_PER_MHZ = 1_000


@dataclass(frozen=True)
class Clocks:
    """Between which frequencies, in MHz, the kernel may choose, and which it has chosen."""

    lowest_mhz: int
    highest_mhz: int
    current_mhz: Optional[int] = None

    @property
    def is_locked(self) -> bool:
        """True where there is nothing to choose, as `jetson_clocks` leaves it."""
        return self.lowest_mhz == self.highest_mhz


@dataclass(frozen=True)
class Board:
    """What is known; None where the machine does not say. `cpu` is its model's name."""

    module: Optional[str] = None
    l4t: Optional[str] = None
    jetpack: Optional[str] = None
    power_mode: Optional[str] = None
    cpu: Optional[str] = None
    cpu_clocks: Optional[Clocks] = None
    gpu_clocks: Optional[Clocks] = None


def read_board(root: Path = Path("/")) -> Board:
    """Reads it from the files under `root`; needs no rights and no tool."""
    machine = read_machine(root)
    cpu = _CPU_MODEL.search(read_text(root / "proc/cpuinfo") or "")
    return Board(
        module=machine.module,
        l4t=machine.l4t,
        jetpack=_JETPACKS.get(machine.l4t or ""),
        power_mode=_power_mode(root),
        cpu=cpu.group(1).strip() if cpu else None,
        cpu_clocks=cpu_clocks(root),
        gpu_clocks=gpu_clocks(root),
    )


def read_power_mode_id(root: Path = Path("/")) -> Optional[int]:
    """The number of the mode nvpmodel set last; None where there is none."""
    status = _MODE.search(read_text(root / "var/lib/nvpmodel/status") or "")
    return None if status is None else int(status.group(1))


def read_gpu_load(root: Path = Path("/")) -> Optional[float]:
    """The busy share of a Jetson's GPU, 0..1; None elsewhere."""
    node = gpu_node(root)
    places = [
        *([] if node is None else [node / "device/load"]),
        root / "sys/devices/platform/gpu.0/load",
        root / "sys/devices/gpu.0/load",
    ]
    loads = (read_int(place) for place in places)
    load = next((load for load in loads if load is not None), None)
    return None if load is None else load / _PER_MILLE


def _power_mode(root: Path) -> Optional[str]:
    """The name nvpmodel's table gives the mode it set last; its number without a table."""
    number = read_power_mode_id(root)
    if number is None:
        return None
    row = re.compile(rf"^\s*<\s*POWER_MODEL\s+ID={number}\s+NAME=(\S+)\s*>", re.MULTILINE)
    named = row.search(read_text(root / "etc/nvpmodel.conf") or "")
    return named.group(1) if named else str(number)


def gpu_node(root: Path) -> Optional[Path]:
    """The folder of a Jetson's GPU among the devices whose clock follows their load."""
    nodes = sorted((root / "sys/class/devfreq").glob("*"))
    return next((node for node in nodes if _GPU_NODE.search(node.name)), None)


def gpu_clocks(root: Path) -> Optional[Clocks]:
    """Of a Jetson's GPU."""
    node = gpu_node(root)
    if node is None:
        return None
    return _clocks([node / "min_freq"], [node / "max_freq"], node / "cur_freq", _HZ_PER_MHZ)


def cpu_clocks(root: Path) -> Optional[Clocks]:
    """Over all cores: those of one kind share a policy."""
    policies = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    lowest = [policy / "scaling_min_freq" for policy in policies]
    highest = [policy / "scaling_max_freq" for policy in policies]
    return _clocks(lowest, highest, None, _KHZ_PER_MHZ)


def _clocks(
    lowest: Iterable[Path], highest: Iterable[Path], current: Optional[Path], per_mhz: int
) -> Optional[Clocks]:
    smallest = [value for value in map(read_int, lowest) if value is not None]
    largest = [value for value in map(read_int, highest) if value is not None]
    if not smallest or not largest:
        return None
    now = None if current is None else read_int(current)
    now_mhz = None if now is None else now // per_mhz
    return Clocks(min(smallest) // per_mhz, max(largest) // per_mhz, now_mhz)
