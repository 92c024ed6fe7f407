from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Tuple

import pytest

from edge.health.trip_points import read_throttle_c
from tests.health.sysfs_files import write_files

Trip = Tuple[str, str]


def zone(number: int, name: str, trips: List[Trip]) -> Dict[str, str]:
    folder = f"sys/class/thermal/thermal_zone{number}"
    files = {f"{folder}/type": f"{name}\n"}
    for index, (kind, millidegrees) in enumerate(trips):
        files[f"{folder}/trip_point_{index}_type"] = f"{kind}\n"
        files[f"{folder}/trip_point_{index}_temp"] = f"{millidegrees}\n"
    return files


XAVIER_NX = {
    **zone(0, "AO-therm", [("active", "46000")]),
    **zone(1, "CPU-therm", [("critical", "101000"), ("passive", "95500"), ("active", "46000")]),
    **zone(2, "GPU-therm", [("passive", "93500")]),
    **zone(3, "PMIC-Die", [("passive", "80000")]),
}


@pytest.mark.parametrize(
    ("files", "expected_c"),
    [
        pytest.param(XAVIER_NX, 93.5, id="the lowest of the sensors"),
        pytest.param(zone(0, "cpu-thermal", [("passive", "99000")]), 99.0, id="Orin"),
        pytest.param(zone(0, "cpu-thermal", [("critical", "99000")]), None, id="shut down only"),
        pytest.param(zone(0, "cpu-thermal", [("active", "60000")]), None, id="fan only"),
        pytest.param(zone(0, "cpu-thermal", [("passive", "50000")]), 50.0, id="lowest credible"),
        pytest.param(zone(0, "cpu-thermal", [("passive", "49999")]), None, id="below credible"),
        pytest.param(zone(0, "cpu-thermal", [("passive", "115000")]), 115.0, id="highest credible"),
        pytest.param(zone(0, "cpu-thermal", [("passive", "2147483647")]), None, id="switched off"),
        pytest.param(zone(0, "TCPU", [("passive", "-274000")]), None, id="disabled on a PC"),
        pytest.param(zone(0, "cpu-thermal", [("passive", "warm")]), None, id="no number"),
        pytest.param({}, None, id="a machine without zones"),
    ],
)
def test_where_the_kernel_begins_to_throttle(
    tmp_path: Path, files: Dict[str, str], expected_c: Optional[float]
) -> None:
    assert read_throttle_c(write_files(tmp_path, files)) == expected_c
