"""The disk, the calibration images, the engines that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import pytest

from edge.building.engine_store import EngineStore
from edge.config.schema import Precision
from edge.doctor.finding import Finding
from edge.doctor.storage import (
    Calibration,
    Disk,
    KeptEngine,
    judge_calibration,
    judge_disk,
    judge_engines,
    look_at_calibration,
    look_at_disk,
    look_at_engines,
)
from tests.building.test_fingerprint import INT8

MB = 2**20
HERE = Path("/var/lib/edge")
DISKS: Dict[str, Any] = {
    "room": (Disk(HERE, 2048 * MB), "ok"),
    "tight": (Disk(HERE, 2048 * MB - 1), "warning"),
    "just enough": (Disk(HERE, 256 * MB), "warning"),
    "too little": (Disk(HERE, 256 * MB - 1), "fault"),
    "files enough": (Disk(HERE, 4096 * MB, 1000), "ok"),
    "no more files": (Disk(HERE, 4096 * MB, 999), "fault"),
    "not writable": (Disk(HERE, trouble="not writable: Permission denied"), "fault"),
}


@pytest.mark.parametrize(("disk", "verdict"), DISKS.values(), ids=DISKS)
def test_disk(disk: Disk, verdict: str) -> None:
    (found,) = judge_disk(disk)
    assert found.verdict.value == verdict
    assert bool(found.fix) == (verdict != "ok")


def test_a_folder_that_is_not_made_yet_has_the_room_of_those_above(tmp_path: Path) -> None:
    disk = look_at_disk(tmp_path / "not" / "yet")
    assert disk.folder == tmp_path
    assert disk.free_bytes > 0
    assert not disk.trouble
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_file() -> None:
    disk = look_at_disk(Path("/proc/self"))
    assert disk.trouble.startswith("not writable: ")


IMAGES = {
    "none where the folder is not": (
        Calibration(0, 10, 500, "calibration.folder: /x does not exist; correct the path"),
        "fault",
        "correct the path",
    ),
    "too few": (Calibration(9, 10, 500), "fault", "edge calibrate --collect"),
    "few": (Calibration(10, 10, 500), "warning", "edge calibrate --collect"),
    "nearly": (Calibration(499, 10, 500), "warning", "edge calibrate --collect"),
    "enough": (Calibration(500, 10, 500), "ok", ""),
}


@pytest.mark.parametrize(("found", "verdict", "fix"), IMAGES.values(), ids=IMAGES)
def test_calibration(found: Calibration, verdict: str, fix: str) -> None:
    (finding,) = judge_calibration(found, HERE)
    assert (finding.verdict.value, finding.fix) == (verdict, fix)


def test_calibration_images_are_counted(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"")
    (tmp_path / "note.txt").write_text("no image")
    assert look_at_calibration(tmp_path).images == 3
    assert "does not exist" in look_at_calibration(tmp_path / "absent").trouble


FP16 = INT8.model_copy(update={"precision": Precision.FP16, "calibration": None})
WHEN = "2026-11-22T12:00:00Z"


def engines(state_dir: Path, *versions: str) -> List[Finding]:
    return list(judge_engines(look_at_engines(state_dir), versions))


def test_no_engine_is_no_trouble(tmp_path: Path) -> None:
    (found,) = engines(tmp_path, "8.5.2.2")
    assert found.verdict.value == "not here"


def test_an_engine_that_is_kept(tmp_path: Path) -> None:
    EngineStore(tmp_path / "engines").save(FP16, WHEN, b"plan")
    (found,) = engines(tmp_path, "8.5.2.2")
    assert found.verdict.value == "ok"
    assert found.words == "tensorrt-fp16 of 2026-11-22, version 8.5.2.2"
    (found,) = engines(tmp_path, "10.3.0", "")
    assert found.verdict.value == "warning"
    assert "not here any more" in found.words


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(lambda f: f.unlink(), "No such file or directory", id="gone"),
        pytest.param(lambda f: f.write_bytes(b"p"), "has 1 of 4 bytes", id="cut short"),
    ],
)
def test_an_engine_that_is_damaged(tmp_path: Path, damage: Any, words: str) -> None:
    EngineStore(tmp_path / "engines").save(FP16, WHEN, b"plan")
    (file,) = (tmp_path / "engines").glob("*.engine")
    damage(file)
    (found,) = engines(tmp_path, "8.5.2.2")
    assert found.verdict.value == "warning"
    assert words in found.words


def test_a_manifest_that_is_damaged(tmp_path: Path) -> None:
    EngineStore(tmp_path / "engines").save(FP16, WHEN, b"plan")
    (tmp_path / "engines/tensorrt-fp16.json").write_text("{")
    (found,) = engines(tmp_path, "8.5.2.2")
    assert found.words.startswith("tensorrt-fp16: its manifest is damaged: ")


def test_an_engine_that_the_gate_refused(tmp_path: Path) -> None:
    EngineStore(tmp_path / "engines").save(INT8, WHEN, None)
    (found,) = engines(tmp_path, "8.5.2.2")
    assert (
        found.words == "tensorrt-int8 of 2026-11-22: the gate refused it; the float engine serves"
    )
    assert look_at_engines(tmp_path)[0] == KeptEngine("tensorrt-int8", "8.5.2.2", WHEN, True)
