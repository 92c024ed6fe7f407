"""Temperatures from the kernel's thermal zones, under one name per place on every board."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Optional, Tuple

from edge.health.sysfs import read_int, read_text

# Sensors of powered-down units read -256 °C on Jetson, disconnected ones 0 K or nonsense.
_PLAUSIBLE_C = (-60.0, 150.0)

# PMIC-Die is a constant of the device tree on Xavier, and the fan estimate is a weighted mean
# of the others: neither is a temperature.
_NOT_SENSORS = frozenset({"pmic_die", "pmic", "thermal_fan_est"})

_DECORATION = re.compile(r"_(therm|thermal|temp|tegra)$")


def zone_name(zone_type: str) -> Optional[str]:
    """Turns a zone's type (`CPU-therm`, `cpu-thermal`) into `cpu`; None if it is no sensor."""
    name = re.sub(r"[^a-z0-9]+", "_", zone_type.lower()).strip("_")
    name = _DECORATION.sub("", name)
    return None if not name or name in _NOT_SENSORS else name


def read_zones(root: Path = Path("/")) -> Dict[str, float]:
    """Reads every thermal zone under `root`/sys: degrees Celsius by name, hottest of a name.

    A zone that cannot be read is absent.
    """
    temperatures_c: Dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        reading = _read_zone(zone)
        if reading is not None:
            name, celsius = reading
            temperatures_c[name] = max(celsius, temperatures_c.get(name, celsius))
    return temperatures_c


def is_plausible(celsius: float) -> bool:
    """Tells a temperature from the constants of a sensor that is off."""
    return _PLAUSIBLE_C[0] < celsius < _PLAUSIBLE_C[1]


def _read_zone(zone: Path) -> Optional[Tuple[str, float]]:
    name = zone_name(read_text(zone / "type") or "")
    millidegrees = None if name is None else read_int(zone / "temp")
    if name is None or millidegrees is None or not is_plausible(millidegrees / 1000):
        return None
    return name, millidegrees / 1000
