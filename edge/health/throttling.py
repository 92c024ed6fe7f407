"""Whether the machine slows itself down, for heat or for want of current."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Optional

from edge.health.sysfs import read_int, read_text

# What cools by slowing down (cpufreq-cpu0, devfreq-17000000.gpu, cpu-throttle-alert; on a PC
# Processor, intel_powerclamp); a fan, a screen or a warm surface slows nobody down.
_SLOWS_DOWN = re.compile(
    r"cpu|gpu|gv11b|ga10b|devfreq|balanced|throttle|^processor$|powerclamp", re.IGNORECASE
)
_ONLY_WARNS = re.compile(r"fan|surface", re.IGNORECASE)

_RAIL_ALARMS = "curr[123]_*_alarm"  # of an INA3221: above the limit now
_EVENTS = "oc[0-9]_event_cnt"  # Orin: under-voltage, average and instantaneous over-current


class Throttling:
    """Reads the kernel's cooling devices and current alarms under `root`; one thread calls it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._events: Optional[int] = None

    def read(self) -> Dict[str, float]:
        """`throttled` and `over_current`, 0 or 1, and the events' total; absent where unknown.

        `over_current` is 1 where a rail is above its limit now, or an event came since the last
        call.
        """
        numbers: Dict[str, float] = {}
        states = _cooling_states(self._root)
        if states:
            numbers["throttled"] = int(any(state > 0 for state in states))
        alarms, events = self._hwmon(_RAIL_ALARMS), self._hwmon(_EVENTS)
        before, self._events = self._events, sum(events)
        if events:
            numbers["over_current_total"] = self._events
        if alarms or events:
            is_new = before is not None and self._events > before
            numbers["over_current"] = int(is_new or any(alarms))
        return numbers

    def _hwmon(self, pattern: str) -> List[int]:
        files = (self._root / "sys/class/hwmon").glob(f"hwmon*/{pattern}")
        return [value for value in map(read_int, files) if value is not None]


def _cooling_states(root: Path) -> List[int]:
    states = []
    for device in (root / "sys/class/thermal").glob("cooling_device*"):
        kind = read_text(device / "type") or ""
        state = read_int(device / "cur_state")
        if state is not None and _SLOWS_DOWN.search(kind) and not _ONLY_WARNS.search(kind):
            states.append(state)
    return states
