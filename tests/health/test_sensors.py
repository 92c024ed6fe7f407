from __future__ import annotations

from pathlib import Path
from typing import Dict, Set, Tuple

import pytest

from edge.health.sensors import Sensors, is_jetson
from tests.health.roots import ORIN_NX, ROOTS, cooling, cores, memory
from tests.health.sysfs_files import sensor, write_files

KNOWN: Dict[str, Dict[str, float]] = {
    "xavier nx": {
        "temp_cpu_c": 46.5,
        "temp_gpu_c": 45.5,
        "power_vdd_in_mw": 2782.1,
        "power_total_mw": 2782.1,
        "gpu_load_pct": 87.3,
        "gpu_freq_mhz": 318,
        "cpu_2_freq_mhz": 1397,
        "emc_freq_mhz": 1600,
        "emc_load_pct": 20,
        "gpu_mem_used_mb": 1224,
        "ram_lfb_mb": 4,
        "ram_lfb_blocks": 7,
        "fan_pct": 30.2,
        "nvpmodel_id": 2,
        "jetson_clocks": 0,
        "throttled": 0,
        "over_current": 0,
    },
    "orin nx": {
        "gpu_load_pct": 0,
        "temp_tj_c": 54.0,
        "jetson_clocks": 1,
        "nvpmodel_id": 0,
        "fan_rpm": 2140,
        "over_current_total": 52,
        "over_current": 0,
        "throttled": 0,
        "power_total_mw": 6120.4,
    },
    "orin nano": {
        "gpu_load_pct": 63,
        "gpu_mem_used_mb": 512,
        "power_vdd_soc_mw": 2815,
        "fan_pct": 100,
        "cpu_5_freq_mhz": 1420,
        "throttled": 0,
    },
    "thor": {
        "gpu_freq_mhz": 1000,
        "power_vin_mw": 31250,
        "power_total_mw": 31250,
        "power_vdd_cpu_soc_mss_mw": 8400,
        "emc_freq_mhz": 4266,
        "throttled": 1,
    },
    "laptop": {"temp_x86_pkg_c": 63, "cpu_1_freq_mhz": 2600, "fan_rpm": 2900, "throttled": 0},
}
ABSENT: Dict[str, Set[str]] = {
    "xavier nx": {"temp_pmic_c", "temp_pmic_die_c", "fan_rpm", "over_current_total"},
    "orin nx": {"temp_cv0_c", "emc_freq_mhz", "emc_load_pct"},
    "orin nano": {"temp_cv0_c", "emc_freq_mhz"},
    "thor": {"gpu_load_pct", "gpu_mem_used_mb", "nvpmodel_id", "power_nc_mw", "over_current"},
    "laptop": {"gpu_load_pct", "power_total_mw", "nvpmodel_id", "jetson_clocks", "over_current"},
}


@pytest.mark.parametrize("name", ROOTS)
def test_what_each_machine_tells(name: str, tmp_path: Path) -> None:
    numbers = Sensors(write_files(tmp_path, ROOTS[name])).read()
    assert {key: numbers.get(key) for key in KNOWN[name]} == KNOWN[name]
    assert not ABSENT[name] & set(numbers)


@pytest.mark.parametrize("name", ROOTS)
def test_a_jetson_is_told_from_a_laptop(name: str, tmp_path: Path) -> None:
    assert is_jetson(write_files(tmp_path, ROOTS[name])) is (name != "laptop")


def test_a_container_knows_the_jetson_by_its_gpu(tmp_path: Path) -> None:
    only_sys = {path: text for path, text in ORIN_NX.items() if path.startswith("sys/")}
    assert is_jetson(write_files(tmp_path, only_sys))


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    assert Sensors(tmp_path).read() == {}
    assert not is_jetson(tmp_path)


@pytest.mark.parametrize("text", ["", "\0\0", "N/A", "-", "9" * 5000, "\xff\xfe"])
@pytest.mark.parametrize("name", ["xavier nx", "thor"])
def test_damaged_files_are_as_if_they_were_not_there(name: str, text: str, tmp_path: Path) -> None:
    damaged = {path: text for path in ROOTS[name] if not path.endswith(("/type", "name"))}
    assert Sensors(write_files(tmp_path, damaged)).read() == {}


def test_a_core_is_busy_by_what_it_did_since_the_last_reading(tmp_path: Path) -> None:
    before = [f"cpu{n} 100 0 50 850 0 0 0 0 7 0" for n in (0, 1, 2, 5)]
    after = [
        "cpu0 150 0 50 900 0 0 0 0 9 0",  # 50 of 100
        "cpu1 100 0 50 850 0 0 0 0 7 0",  # no time has passed
        "cpu2 100 0 50 840 20 0 0 0 7 0",  # waited for a disk
        "cpu3 100 0 50 850 0 0 0 0 7 0",  # came on
    ]
    sensors = Sensors(write_files(tmp_path, cores({}, before)))
    assert not any(key.startswith("cpu_") for key in sensors.read())
    write_files(tmp_path, cores({}, after))
    assert sensors.read() == {"cpu_0_load_pct": 50.0, "cpu_2_load_pct": 0.0}


BLOCKS = {
    "the largest are gone": (" 1 1 1 0 0 0 0 0 3 0 0", (1.0, 3)),
    "only pages": (" 9 0 0 0 0 0 0 0 0 0 0", (4 / 1024, 9)),
    "all is used": (" 0 0 0 0 0 0 0 0 0 0 0", None),
}


@pytest.mark.parametrize(("row", "expected"), BLOCKS.values(), ids=BLOCKS)
def test_the_largest_free_block(row: str, expected: object, tmp_path: Path) -> None:
    write_files(tmp_path, {"proc/buddyinfo": f"Node 0, zone   Normal{row}\n"})
    numbers = Sensors(tmp_path).read()
    found = (numbers.get("ram_lfb_mb"), numbers.get("ram_lfb_blocks"))
    assert found == (expected or (None, None))


def test_blocks_of_all_zones_count(tmp_path: Path) -> None:
    numbers = Sensors(write_files(tmp_path, memory(1000))).read()
    assert (numbers["ram_lfb_mb"], numbers["ram_lfb_blocks"]) == (4, 7)


# --- throttling --------------------------------------------------------------------------------

COOLING: Dict[str, Tuple[Dict[str, str], object]] = {
    "a core is slowed": ({"cpufreq-cpu0": "1", "pwm-fan": "0"}, 1),
    "an older kernel's name": ({"thermal-cpufreq-0": "3"}, 1),
    "the GPU is slowed": ({"devfreq-17000000.gpu": "2"}, 1),
    "the firmware slows": ({"cpu-throttle-alert": "1"}, 1),
    "a PC's processor": ({"Processor": "4"}, 1),
    "an idle power clamp": ({"intel_powerclamp": "-1"}, 0),
    "only the fan runs": ({"pwm-fan": "3", "cpufreq-cpu0": "0"}, 0),
    "only a warm surface": ({"hot-surface-alert": "1", "gpu-throttle-alert": "0"}, 0),
    "a dim screen says nothing": ({"LCD": "7", "Fan": "1"}, None),
    "no such devices": ({}, None),
}


@pytest.mark.parametrize(("states", "expected"), COOLING.values(), ids=COOLING)
def test_who_slows_the_machine_down(
    states: Dict[str, str], expected: object, tmp_path: Path
) -> None:
    assert Sensors(write_files(tmp_path, cooling(states))).read().get("throttled") == expected


EVENT = "sys/class/hwmon/hwmon4/oc3_event_cnt"


def test_an_over_current_event_is_told_once(tmp_path: Path) -> None:
    sensors = Sensors(write_files(tmp_path, {EVENT: "37\n"}))
    told = []
    for count in ("37", "37", "38", "38"):
        write_files(tmp_path, {EVENT: count})
        numbers = sensors.read()
        told.append((numbers["over_current"], numbers["over_current_total"]))
    assert told == [(0, 37), (0, 37), (1, 38), (0, 38)]


@pytest.mark.parametrize("alarm", ["crit", "max"])
def test_a_rail_above_its_limit_is_told_as_long_as_it_is(alarm: str, tmp_path: Path) -> None:
    path = f"sys/class/hwmon/hwmon3/curr1_{alarm}_alarm"
    sensors = Sensors(write_files(tmp_path, {**sensor(3, [("VDD_IN", "5000", "900")]), path: "1"}))
    assert [sensors.read()["over_current"] for _ in range(2)] == [1, 1]
    write_files(tmp_path, {path: "0"})
    assert sensors.read()["over_current"] == 0
