from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from edge.capture.survey.csi_sensors import argus_trouble, diagnose_csi, find_sensors

MODULES = "proc/device-tree/tegra-camera-platform/modules"


def described(root: Path, module: int, name: str, status: str = "okay") -> None:
    """A module as the device tree has it: a sensor and its lens, every text with a NUL."""
    folder = root / MODULES / f"module{module}"
    for node, driver in (("drivernode0", "v4l2_sensor"), ("drivernode1", "v4l2_lens")):
        (folder / node).mkdir(parents=True)
        (folder / node / "pcl_id").write_text(f"{driver}\0")
        (folder / node / "devname").write_text(f"{name}\0")
    (folder / "status").write_text(f"{status}\0")


def bound(root: Path, number: int, name: str) -> None:
    folder = root / f"sys/class/video4linux/video{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")


def argus(root: Path) -> None:
    (root / "tmp").mkdir()
    (root / "tmp/argus_socket").touch()


def test_sensors_are_numbered_as_in_the_device_tree(tmp_path: Path) -> None:
    argus(tmp_path)
    described(tmp_path, 0, "imx219 9-0010")
    described(tmp_path, 1, "imx219 10-0010")
    described(tmp_path, 2, "imx477 11-001a", status="disabled")
    bound(tmp_path, 0, "vi-output, imx219 10-0010")
    bound(tmp_path, 1, "vi-output, imx219 9-0010")
    bound(tmp_path, 2, "HD Webcam")
    sensors = find_sensors(tmp_path)
    assert [(s.sensor_id, s.name, s.node) for s in sensors] == [
        (0, "imx219 9-0010", tmp_path / "dev/video1"),
        (1, "imx219 10-0010", tmp_path / "dev/video0"),
    ]
    assert all(sensor.trouble is None for sensor in sensors)


def test_in_a_container_the_nodes_order_counts(tmp_path: Path) -> None:
    argus(tmp_path)
    for number in (10, 2):
        bound(tmp_path, number, f"vi-output, imx219 {number}-0010")
    assert [sensor.name for sensor in find_sensors(tmp_path)] == ["imx219 2-0010", "imx219 10-0010"]


def test_a_sensor_that_is_not_plugged_in_is_named(tmp_path: Path) -> None:
    argus(tmp_path)
    described(tmp_path, 0, "imx219 9-0010")
    described(tmp_path, 1, "imx219 10-0010")
    bound(tmp_path, 0, "vi-output, imx219 10-0010")
    there, missing = find_sensors(tmp_path)
    assert (there.sensor_id, there.name) == (0, "imx219 10-0010")
    assert missing.sensor_id is None
    assert missing.trouble is not None
    assert "dmesg | grep imx219" in missing.trouble.advice


def test_elsewhere_there_are_none(tmp_path: Path) -> None:
    assert find_sensors(tmp_path) == []


@pytest.mark.parametrize("is_there", [True, False])
def test_without_the_argus_daemon_no_sensor_works(tmp_path: Path, is_there: bool) -> None:
    bound(tmp_path, 0, "vi-output, imx219 9-0010")
    if is_there:
        argus(tmp_path)
    (sensor,) = find_sensors(tmp_path)
    trouble = argus_trouble(tmp_path)
    assert sensor.trouble == trouble
    assert (trouble is None) is is_there
    assert is_there or (trouble is not None and "nvargus-daemon" in trouble.advice)


@pytest.mark.parametrize(
    ("wanted", "has_argus", "sensor", "reason", "advice"),
    [
        (0, True, "vi-output, imx219 9-0010", "", "restart nvargus-daemon"),
        (0, False, "vi-output, imx219 9-0010", "argus_socket is not there", "nvargus-daemon"),
        (1, True, "vi-output, imx219 9-0010", "no CSI sensor 1", "csi://0 (imx219 9-0010)"),
        (0, True, None, "no CSI sensor was found", "ribbon cable"),
    ],
    ids=["there", "no daemon", "another number", "none"],
)
def test_why_a_sensor_is_silent(
    tmp_path: Path, wanted: int, has_argus: bool, sensor: Optional[str], reason: str, advice: str
) -> None:
    if has_argus:
        argus(tmp_path)
    if sensor is not None:
        bound(tmp_path, 0, sensor)
    finding = diagnose_csi(wanted, tmp_path)
    assert finding is not None
    assert reason in finding.reason
    assert advice in finding.advice
    assert bool(finding.reason) is bool(reason)


def test_a_sensor_that_only_the_device_tree_knows(tmp_path: Path) -> None:
    described(tmp_path, 0, "imx219 9-0010")
    finding = diagnose_csi(0, tmp_path)
    assert finding is not None
    assert "the driver did not find it" in finding.reason
