"""Disks that are full, read-only, closed to us, or that lose what they were given."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from edge.clock import ManualClock
from edge.errors import PublishError
from edge.publish.outbox.age import Timekeeper
from edge.publish.outbox.entry import DropCause, Kind
from edge.publish.outbox.outbox import Outbox
from edge.publish.outbox.store import Store, Trouble, migrate
from tests.publish.outboxes import limits, take

COUNT = 600
CLOCK = ManualClock()


def open_outbox(path: Path, **settings: Any) -> Outbox:
    times = Timekeeper(CLOCK, "boot", lambda: True)
    return Outbox(path, limits(**settings), times, lambda name, error: None)


def put(outbox: Outbox, count: int, first: int = 0, size: int = 200) -> None:
    for number in range(first, first + count):
        outbox.put(Kind.EVENT, "t", str(number).ljust(size).encode())


def drain(outbox: Outbox) -> List[int]:
    numbers: List[int] = []
    idle_rounds = 0
    while idle_rounds < 2:  # one finds a file damaged, the next replaces it
        CLOCK.advance_ms(1_000)
        outbox.work()
        entries = take(outbox, 1_000)
        idle_rounds = 0 if entries else idle_rounds + 1
        numbers += [int(entry.payload) for entry in entries]
        for entry in entries:
            outbox.ack(entry.ticket)
    return numbers


def damaged(outbox: Outbox) -> int:
    return sum(loss.count for loss in outbox.losses() if loss.cause is DropCause.DAMAGED)


# --- files that were cut or overwritten ----------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a killed process leaves it: part in the file, part in the log before it."""
    folder = tmp_path_factory.mktemp("written")
    outbox = open_outbox(folder / "live" / "outbox.db")
    put(outbox, COUNT // 2)
    outbox.finish()
    outbox = open_outbox(folder / "live" / "outbox.db")
    for first in range(COUNT // 2, COUNT, 20):
        put(outbox, 20, first)
        CLOCK.advance_ms(1_000)
        outbox.work()
    shutil.copytree(folder / "live", folder / "killed")
    outbox.finish()
    assert (folder / "killed" / "outbox.db-wal").stat().st_size > 50_000
    return folder / "killed"


@pytest.mark.parametrize("name", ["outbox.db", "outbox.db-wal"])
def test_cut_at_any_byte(written: Path, tmp_path: Path, name: str) -> None:
    rng = random.Random(3)
    size = (written / name).stat().st_size
    cuts = [0, 1, 32, 100, 4_096, size - 1, *(rng.randrange(size) for _ in range(24))]
    for number, cut in enumerate(cuts):
        folder = tmp_path / str(number)
        shutil.copytree(written, folder)
        os.truncate(folder / name, cut)
        outbox = open_outbox(folder / "outbox.db")
        got = drain(outbox)
        assert got == sorted(set(got))
        assert len(got) + damaged(outbox) == COUNT, f"{name} cut at {cut}"
        put(outbox, 1, first=COUNT)
        assert drain(outbox) == [COUNT]
        outbox.finish()


@pytest.mark.parametrize("name", ["outbox.db", "outbox.db-wal", "outbox.db.tally"])
def test_overwritten_anywhere(written: Path, tmp_path: Path, name: str) -> None:
    rng = random.Random(4)
    size = (written / name).stat().st_size
    for number in range(20):
        folder = tmp_path / str(number)
        shutil.copytree(written, folder)
        with (folder / name).open("r+b") as file:
            file.seek(rng.randrange(size))
            file.write(rng.getrandbits(8 * 100).to_bytes(100, "little"))
        outbox = open_outbox(folder / "outbox.db")
        got = drain(outbox)
        assert got == sorted(set(got))
        assert len(got) + damaged(outbox) >= COUNT
        put(outbox, 1, first=COUNT)
        assert drain(outbox) == [COUNT]
        outbox.finish()


def test_damaged_while_in_use(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = open_outbox(path, memory_mb=16)
    put(outbox, 3_000, size=3_000)
    outbox.finish()
    outbox = open_outbox(path)
    outbox.work()
    put(outbox, 5, first=3_000)
    with path.open("r+b") as file:
        file.seek(3_000_000)
        file.write(b"\xff" * 500_000)
    got = drain(outbox)
    assert len(set(got)) == len(got)
    assert 1_000 < len(got) < 3_000
    assert {0, 2_999, *range(3_000, 3_005)} <= set(got)
    assert len(got) + damaged(outbox) >= 3_005
    assert outbox.status().troubles["damaged"] == 1
    assert outbox.status().trouble == ""
    outbox.finish()
    assert (tmp_path / "outbox.db.damaged-1").exists()


def test_no_database_at_all_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(b"something else" * 1_000)
    outbox = open_outbox(path)
    put(outbox, 1)
    outbox.finish()
    assert (tmp_path / "outbox.db.damaged-1").read_bytes() == b"something else" * 1_000
    assert outbox.status().troubles["damaged"] == 1
    again = open_outbox(path)
    assert drain(again) == [0]
    (loss,) = again.losses()
    assert (loss.cause, loss.kind, loss.count) == (DropCause.DAMAGED, None, 1)
    again.finish()


def test_only_the_newest_damaged_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    for _ in range(5):
        path.write_bytes(b"something else" * 1_000)
        outbox = open_outbox(path)
        outbox.finish()
    names = sorted(other.name[-1] for other in tmp_path.glob("*.damaged-?"))
    assert names == ["3", "4", "5"]


def test_a_file_of_a_newer_version_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    Store(path, None).close()
    with sqlite3.connect(str(path)) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    outbox = open_outbox(path)
    put(outbox, 1)
    outbox.finish()
    assert outbox.status().queued == 1
    assert (tmp_path / "outbox.db.damaged-1").exists()


def test_migrations_run_once_and_in_order() -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    first = ["CREATE TABLE a (x)", "INSERT INTO a VALUES (1)"]
    migrate(db, [first])
    migrate(db, [first, ["INSERT INTO a VALUES (2)"]])
    migrate(db, [first, ["INSERT INTO a VALUES (2)"]])
    assert db.execute("SELECT x FROM a").fetchall() == [(1,), (2,)]
    with pytest.raises(PublishError, match="of version 2, newer than 1"):
        migrate(db, [first])
    db.close()


# --- disks that take nothing ---------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "outbox", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_full_disk(small_disk: Path) -> None:
    outbox = open_outbox(small_disk / "outbox.db")
    for first in range(0, 4_000, 100):
        put(outbox, 100, first)
        CLOCK.advance_ms(1_000)
        outbox.work()
    status = outbox.status()
    assert status.trouble.startswith("database or disk is full; free some space")
    assert status.troubles["disk_full"] > 0
    assert 0 < status.committed < 4_000
    assert status.in_memory == 4_000 - status.committed
    assert drain(outbox) == list(range(4_000))
    put(outbox, 1)
    # How many rounds it takes is the file system's affair: it frees pages when it likes.
    for _ in range(10):
        CLOCK.advance_ms(60_000)
        outbox.work()
    assert outbox.status().trouble == ""
    assert outbox.losses() == []
    outbox.finish()


def test_file_that_may_not_grow(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    outbox = open_outbox(tmp_path / "outbox.db")
    outbox.work()
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        put(outbox, 2_000)
        CLOCK.advance_ms(1_000)
        outbox.work()
        assert outbox.status().in_memory == 2_000
        assert sum(outbox.status().troubles.values()) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    CLOCK.advance_ms(60_000)
    outbox.work()
    assert (outbox.status().trouble, outbox.status().in_memory) == ("", 0)
    assert drain(outbox) == list(range(2_000))
    outbox.finish()


def test_read_only_disk(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    outbox = open_outbox(small_disk / "outbox.db")
    put(outbox, 3)
    outbox.work()
    assert outbox.status().troubles["read_only"] == 1
    assert "make it writable" in outbox.status().trouble
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    CLOCK.advance_ms(60_000)
    outbox.work()
    assert (outbox.status().trouble, outbox.status().in_memory) == ("", 0)
    outbox.finish()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")
def test_closed_folder(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    before = open_outbox(path)
    put(before, 3)
    before.finish()
    os.seteuid(65_534)
    try:
        outbox = open_outbox(path)
        put(outbox, 3, first=3)
        outbox.work()
    finally:
        os.seteuid(0)
    assert outbox.status().troubles["denied"] == 1
    assert "let this user write there" in outbox.status().trouble
    assert [int(entry.payload) for entry in take(outbox, 1)] == [3]
    CLOCK.advance_ms(60_000)
    outbox.work()
    assert outbox.status().trouble == ""
    assert drain(outbox) == [0, 1, 2, 4, 5]
    outbox.finish()


def test_what_no_disk_took_is_counted_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    outbox = open_outbox(tmp_path / "file" / "outbox.db")
    put(outbox, 3)
    outbox.finish()
    assert not outbox.stop(0)
    assert [(loss.cause, loss.count) for loss in outbox.losses()] == [(DropCause.STOPPED, 3)]


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    store = Store(tmp_path / "outbox.db", None)
    with pytest.raises(PublishError) as raised:
        Store(tmp_path / "outbox.db", None)
    assert getattr(raised.value, "trouble", None) is Trouble.LOCKED
    store.close()
