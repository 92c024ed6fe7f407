from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional

import pytest

from edge.health.board import Board, Clocks, read_board, read_gpu_load
from tests.health.sysfs_files import XAVIER_NX, write_files


def test_a_jetson(tmp_path: Path) -> None:
    assert read_board(write_files(tmp_path, XAVIER_NX)) == Board(
        module="NVIDIA Jetson Xavier NX Developer Kit",
        l4t="35.4.1",
        jetpack="5.1.2",
        power_mode="MODE_15W_6CORE",
        cpu=None,
        cpu_clocks=Clocks(115, 1420),
        gpu_clocks=Clocks(114, 1109, 318),
    )


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    assert read_board(tmp_path) == Board()
    assert read_gpu_load(tmp_path) is None


def test_a_laptop(tmp_path: Path) -> None:
    text = "processor\t: 0\nmodel name\t: AMD EPYC 7B13\nprocessor\t: 1\nmodel name\t: other\n"
    assert read_board(write_files(tmp_path, {"proc/cpuinfo": text})) == Board(cpu="AMD EPYC 7B13")


def test_a_release_that_is_newer_than_this(tmp_path: Path) -> None:
    release = {"etc/nv_tegra_release": "# R99 (release), REVISION: 1.0, GCID: 1\n"}
    board = read_board(write_files(tmp_path, release))
    assert (board.l4t, board.jetpack) == ("99.1.0", None)


MODES = {
    "by the table": ({}, "MODE_15W_6CORE"),
    "no table": ({"etc/nvpmodel.conf": ""}, "2"),
    "zero": ({"var/lib/nvpmodel/status": "pmode:0000"}, "MODE_15W_2CORE"),
    "not in the table": ({"var/lib/nvpmodel/status": "pmode:0008 fmode:cool"}, "8"),
    "nothing set yet": ({"var/lib/nvpmodel/status": ""}, None),
    "damaged": ({"var/lib/nvpmodel/status": "\0\0"}, None),
}


@pytest.mark.parametrize(("changes", "expected"), MODES.values(), ids=MODES)
def test_the_power_mode(changes: Dict[str, str], expected: Optional[str], tmp_path: Path) -> None:
    assert read_board(write_files(tmp_path, {**XAVIER_NX, **changes})).power_mode == expected


@pytest.mark.parametrize(
    "node", ["17000000.gv11b", "17000000.ga10b", "17000000.gp10b", "17000000.gpu", "gpu-gpc-0"]
)
def test_every_generations_gpu_is_found(node: str, tmp_path: Path) -> None:
    folder = f"sys/class/devfreq/{node}"
    files = {f"{folder}/min_freq": "918000000", f"{folder}/max_freq": "918000000"}
    clocks = read_board(write_files(tmp_path, files)).gpu_clocks
    assert clocks == Clocks(918, 918, None)
    assert clocks.is_locked
    assert not Clocks(114, 918).is_locked


@pytest.mark.parametrize("name", ["15340000.vic", "17000000.gpux", "gpu-nvd-0", "emc"])
def test_what_is_no_gpu(name: str, tmp_path: Path) -> None:
    folder = f"sys/class/devfreq/{name}"
    files = {f"{folder}/min_freq": "1", f"{folder}/max_freq": "2", f"{folder}/device/load": "3"}
    root = write_files(tmp_path, files)
    assert (read_board(root).gpu_clocks, read_gpu_load(root)) == (None, None)


LOADS = {
    "beside the clock": ("sys/class/devfreq/17000000.gpu/device/load", "873\n", 0.873),
    "the platform's": ("sys/devices/platform/gpu.0/load", "1000", 1.0),
    "JetPack 4's": ("sys/devices/gpu.0/load", "0", 0.0),
    "damaged": ("sys/devices/gpu.0/load", "busy", None),
}


@pytest.mark.parametrize(("path", "text", "expected"), LOADS.values(), ids=LOADS)
def test_the_load(path: str, text: str, expected: Optional[float], tmp_path: Path) -> None:
    assert read_gpu_load(write_files(tmp_path, {path: text})) == expected
