from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.atomic_file import replace_text


def test_makes_the_folder_and_replaces_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    replace_text(path, "one")
    replace_text(path, "zwei ü")
    assert path.read_text(encoding="utf-8") == "zwei ü"
    assert os.listdir(path.parent) == ["file"]


def test_a_failure_leaves_the_old_text_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        replace_text(tmp_path / "folder", "text")
    assert os.listdir(tmp_path) == ["folder"]


def test_a_folder_that_cannot_be_made_is_the_callers_to_explain(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        replace_text(tmp_path / "file" / "text", "text")
