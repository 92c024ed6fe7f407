"""The module, its JetPack, and how fast it may run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import pytest

from edge.doctor.board import judge_board, l4t_release
from edge.health.board import Board, Clocks, read_board
from edge.health.sensors import is_jetson
from tests.health.roots import ROOTS
from tests.health.sysfs_files import write_files

LINES = {
    "xavier nx": [
        ("module", "ok", "NVIDIA Jetson Xavier NX Developer Kit"),
        ("JetPack", "ok", "5.1.2 (L4T 35.4.1)"),
        ("power mode", "ok", "MODE_15W_6CORE"),
        ("jetson_clocks", "ok", "off: GPU 114 to 1109 MHz"),
    ],
    "orin nx": [
        ("module", "ok", "NVIDIA Orin NX Developer Kit"),
        ("JetPack", "ok", "6.2 (L4T 36.4.3)"),
        ("power mode", "ok", "0"),
        ("jetson_clocks", "ok", "on: GPU at 918 MHz, CPU at 1984"),
    ],
    "orin nano": [
        ("module", "ok", "NVIDIA Jetson Orin Nano Developer Kit"),
        ("JetPack", "ok", "6.2 (L4T 36.4.3)"),
        ("power mode", "ok", "0"),
        ("jetson_clocks", "ok", "off: GPU 306 to 625 MHz"),
    ],
    "thor": [
        ("module", "ok", "NVIDIA Jetson AGX Thor Developer Kit"),
        ("JetPack", "ok", "7.1 (L4T 38.4.0)"),
        ("power mode", "not here", "nvpmodel keeps none"),
        ("jetson_clocks", "not here", "the clocks' limits cannot be read"),
    ],
    "laptop": [("module", "not here", "no Jetson (Intel Core)")],
}


@pytest.mark.parametrize("name", ROOTS)
def test_every_machine(tmp_path: Path, name: str) -> None:
    root = write_files(tmp_path, ROOTS[name])
    found = list(judge_board(read_board(root), is_jetson(root)))
    assert len(found) == len(LINES[name])
    for finding, (subject, verdict, words) in zip(found, LINES[name]):
        assert (finding.subject, finding.verdict.value) == (subject, verdict)
        assert finding.words.startswith(words)


LOCKED, FREE = Clocks(900, 900), Clocks(100, 900)
NX: Dict[str, Any] = {
    "module": "NVIDIA Jetson Xavier NX", "l4t": "35.4.1", "jetpack": "5.1.2",
    "power_mode": "MODE_20W_6CORE", "gpu_clocks": LOCKED, "cpu_clocks": LOCKED,
}  # fmt: skip
TROUBLES: Dict[str, Any] = {
    "nothing": ({}, []),
    "module unsaid": ({"module": None}, ["warning module"]),
    "no L4T": ({"l4t": None, "jetpack": None}, ["warning JetPack"]),
    "JetPack 4": ({"l4t": "32.7.4", "jetpack": None}, ["fault JetPack"]),
    "JetPack 5.0": ({"l4t": "35.1.0", "jetpack": None}, ["fault JetPack"]),
    "JetPack 5.1": ({"l4t": "35.2.1", "jetpack": "5.1"}, []),
    "one that is newer than this program": ({"l4t": "35.9.0", "jetpack": None}, []),
    "JetPack 6 on a Xavier": ({"l4t": "36.4.3", "jetpack": "6.2"}, ["fault JetPack"]),
    "few cores": ({"power_mode": "MODE_15W_2CORE"}, ["warning power mode"]),
    "clocks free": ({"gpu_clocks": FREE}, []),
    "CPU clocks unknown": ({"cpu_clocks": None}, []),
}


@pytest.mark.parametrize(("changes", "troubles"), TROUBLES.values(), ids=TROUBLES)
def test_troubles(changes: Dict[str, Any], troubles: List[str]) -> None:
    found = list(judge_board(Board(**{**NX, **changes}), True))
    bad = [finding for finding in found if finding.verdict.value in ("fault", "warning")]
    assert [f"{finding.verdict.value} {finding.subject}" for finding in bad] == troubles
    assert all(finding.fix for finding in bad)
    assert len(found) == 4


@pytest.mark.parametrize(
    ("said", "release"),
    [
        pytest.param("35.4.1", (35, 4), id="a release"),
        pytest.param(None, (0, 0), id="none"),
        pytest.param("35", (0, 0), id="half of one"),
    ],
)
def test_release(said: str, release: object) -> None:
    assert l4t_release(Board(l4t=said)) == release
