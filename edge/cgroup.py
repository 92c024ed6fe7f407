"""What the kernel grants this process of the machine: control groups, versions 1 and 2.

In a container, or under a systemd unit with limits, it is less than the machine has.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, List, Optional

# What version 1 says instead of "none" is a little less than 2^63, in whole pages.
_NO_LIMIT = 2**60
# Of a page cache that was read once: the kernel gives it up for whoever asks.
_GIVEN_UP = re.compile(r"^(?:total_)?inactive_file (\d{1,19})$", re.MULTILINE)


@dataclass(frozen=True)
class Grant:
    """The tightest limit of the process' group and those above it; None where there is none.

    `cpus` counts whole CPUs of time, 1.5 for one and a half; `tasks` are threads and processes.
    """

    memory_bytes: Optional[int] = None
    memory_free_bytes: Optional[int] = None
    cpus: Optional[float] = None
    tasks: Optional[int] = None


def read_grant(root: Path = Path("/")) -> Grant:
    """Reads it from /proc/self/cgroup and /sys/fs/cgroup below `root`."""
    memory, cpu, tasks = (_levels(root, name) for name in ("memory", "cpu", "pids"))
    return Grant(
        memory_bytes=_least(_memory_limit(level) for level in memory),
        memory_free_bytes=_least(_memory_free(level) for level in memory),
        cpus=_least_share(_cpus(level) for level in cpu),
        tasks=_least(_number(level / "pids.max") for level in tasks),
    )


def usable_cpus(root: Path = Path("/")) -> int:
    """For how many threads there is CPU: as many as may run at once, at least one."""
    allowed = len(os.sched_getaffinity(0))
    quota = read_grant(root).cpus
    return allowed if quota is None else max(min(allowed, math.ceil(quota)), 1)


def _levels(root: Path, controller: str) -> List[Path]:
    """The folders of the process' group and those above it, as far as they are to be seen."""
    mounts = root / "sys/fs/cgroup"
    unified = None
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller in names.split(","):
            mount = next((m for m in (mounts / controller, mounts / names) if m.is_dir()), None)
            return [] if mount is None else _upwards(mount, path)
        if number == "0":
            unified = path
    return [] if unified is None else _upwards(mounts, unified)


def _upwards(mount: Path, path: str) -> List[Path]:
    # Within a container the mount is the group itself, and the path is of the host, or has "..".
    names = [name for name in path.split("/") if name not in ("", "..")]
    return [mount.joinpath(*names[:depth]) for depth in range(len(names) + 1)]


def _memory_limit(level: Path) -> Optional[int]:
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    return _least(_number(level / name) for name in names)


def _memory_free(level: Path) -> Optional[int]:
    limit = _memory_limit(level)
    used = _least(_number(level / name) for name in ("memory.current", "memory.usage_in_bytes"))
    if limit is None or used is None:
        return limit
    cached = [int(found) for found in _GIVEN_UP.findall(_text(level / "memory.stat") or "")]
    return max(limit - used + max(cached, default=0), 0)


def _cpus(level: Path) -> Optional[float]:
    # Version 2: "150000 100000" or "max 100000", microseconds of each period.
    quota, _, period = (_text(level / "cpu.max") or "").partition(" ")
    if not quota:
        quota = _text(level / "cpu.cfs_quota_us") or ""
        period = _text(level / "cpu.cfs_period_us") or ""
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _least(values: Iterable[Optional[int]]) -> Optional[int]:
    return min((value for value in values if value is not None), default=None)


def _least_share(values: Iterable[Optional[float]]) -> Optional[float]:
    return min((value for value in values if value is not None), default=None)


def _number(path: Path) -> Optional[int]:
    text = _text(path) or ""
    return int(text) if text.isdecimal() and int(text) < _NO_LIMIT else None


def _text(path: Path) -> Optional[str]:
    with contextlib.suppress(OSError):
        return path.read_text("utf-8", "replace").strip()
    return None
