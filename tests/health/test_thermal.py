from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from edge.health.thermal import is_plausible, read_zones, zone_name

NAMES = {
    "Xavier NX": ("CPU-therm\n", "cpu"),
    "Xavier NX auxiliary": ("AUX-therm\n", "aux"),
    "Orin": ("gpu-thermal\n", "gpu"),
    "Orin junction": ("tj-thermal", "tj"),
    "Intel": ("x86_pkg_temp", "x86_pkg"),
    "ACPI": ("acpitz", "acpitz"),
    "Xavier's board, with a space": ("Tboard tegra", "tboard"),
    "constant of Xavier": ("PMIC-Die\n", None),
    "estimate": ("thermal-fan-est\n", None),
    "empty": ("", None),
    "nothing but signs": ("--", None),
}


@pytest.mark.parametrize(("zone_type", "name"), NAMES.values(), ids=NAMES)
def test_zone_name(zone_type: str, name: Optional[str]) -> None:
    assert zone_name(zone_type) == name


PLAUSIBLE = {"off on Jetson": (-256.0, False), "too cold": (-60.0, False), "arctic": (-59.9, True),
             "zero": (0.0, True), "hot": (149.9, True), "too hot": (150.0, False)}  # fmt: skip


@pytest.mark.parametrize(("celsius", "expected"), PLAUSIBLE.values(), ids=PLAUSIBLE)
def test_is_plausible(celsius: float, expected: bool) -> None:
    assert is_plausible(celsius) is expected


def add_zone(root: Path, index: int, zone_type: str, temp: Optional[str]) -> None:
    zone = root / f"sys/class/thermal/thermal_zone{index}"
    zone.mkdir(parents=True)
    (zone / "type").write_text(zone_type)
    if temp is not None:
        (zone / "temp").write_text(temp)


def test_a_jetson_is_read_by_name(tmp_path: Path) -> None:
    add_zone(tmp_path, 0, "CPU-therm\n", "46500\n")
    add_zone(tmp_path, 1, "GPU-therm\n", "45000\n")
    add_zone(tmp_path, 2, "PMIC-Die\n", "100000\n")
    add_zone(tmp_path, 3, "cv0-thermal\n", "-256000\n")
    add_zone(tmp_path, 4, "AO-therm\n", "garbage\n")
    add_zone(tmp_path, 5, "AUX-therm\n", None)
    assert read_zones(tmp_path) == {"cpu": 46.5, "gpu": 45.0}


def test_the_hottest_of_a_name_counts(tmp_path: Path) -> None:
    for index, millidegrees in enumerate(("40000", "50000", "45000")):
        add_zone(tmp_path, index, "acpitz", millidegrees)
    assert read_zones(tmp_path) == {"acpitz": 50.0}


def test_no_zones(tmp_path: Path) -> None:
    assert read_zones(tmp_path) == {}
