from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Optional

import pytest

from edge.config.mqtt import TOPIC_LEVEL
from edge.health.machine import Machine, read_machine

JETSON = {
    "proc/device-tree/model": b"NVIDIA Jetson Xavier NX Developer Kit\0",
    "proc/device-tree/serial-number": b"1421820012345\0",
    "etc/nv_tegra_release": b"# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref\n",
    "proc/sys/kernel/random/boot_id": b"2f1c9d2e-0d4c-4a0e-9d5c-0a1b2c3d4e5f\n",
}


def write(root: Path, files: Dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def test_a_jetson_tells_what_it_is(tmp_path: Path) -> None:
    machine = read_machine(write(tmp_path, JETSON))

    assert machine.module == "NVIDIA Jetson Xavier NX Developer Kit"
    assert machine.serial == "1421820012345"
    assert machine.l4t == "35.4.1"
    assert machine.boot_id == "2f1c9d2e-0d4c-4a0e-9d5c-0a1b2c3d4e5f"
    assert machine.default_device_id == "1421820012345"


def test_a_laptop_lacks_a_jetsons_files(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    assert (machine.module, machine.serial, machine.l4t, machine.boot_id) == (None,) * 4
    assert machine.platform.startswith("Linux")
    assert re.match(TOPIC_LEVEL, machine.default_device_id)


def test_a_container_is_told_the_module_by_the_base_image(tmp_path: Path) -> None:
    machine = read_machine(write(tmp_path, {"tmp/nv_jetson_model": b"Jetson Orin Nano\n"}))
    assert machine.module == "Jetson Orin Nano"


DAMAGED = {"empty": b"", "only a NUL": b"\0", "other text": b"R35\n", "not text": b"\xff\xfe"}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_release_file_that_says_nothing(tmp_path: Path, data: bytes) -> None:
    assert read_machine(write(tmp_path, {"etc/nv_tegra_release": data})).l4t is None


IDS = {
    "serial": ("nx", "0421", "0421"),
    "no serial": ("dock-nx", None, "dock-nx"),
    "host with a domain": ("dock.example.org", None, "dock.example.org"),
    "spaces and slashes": ("my host/1", None, "my-host-1"),
    "wildcards": ("a+b#c", None, "a-b-c"),
    "nothing usable": ("///", None, "edge"),
    "no name": ("", None, "edge"),
    "too long": ("a" * 65, None, "a" * 64),
    "other script": ("döck", None, "d-ck"),
}


@pytest.mark.parametrize(("name", "serial", "expected"), IDS.values(), ids=IDS)
def test_device_ids_fit_a_topic_level(name: str, serial: Optional[str], expected: str) -> None:
    machine = Machine(name, "Linux", "3.8.18", None, serial, None, None)
    assert machine.default_device_id == expected
    assert re.match(TOPIC_LEVEL, machine.default_device_id)
