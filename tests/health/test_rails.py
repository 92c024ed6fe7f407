from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional

import pytest

from edge.health.rails import Power, read_rails, total_power
from tests.health.sysfs_files import XAVIER_NX, sensor, write_files

AGX_ORIN = {
    **sensor(1, [("VDD_GPU_SOC", "5000", "600"), ("VDD_CPU_CV", "5000", "200"), ("NC", "0", "0")]),
    **sensor(2, [("VIN_SYS_5V0", "5000", "400")]),
}
CASES = {
    "Xavier NX": (XAVIER_NX, Power(4.968 * 0.56, "VDD_IN")),
    "rails side by side": (AGX_ORIN, Power(6.0, "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0")),
    "another sensor": (sensor(0, [("VDD_IN", "5000", "100")], "tmp451"), None),
    "an unreadable channel": (sensor(0, [("VDD_IN", "5000", "")]), None),
    "a channel without current": (
        {"sys/class/hwmon/hwmon0/name": "ina3221", "sys/class/hwmon/hwmon0/in1_label": "VDD_IN"},
        None,
    ),
    "no sensors": ({}, None),
}


@pytest.mark.parametrize(("files", "expected"), CASES.values(), ids=CASES)
def test_the_power_of_a_module(
    files: Dict[str, str], expected: Optional[Power], tmp_path: Path
) -> None:
    power = total_power(read_rails(write_files(tmp_path, files)))
    if expected is None or power is None:
        assert power is expected
    else:
        assert power.rails == expected.rails
        assert power.watts == pytest.approx(expected.watts)


def test_every_rail_by_its_name(tmp_path: Path) -> None:
    rails_w = read_rails(write_files(tmp_path, XAVIER_NX))
    assert rails_w == pytest.approx(
        {"VDD_IN": 2.78208, "VDD_CPU_GPU_CV": 0.675648, "VDD_SOC": 0.675648}
    )
