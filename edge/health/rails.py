"""Electrical power of a Jetson, from the INA3221 sensors on its module."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Mapping, NamedTuple, Optional

from edge.health.sysfs import read_int, read_text

_CHANNELS = (1, 2, 3)  # of one sensor; what follows them are sums and shunt voltages
_UNUSED = "NC"
_NOT_IN_A_KEY = re.compile(r"[^a-z0-9]+")

# What flows into the module as a whole (on Thor's board, into that); modules without it (AGX) have
# rails side by side.
_INPUT_RAILS = ("VIN", "VDD_IN")

_MICROWATT_PER_WATT = 1e6
_MILLIWATT_PER_WATT = 1e3


class Power(NamedTuple):
    """Watts, and the rails they were measured on."""

    watts: float
    rails: str


def read_rails(root: Path = Path("/")) -> Dict[str, float]:
    """Watts by rail, from `root`/sys; empty where there are no such sensors."""
    rails_w: Dict[str, float] = {}
    for sensor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        chip = read_text(sensor / "name")
        if chip == "ina3221":
            for channel in _CHANNELS:
                _read_channel(sensor, channel, rails_w)
        elif chip == "ina238":  # Thor's board: all that flows into it
            microwatts = read_int(sensor / "power1_input")
            if microwatts is not None:
                rails_w["VIN"] = microwatts / _MICROWATT_PER_WATT
    return rails_w


def total_power(rails_w: Mapping[str, float]) -> Optional[Power]:
    """The module's power: its input where that is measured, else all rails; None without any."""
    for rail in _INPUT_RAILS:
        if rail in rails_w:
            return Power(rails_w[rail], rail)
    return Power(sum(rails_w.values()), " + ".join(rails_w)) if rails_w else None


def total_milliwatts(rails_mw: Mapping[str, float]) -> Optional[float]:
    """The same of milliwatts, for the health record."""
    power = total_power(rails_mw)
    return None if power is None else power.watts


def power_numbers(rails_w: Mapping[str, float]) -> Dict[str, float]:
    """The rails and their total as flat numbers, milliwatts."""
    numbers = {
        rail_key(rail): round(watts * _MILLIWATT_PER_WATT, 1) for rail, watts in rails_w.items()
    }
    power = total_power(rails_w)
    if power is not None:
        numbers["power_total_mw"] = round(power.watts * _MILLIWATT_PER_WATT, 1)
    return numbers


def rail_key(rail: str) -> str:
    """The name of a rail's number."""
    return f"power_{_NOT_IN_A_KEY.sub('_', rail.lower()).strip('_')}_mw"


def _read_channel(sensor: Path, channel: int, rails_w: Dict[str, float]) -> None:
    label = read_text(sensor / f"in{channel}_label")
    millivolts = read_int(sensor / f"in{channel}_input")
    milliamperes = read_int(sensor / f"curr{channel}_input")
    if label in (None, _UNUSED) or millivolts is None or milliamperes is None:
        return
    rails_w[str(label)] = millivolts * milliamperes / _MICROWATT_PER_WATT
