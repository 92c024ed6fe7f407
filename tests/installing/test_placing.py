from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Dict, List

import pytest

from edge.errors import ConfigError
from edge.installing.pieces import Flavour, Piece, pieces
from edge.installing.placing import RECORD, Deed, Placement

UNIT = Piece(Path("etc/systemd/system/a.service"), b"[Unit]\n")
CONFIG = Piece(Path("etc/a/config.yaml"), b"a: 1\n", 0o640, is_users=True)


def install(root: Path, *wanted: Piece, is_dry: bool = False) -> List[Deed]:
    return [step.deed for step in Placement(root).install(wanted, is_dry=is_dry)]


def undo(root: Path, *, is_dry: bool = False) -> Dict[str, Deed]:
    return {str(step.path): step.deed for step in Placement(root).undo(is_dry=is_dry)}


def tree(root: Path) -> Dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else b"a folder"
        for path in root.rglob("*")
    }


def test_files_are_put_with_their_modes(tmp_path: Path) -> None:
    assert install(tmp_path, UNIT, CONFIG) == [Deed.PUT, Deed.PUT]
    assert (tmp_path / UNIT.path).read_bytes() == UNIT.content
    assert (tmp_path / UNIT.path).stat().st_mode & 0o777 == 0o644
    assert (tmp_path / CONFIG.path).stat().st_mode & 0o777 == 0o640


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    install(tmp_path, UNIT, CONFIG)
    before = tree(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert install(tmp_path, UNIT, CONFIG) == [Deed.AS_IT_IS, Deed.KEPT]
    assert tree(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times


def test_undone_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    before = tree(tmp_path)
    install(tmp_path, UNIT, CONFIG)
    assert set(undo(tmp_path).values()) == {Deed.REMOVED}
    assert tree(tmp_path) == before
    assert undo(tmp_path) == {}


def test_folders_that_were_there_or_hold_more_stay(tmp_path: Path) -> None:
    install(tmp_path, UNIT, CONFIG)
    (tmp_path / "etc/a/mine.yaml").write_text("b: 2\n")
    undo(tmp_path)
    assert (tmp_path / "etc/a/mine.yaml").exists()
    assert not (tmp_path / "etc/systemd").exists()


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path: Path) -> None:
    assert install(tmp_path, UNIT, CONFIG, is_dry=True) == [Deed.PUT, Deed.PUT]
    assert tree(tmp_path) == {}
    install(tmp_path, UNIT, CONFIG)
    before = tree(tmp_path)
    assert set(undo(tmp_path, is_dry=True).values()) == {Deed.REMOVED}
    assert tree(tmp_path) == before


def test_a_newer_one_takes_the_place_of_ours(tmp_path: Path) -> None:
    install(tmp_path, UNIT)
    newer = Piece(UNIT.path, b"[Unit]\nDescription=newer\n")
    assert install(tmp_path, newer) == [Deed.REPLACED]
    assert (tmp_path / UNIT.path).read_bytes() == newer.content
    assert undo(tmp_path) == {f"/{UNIT.path}": Deed.REMOVED}


def test_what_was_there_before_comes_back(tmp_path: Path) -> None:
    path = tmp_path / UNIT.path
    path.parent.mkdir(parents=True)
    path.write_text("somebody's")
    assert install(tmp_path, UNIT) == [Deed.SET_ASIDE]
    assert install(tmp_path, Piece(UNIT.path, b"newer")) == [Deed.REPLACED]
    assert undo(tmp_path) == {f"/{UNIT.path}": Deed.RESTORED}
    assert path.read_text() == "somebody's"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("piece", [UNIT, CONFIG])
def test_what_was_changed_by_hand_is_nobodys_to_take(piece: Piece, tmp_path: Path) -> None:
    install(tmp_path, piece)
    path = tmp_path / piece.path
    path.write_text("mine now")
    expected = Deed.KEPT if piece.is_users else Deed.CHANGED
    assert install(tmp_path, Piece(piece.path, b"newer", 0o644, piece.is_users)) == [expected]
    assert undo(tmp_path) == {f"/{piece.path}": Deed.LEFT}
    assert path.read_text() == "mine now"


def test_what_is_gone_already_is_said(tmp_path: Path) -> None:
    install(tmp_path, UNIT, CONFIG)
    (tmp_path / UNIT.path).unlink()
    assert undo(tmp_path)[f"/{UNIT.path}"] is Deed.GONE


def test_a_users_file_that_was_there_is_not_undone(tmp_path: Path) -> None:
    path = tmp_path / CONFIG.path
    path.parent.mkdir(parents=True)
    path.write_bytes(CONFIG.content)
    assert install(tmp_path, UNIT, CONFIG) == [Deed.PUT, Deed.KEPT]
    undo(tmp_path)
    assert path.exists()


@pytest.mark.parametrize("files_placed", range(3))
def test_what_a_power_cut_left_can_be_undone(files_placed: int, tmp_path: Path) -> None:
    path = tmp_path / UNIT.path
    path.parent.mkdir(parents=True)
    path.write_text("somebody's")
    before = tree(tmp_path)
    steps = Placement(tmp_path).install([UNIT, CONFIG], is_dry=False)
    for _ in range(files_placed):
        next(steps)
    undo(tmp_path)
    assert tree(tmp_path) == before


def test_an_update_that_a_power_cut_ended_is_resumed(tmp_path: Path) -> None:
    install(tmp_path, UNIT)
    newer = Piece(UNIT.path, b"newer")
    next(Placement(tmp_path).install([CONFIG, newer], is_dry=False))
    assert (tmp_path / UNIT.path).read_bytes() == UNIT.content
    assert install(tmp_path, CONFIG, newer) == [Deed.KEPT, Deed.REPLACED]
    assert set(undo(tmp_path).values()) == {Deed.REMOVED}


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"files": 3, "folders": []}'])
def test_a_damaged_record_is_named(record: str, tmp_path: Path) -> None:
    path = tmp_path / RECORD
    path.parent.mkdir(parents=True)
    path.write_text(record)
    with pytest.raises(ConfigError, match="is damaged"):
        Placement(tmp_path)


@pytest.mark.parametrize("flavour", Flavour)
def test_a_whole_installation_comes_and_goes(flavour: Flavour, tmp_path: Path) -> None:
    wanted = pieces(flavour, [])
    assert install(tmp_path, *wanted) == [Deed.PUT] * len(wanted)
    assert (tmp_path / f"etc/systemd/system/{flavour.value}.service").exists()
    launcher = tmp_path / "usr/local/lib/edge/launch_container.py"
    assert os.access(launcher, os.X_OK) == (flavour is Flavour.CONTAINER)
    command = tmp_path / "usr/local/sbin/edge"
    assert os.access(command, os.X_OK)
    subprocess.run(["sh", "-n", str(command)], check=True)
    undo(tmp_path)
    assert tree(tmp_path) == {}
