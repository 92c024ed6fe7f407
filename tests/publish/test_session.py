from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.publish.session import next_session

UNIX_S = 1_795_351_830


def test_counts_from_one_and_survives(tmp_path: Path) -> None:
    state_dir = tmp_path / "not" / "yet"
    assert [next_session(state_dir, UNIX_S) for _ in range(3)] == [1, 2, 3]
    assert os.listdir(state_dir) == ["session"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty: power was cut"),
        pytest.param(b"seventeen\n", id="words"),
        pytest.param(b"-4\n", id="negative"),
        pytest.param(b"\xff\xfe", id="not text"),
        pytest.param(b"9007199254740992\n", id="too large for JSON"),
        pytest.param(b"9" * 5000, id="too large for anything"),
    ],
)
def test_garbled_falls_back_to_the_clock_and_counts_on(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "session").write_bytes(content)
    assert next_session(tmp_path, UNIX_S) == UNIX_S
    assert str(tmp_path / "session") in caplog.text
    assert next_session(tmp_path, UNIX_S - 100) == UNIX_S + 1


def test_unreadable_falls_back_to_the_clock(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "session").mkdir()
    assert next_session(tmp_path, UNIX_S) == UNIX_S
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param(UNIX_S - 1, UNIX_S, id="the clock is ahead"),
        pytest.param(UNIX_S, UNIX_S + 1, id="the counter is ahead"),
    ],
)
def test_unwritable_never_goes_backwards(stored: int, expected: int, tmp_path: Path) -> None:
    (tmp_path / "session").write_text(str(stored))
    # A folder where the temporary file should go stops also the superuser.
    (tmp_path / f"session.{os.getpid()}.tmp").mkdir()
    assert next_session(tmp_path, UNIX_S) == expected


def test_state_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert next_session(tmp_path / "file", UNIX_S) == UNIX_S
