"""How busy each core is, by the kernel's own account."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, NamedTuple

from edge.health.sysfs import read_text

# user nice system idle iowait irq softirq steal; a guest's time is in user already.
_CORE = re.compile(r"^cpu(\d{1,4})((?: \d{1,19}){8})", re.MULTILINE)
_IDLE, _IOWAIT = 3, 4


class _Ticks(NamedTuple):
    busy: int
    total: int


class CoreLoads:
    """Reads `root`/proc/stat; loads are means since the previous call, of one thread."""

    def __init__(self, root: Path) -> None:
        self._path = root / "proc/stat"
        self._ticks: Dict[str, _Ticks] = {}

    def read(self) -> Dict[str, float]:
        """`cpu_<n>_load_pct` of every core that was on both times; nothing the first time."""
        before, self._ticks = self._ticks, _ticks(read_text(self._path) or "")
        return {
            f"cpu_{core}_load_pct": _share_pct(before[core], now)
            for core, now in self._ticks.items()
            if core in before and now.total > before[core].total
        }


def _ticks(text: str) -> Dict[str, _Ticks]:
    ticks: Dict[str, _Ticks] = {}
    for core, counts in _CORE.findall(text):
        spent = [int(count) for count in counts.split()]
        total = sum(spent)
        ticks[core] = _Ticks(total - spent[_IDLE] - spent[_IOWAIT], total)
    return ticks


def _share_pct(before: _Ticks, now: _Ticks) -> float:
    share = (now.busy - before.busy) / (now.total - before.total)
    # The kernel's idle counters may step back a tick when a core goes off.
    return round(100 * min(max(share, 0.0), 1.0), 1)
