"""Electrical power of a Jetson, from the INA3221 sensors on its module."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, NamedTuple, Optional

from edge.health.sysfs import read_int, read_text

_CHANNELS = (1, 2, 3)  # of one sensor; what follows them are sums and shunt voltages
_UNUSED = "NC"

# What flows into the module as a whole; modules without it (AGX) have rails side by side.
_INPUT_RAIL = "VDD_IN"

_MICROWATT_PER_WATT = 1e6


class Power(NamedTuple):
    """Watts, and the rails they were measured on."""

    watts: float
    rails: str


def read_rails(root: Path = Path("/")) -> Dict[str, float]:
    """Watts by rail, from `root`/sys; empty where there are no such sensors."""
    rails_w: Dict[str, float] = {}
    for sensor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if read_text(sensor / "name") == "ina3221":
            for channel in _CHANNELS:
                _read_channel(sensor, channel, rails_w)
    return rails_w


def total_power(rails_w: Dict[str, float]) -> Optional[Power]:
    """The module's power: its input where that is measured, else all rails; None without any."""
    if _INPUT_RAIL in rails_w:
        return Power(rails_w[_INPUT_RAIL], _INPUT_RAIL)
    return Power(sum(rails_w.values()), " + ".join(rails_w)) if rails_w else None


def _read_channel(sensor: Path, channel: int, rails_w: Dict[str, float]) -> None:
    label = read_text(sensor / f"in{channel}_label")
    millivolts = read_int(sensor / f"in{channel}_input")
    milliamperes = read_int(sensor / f"curr{channel}_input")
    if label in (None, _UNUSED) or millivolts is None or milliamperes is None:
        return
    rails_w[str(label)] = millivolts * milliamperes / _MICROWATT_PER_WATT
