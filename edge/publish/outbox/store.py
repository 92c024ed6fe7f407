"""The outbox's file; the only one that knows SQLite and its errors. Needs SQLite 3.24."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import AbstractSet, Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

from edge.errors import PublishError
from edge.publish.outbox import rows
from edge.publish.outbox.entry import Entry, Kind
from edge.publish.outbox.ledger import Batch, Head
from edge.publish.outbox.loss import Loss
from edge.publish.outbox.migrations import MIGRATIONS

# SQLite older than 3.32 takes at most 999 parameters.
_PARAMETERS = 500

_CACHE_KIB = 2_048
_WAL_BYTES = 4 << 20

# Pages that are given back to the file system at a time: more would make one commit long.
_VACUUM_PAGES = 256


class Trouble(str, Enum):
    """Why the disk does not take what it is given."""

    DISK_FULL = "disk_full"
    READ_ONLY = "read_only"
    DENIED = "denied"
    DAMAGED = "damaged"
    LOCKED = "locked"
    FAILED = "failed"


# SQLite's own words, which have been the same for ages; Python tells no code before 3.11.
_WORDS = (
    ("disk is full", Trouble.DISK_FULL),
    ("readonly", Trouble.READ_ONLY),
    ("unable to open", Trouble.DENIED),
    ("malformed", Trouble.DAMAGED),
    ("not a database", Trouble.DAMAGED),
    ("Could not decode", Trouble.DAMAGED),
    ("no such", Trouble.DAMAGED),
    ("already exists", Trouble.DAMAGED),
    ("constraint failed", Trouble.DAMAGED),
    ("unsupported file format", Trouble.DAMAGED),
    ("locked", Trouble.LOCKED),
)
_ERRNO = {
    errno.ENOSPC: Trouble.DISK_FULL,
    errno.EDQUOT: Trouble.DISK_FULL,
    errno.EFBIG: Trouble.DISK_FULL,
    errno.EROFS: Trouble.READ_ONLY,
    errno.EACCES: Trouble.DENIED,
    errno.EPERM: Trouble.DENIED,
}


class StoreError(PublishError):
    """The file could not be used; says why in words and as `trouble`."""

    def __init__(self, trouble: Trouble, reason: str) -> None:
        super().__init__(reason)
        self.trouble = trouble


class Loaded(NamedTuple):
    """Rows read; `damaged` are tickets of rows that are not what was written.

    `last` is the last ticket looked at, None where there are no more rows behind.
    """

    entries: List[Entry]
    damaged: List[int]
    last: Optional[int]


@contextmanager
def translated() -> Iterator[None]:
    """Turns what SQLite and the file system raise into StoreError."""
    try:
        yield
    except sqlite3.Error as exc:
        words = str(exc)
        trouble = next((kind for part, kind in _WORDS if part in words), Trouble.FAILED)
        raise StoreError(trouble, words) from exc
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise StoreError(_ERRNO.get(exc.errno or 0, Trouble.FAILED), reason) from exc
    except (ValueError, TypeError, OverflowError) as exc:  # a value no version ever wrote
        raise StoreError(Trouble.DAMAGED, f"holds a value that was never written: {exc}") from exc


class Store:
    """An open outbox file, for one thread. Every method raises StoreError.

    `run` numbers the runs that wrote to it; None takes the next. While it is open no other
    process can use it.
    """

    def __init__(self, path: Path, run: Optional[int]) -> None:
        self.path = path
        with translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            # What cameras saw is nobody else's business.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = _connect(path)
        try:
            with translated():
                self._prepare(run)
        except StoreError:
            self.close()
            raise

    def _prepare(self, run: Optional[int]) -> None:
        _set_up(self._db)
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreError(Trouble.DAMAGED, verdict)
        migrate(self._db, MIGRATIONS)
        numbers = dict(self._db.execute("SELECT name, value FROM number"))
        self.run = int(numbers.get("run", 0)) + 1 if run is None else run
        self.written = {kind: int(numbers.get(kind.value, 0)) for kind in Kind}
        last = self._db.execute("SELECT max(id) FROM entry").fetchone()[0]
        if run is None and last is not None:
            self.run = max(self.run, rows.run_of(last) + 1)
        self.last_ticket = 0 if last is None else rows.ticket_of(last, self.run)
        self.held = dict.fromkeys(Kind, 0)
        self.held_bytes = dict.fromkeys(Kind, 0)
        self._count(self._db.execute(f"{_COUNT} GROUP BY kind"), 1)
        with self._transaction():
            self._set_numbers()

    def close(self) -> None:
        """Closes the file; what was committed is in it."""
        with suppress(sqlite3.Error):  # what is to be closed has failed before, and said so
            self._db.close()

    def write(self, batch: Batch) -> None:
        """Does all of a batch or nothing; on return it is committed.

        Events have then reached the disk, detections the kernel.
        """
        with translated():
            level = "FULL" if batch.is_promise else "NORMAL"
            self._db.execute(f"PRAGMA synchronous={level}")
            before = (dict(self.written), dict(self.held), dict(self.held_bytes))
            try:
                with self._transaction():
                    self._insert(batch.inserts)
                    self._delete([rows.row_id(ticket, self.run) for ticket in batch.deletes])
                    self._set_losses(batch.losses)
                    self._set_numbers()
            except sqlite3.Error:
                self.written, self.held, self.held_bytes = before
                raise

    def load(self, after: int, limit: int) -> Loaded:
        """The next rows behind the ticket `after`."""
        with translated():
            found = self._db.execute(
                f"SELECT {rows.ENTRY_COLUMNS} FROM entry WHERE id > ? ORDER BY id LIMIT ?",
                (rows.row_id(after, self.run), limit),
            ).fetchall()
            loaded = Loaded([], [], None)
            for row in found:
                entry = rows.entry_of(row, self.run)
                if entry is None:
                    loaded.damaged.append(rows.ticket_of(row[0], self.run))
                else:
                    loaded.entries.append(entry)
            last = rows.ticket_of(found[-1][0], self.run) if len(found) == limit else None
            return loaded._replace(last=last)

    def heads(self, kind: Kind, limit: int) -> List[Head]:
        """The oldest rows of a kind."""
        with translated():
            found = self._db.execute(
                f"SELECT {rows.HEAD_COLUMNS} FROM entry WHERE kind = ? ORDER BY id LIMIT ?",
                (kind.value, limit),
            )
            return [rows.head_of(row, self.run) for row in found]

    def redate(self, boot_id: str, offset_ms: int) -> None:
        """Sets right the times of rows that this boot wrote before its clock was set."""
        with translated(), self._transaction():
            self._db.execute(
                "UPDATE entry SET shift_ms = shift_ms + monotonic_ns / 1000000 + ? - unix_ms,"
                " unix_ms = monotonic_ns / 1000000 + ?, clock_synced = 1"
                " WHERE clock_synced = 0 AND boot_id = ?",
                (offset_ms, offset_ms, boot_id),
            )

    def losses(self) -> List[Loss]:
        """What this file knows was lost."""
        with translated():
            return [
                rows.loss_of(row)
                for row in self._db.execute(f"SELECT {rows.LOSS_COLUMNS} FROM loss")
            ]

    def give_space_back(self) -> None:
        """Shortens the file, by a little at a time, where it is mostly empty."""
        with translated():
            (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
            (pages,) = self._db.execute("PRAGMA page_count").fetchone()
            if free > _VACUUM_PAGES and 2 * free > pages:
                # It frees a page for every step of the statement.
                self._db.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()

    def shorten_log(self) -> None:
        """Moves what the log holds into the file, and frees its space."""
        with translated():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def holds_only(self, tickets: AbstractSet[int]) -> bool:
        """Whether every row is one of these."""
        with translated():
            found = self._db.execute("SELECT id FROM entry")
            return all(rows.ticket_of(number, self.run) in tickets for (number,) in found)

    def discard(self) -> None:
        """Closes the file and removes it, which needs no space where deleting rows would."""
        self.close()
        with translated():
            _with_wal(self.path, lambda old, ending: os.unlink(old))

    def salvage(self, left: Sequence[Any], written: Dict[Kind, int]) -> Dict[Kind, int]:
        """Takes over what `rows_left` found of a lost file, and goes on counting at `written`.

        Gives how many of each kind were still what had been written.
        """
        entries = [entry for entry in (rows.entry_of(row, self.run) for row in left) if entry]
        self.write(Batch(entries, (), None))
        self.count_as_written(written)
        self.last_ticket = max((entry.ticket for entry in entries), default=0)
        return dict(self.held)

    def count_as_written(self, written: Dict[Kind, int]) -> None:
        """Goes on counting rows where a file before this one stopped."""
        self.written = dict(written)
        with translated(), self._transaction():
            self._set_numbers()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error:
            # A full disk may have rolled it back already.
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def _insert(self, entries: Sequence[Entry]) -> None:
        marks = ", ".join("?" * len(rows.ENTRY_COLUMNS.split(",")))
        self._db.executemany(
            f"INSERT OR IGNORE INTO entry ({rows.ENTRY_COLUMNS}) VALUES ({marks})",
            (rows.entry_row(entry, self.run) for entry in entries),
        )
        for entry in entries:
            self.written[entry.kind] += 1
            self.held[entry.kind] += 1
            self.held_bytes[entry.kind] += entry.size_bytes

    def _delete(self, ids: Sequence[int]) -> None:
        for start in range(0, len(ids), _PARAMETERS):
            some = ids[start : start + _PARAMETERS]
            where = f"WHERE id IN ({', '.join('?' * len(some))})"
            self._count(self._db.execute(f"{_COUNT} {where} GROUP BY kind", some), -1)
            self._db.execute(f"DELETE FROM entry {where}", some)

    def _count(self, found: Iterator[Any], sign: int) -> None:
        for name, count, size_bytes in found:
            self.held[Kind(name)] += sign * count
            self.held_bytes[Kind(name)] += sign * size_bytes

    def _set_losses(self, losses: Optional[Sequence[Loss]]) -> None:
        if losses is None:
            return
        self._db.execute("DELETE FROM loss")
        self._db.executemany(
            f"INSERT INTO loss ({rows.LOSS_COLUMNS}) VALUES (?, ?, ?)",
            map(rows.loss_row, losses),
        )

    def _set_numbers(self) -> None:
        numbers = {"run": self.run, **{kind.value: self.written[kind] for kind in Kind}}
        self._db.executemany(
            "INSERT INTO number (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            numbers.items(),
        )


_COUNT = "SELECT kind, count(*), sum(size_bytes) FROM entry"


def migrate(db: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> None:
    """Brings a file to the newest version, one version in one transaction.

    Raises StoreError for a file of a version newer than these migrations.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise StoreError(
            Trouble.DAMAGED, f"is of version {version}, newer than {len(migrations)} known here"
        )
    for number, statements in enumerate(migrations[version:], version + 1):
        db.execute("BEGIN IMMEDIATE")
        for statement in statements:
            db.execute(statement)
        db.execute(f"PRAGMA user_version={number}")
        db.execute("COMMIT")


def move_aside(path: Path, keep: int = 3) -> Path:
    """Renames a damaged file and what belongs to it to `.damaged-N`; raises StoreError.

    Only the newest `keep` stay, or a failing disk would fill itself.
    """
    with translated():
        numbers = sorted(
            int(suffix)
            for suffix in (other.name.rpartition("-")[2] for other in _damaged(path))
            if suffix.isdigit()
        )
        aside = path.with_name(f"{path.name}.damaged-{numbers[-1] + 1 if numbers else 1}")
        _with_wal(path, lambda old, ending: os.replace(old, f"{aside}{ending}"))
        for number in numbers[: max(0, len(numbers) + 1 - keep)]:
            old = path.with_name(f"{path.name}.damaged-{number}")
            _with_wal(old, lambda old, ending: os.unlink(old))
        return aside


def _damaged(path: Path) -> Iterator[Path]:
    return path.parent.glob(f"{path.name}.damaged-*")


def _with_wal(path: Path, act: Any) -> None:
    for ending in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            act(f"{path}{ending}", ending)


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are begun and ended by hand; the thread that opens it is the only one.
    return sqlite3.connect(str(path), timeout=1.0, isolation_level=None)


def _set_up(db: sqlite3.Connection) -> None:
    # Exclusive: no shared-memory file beside it, and no second process that takes the same.
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    db.execute("PRAGMA auto_vacuum=INCREMENTAL")
    db.execute("PRAGMA journal_mode=WAL").fetchone()
    db.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")
    db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")


def rows_left(damaged: Path) -> List[Any]:
    """Rows of a damaged file, from both ends up to where it cannot be read; never raises."""
    found: Dict[int, Any] = {}
    for order in ("", " DESC"):
        with suppress(sqlite3.Error), closing(_connect(damaged)) as db:
            cursor = db.execute(f"SELECT {rows.ENTRY_COLUMNS} FROM entry ORDER BY id{order}")
            for row in cursor:
                found.setdefault(row[0], row)
    return [found[number] for number in sorted(found)]


def next_run(left: Sequence[Any]) -> int:
    """A number above those of the runs that wrote these rows."""
    return max((rows.run_of(row[0]) for row in left), default=0) + 1
