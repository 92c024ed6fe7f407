"""Moves entries between memory and the disk, and goes on in memory while the disk fails."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from pathlib import Path
from typing import Callable, Dict, List, Optional

from edge.backoff import Backoff
from edge.clock import NS_PER_S
from edge.publish.outbox.age import Stamp, Timekeeper, wall_offset_ms
from edge.publish.outbox.entry import DropCause, Kind, Limits
from edge.publish.outbox.ledger import BATCH_ENTRIES, Ledger
from edge.publish.outbox.store import (
    Store,
    StoreError,
    Trouble,
    move_aside,
    next_run,
    rows_left,
)
from edge.publish.outbox.tally import Tally

log = logging.getLogger(__name__)

OnCommitted = Callable[[List[int]], None]
"""Is told the tickets that are on the disk now; on the writer's thread."""

_UPKEEP_NS = 10 * NS_PER_S

# Longer than a worn card takes to check the largest file; a network drive may hang for ever.
_HANGS_NS = 10 * NS_PER_S
_SYNC_CHECK_NS = NS_PER_S
_HEADS = 500

# With these a file that is open can still be read, and so be drained.
_READABLE = frozenset({Trouble.DISK_FULL, Trouble.READ_ONLY})

_TO_DO = {
    Trouble.DISK_FULL: "free some space",
    Trouble.READ_ONLY: "make it writable",
    Trouble.DENIED: "let this user write there",
    Trouble.DAMAGED: "it will be moved aside",
    Trouble.LOCKED: "stop the other process that uses it",
    Trouble.FAILED: "check the disk",
}


class Writer:
    """What the outbox does on its own thread; nobody else waits for the disk.

    `lock` guards `ledger`; it is never held while the disk is used.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits,
        ledger: Ledger,
        lock: threading.Lock,
        times: Timekeeper,
        committed: Optional[OnCommitted],
    ) -> None:
        self._path = path
        self._limits = limits
        self._ledger = ledger
        self._lock = lock
        self._times = times
        self._committed = committed
        self._tally = Tally(path.with_name(f"{path.name}.tally"))
        self._store: Optional[Store] = None
        self._run: Optional[int] = None
        self._is_damaged = False
        self._is_full = False
        self._backoff = Backoff(random.Random())
        self._retry_ns: Optional[int] = None
        self._upkeep_ns = 0
        self._sync_check_ns = 0
        self._busy_since_ns: Optional[int] = None
        now = times.now()
        self._offset_ms = wall_offset_ms(now) if now.is_synced else None
        self.trouble = ""
        self.troubles: Dict[Trouble, int] = dict.fromkeys(Trouble, 0)
        self.committed_count = 0
        self.rows = 0
        self.disk_bytes = 0

    def step(self, *, is_final: bool = False) -> None:
        """Does what is due; `is_final` writes all there is, whether or not it is due."""
        now = self._times.now()
        self._busy_since_ns = now.monotonic_ns
        self._check_clock(now)
        self._work(now, is_final=is_final)
        self._busy_since_ns = None

    def hangs(self, now_ns: int) -> bool:
        """Whether the disk has not answered for so long that nobody should wait for it."""
        since_ns = self._busy_since_ns
        return since_ns is not None and now_ns - since_ns > _HANGS_NS

    def _work(self, now: Stamp, *, is_final: bool) -> None:
        is_time = is_final or self._retry_ns is None or now.monotonic_ns >= self._retry_ns
        try:
            store = self._store or (self._open(now) if is_time else None)
            if store is None:
                return
            if is_time:
                self._write(self._with_space(store), now, is_final=is_final)
        except StoreError as error:
            self._failed(error, now)
        try:
            if self._store is not None:
                self._read_ahead(self._store, now)
        except StoreError as error:
            self._failed(error, now)

    def pause_s(self) -> float:
        """How long nothing will be due, at most a second."""
        now_ns = self._times.now().monotonic_ns
        with self._lock:
            due_ns = self._ledger.due_ns()
        if self._retry_ns is not None:
            due_ns = self._retry_ns
        if due_ns is None:
            return 1.0
        return min(max((due_ns - now_ns) / NS_PER_S, 0.001), 1.0)

    def close(self) -> None:
        """Closes the file."""
        if self._store is not None:
            self._store.close()
            self._store = None

    # --- opening -----------------------------------------------------------------------------

    def _open(self, now: Stamp) -> Store:
        try:
            if self._is_damaged:
                raise StoreError(Trouble.DAMAGED, "was found damaged while in use")
            store = Store(self._path, self._run)
            self._count_rolled_back(store, now)
        except StoreError as error:
            if error.trouble is not Trouble.DAMAGED:
                raise
            store = self._replace(error, now)
        if self._run is None:
            self._add_losses(store)
        self._run = store.run
        self._store = store
        self._upkeep_ns = 0
        with self._lock:
            self._ledger.disk_opened(store.last_ticket)
        self._note(store)
        return store

    def _replace(self, error: StoreError, now: Stamp) -> Store:
        if not self._is_damaged:
            self.troubles[Trouble.DAMAGED] += 1
        held = self._tally.held()
        aside = move_aside(self._path)
        self._is_damaged = False
        left = rows_left(aside)
        store = Store(self._path, self._run or next_run(left))
        try:
            saved = store.salvage(left, self._tally.written())
        except StoreError:
            store.close()
            raise
        log.error(
            "outbox %s: %s; moved to %s, %d messages saved",
            self._path, error, aside, sum(saved.values()),
        )  # fmt: skip
        with self._lock:
            if held is None:
                self._ledger.add_loss(None, DropCause.DAMAGED, now)
                return store
            for kind, count in held.items():
                self._count_damaged(kind, count - saved[kind], now)
        return store

    def _count_rolled_back(self, store: Store, now: Stamp) -> None:
        lost = self._tally.lost(store.written)
        if lost is None or not any(lost.values()):
            return
        log.error("outbox %s: the disk lost up to %d messages", self._path, sum(lost.values()))
        with self._lock:
            for kind, count in lost.items():
                self._count_damaged(kind, count, now)

    def _count_damaged(self, kind: Kind, count: int, now: Stamp) -> None:
        if count > 0:
            self._ledger.add_loss(kind, DropCause.DAMAGED, now, count)

    def _add_losses(self, store: Store) -> None:
        losses = store.losses()
        with self._lock:
            self._ledger.losses.recall(losses)

    def _failed(self, error: StoreError, now: Stamp) -> None:
        self.troubles[error.trouble] += 1
        reason = f"{error}; {_TO_DO[error.trouble]}"
        if reason != self.trouble:
            log.warning("outbox %s: %s; keeping messages in memory", self._path, reason)
        self.trouble = reason
        self._is_full = error.trouble is Trouble.DISK_FULL
        self._retry_ns = now.monotonic_ns + int(self._backoff.next_s() * NS_PER_S)
        if self._store is not None and error.trouble in _READABLE:
            return
        self.close()
        self._is_damaged = error.trouble is Trouble.DAMAGED
        if self._is_damaged:
            self._retry_ns = now.monotonic_ns
        with self._lock:
            self._ledger.disk_absent()

    def _recovered(self) -> None:
        if self.trouble:
            log.info("outbox %s: writing to the disk again", self._path)
        self.trouble = ""
        self._retry_ns = None
        self._backoff.reset()

    def _with_space(self, store: Store) -> Store:
        """The store; where the disk is full and all it holds is done with, a new one."""
        if not self._is_full:
            return store
        self._is_full = False
        with self._lock:
            done = self._ledger.done_on_disk
        if not done or not store.holds_only(done):
            with contextlib.suppress(StoreError):  # it may need the space that is not there
                store.shorten_log()
            return store
        written = store.written
        self.close()
        store.discard()
        store = Store(self._path, self._run)
        self._store = store
        store.count_as_written(written)
        with self._lock:
            self._ledger.disk_emptied(done)
        self._note(store)
        return store

    # --- writing -----------------------------------------------------------------------------

    def _write(self, store: Store, now: Stamp, *, is_final: bool) -> None:
        self._redate(store, now)
        with self._lock:
            due_ns = self._ledger.due_ns()
        if is_final or (due_ns is not None and due_ns <= now.monotonic_ns):
            self._commit_all(store)
            self._trim(store, now)
        elif self.trouble:
            self._commit(store)
        if now.monotonic_ns >= self._upkeep_ns or is_final:
            self._expire(store, now)
            self._trim(store, now)
            store.give_space_back()
            self._upkeep_ns = now.monotonic_ns + _UPKEEP_NS
        self._recovered()

    def _redate(self, store: Store, now: Stamp) -> None:
        if self._offset_ms is not None:
            store.redate(now.boot_id, self._offset_ms)
            self._offset_ms = None

    def _commit_all(self, store: Store) -> None:
        while self._commit(store) >= BATCH_ENTRIES:
            pass

    def _commit(self, store: Store) -> int:
        """One transaction; gives how much it was of what a transaction can be."""
        with self._lock:
            batch = self._ledger.batch()
        try:
            store.write(batch)
        except StoreError:
            with self._lock:
                self._ledger.not_written(batch)
            raise
        with self._lock:
            tickets = self._ledger.written(batch)
        self._note(store)
        self.committed_count += len(tickets)
        if self._committed is not None and tickets:
            self._committed(tickets)
        return max(len(tickets), len(batch.deletes))

    def _note(self, store: Store) -> None:
        self.rows = sum(store.held.values())
        self.disk_bytes = sum(store.held_bytes.values())
        # Without it a damaged file says less of what it lost; that is all.
        with contextlib.suppress(OSError):
            self._tally.write(store.written, store.held)

    def _trim(self, store: Store, now: Stamp) -> None:
        if self.disk_bytes <= self._limits.max_bytes:
            return
        self._commit_all(store)
        for kind in Kind:
            condemned = True
            while condemned and self.disk_bytes > self._limits.max_bytes:
                heads = store.heads(kind, _HEADS + self._limits.in_flight)
                with self._lock:
                    excess_bytes = self.disk_bytes - self._limits.max_bytes
                    condemned = self._ledger.condemn_excess(heads, excess_bytes, now)
                if condemned:
                    self._commit_all(store)

    def _expire(self, store: Store, now: Stamp) -> None:
        for kind in Kind:
            condemned = True
            while condemned:
                heads = store.heads(kind, _HEADS + self._limits.in_flight)
                with self._lock:
                    condemned = self._ledger.condemn_expired(heads, now)
                if condemned:
                    self._commit_all(store)

    # --- reading -----------------------------------------------------------------------------

    def _read_ahead(self, store: Store, now: Stamp) -> None:
        while True:
            with self._lock:
                wanted, after = self._ledger.wanted_rows(), self._ledger.loaded_to
            if wanted == 0:
                return
            loaded = store.load(after, wanted)
            with self._lock:
                self._ledger.loaded(loaded.entries, loaded.last)
                self._ledger.condemn_damaged(loaded.damaged, now)

    def _check_clock(self, now: Stamp) -> None:
        if now.monotonic_ns < self._sync_check_ns:
            return
        self._sync_check_ns = now.monotonic_ns + _SYNC_CHECK_NS
        if self._times.refresh():
            offset_ms = wall_offset_ms(self._times.now())
            with self._lock:
                self._ledger.redate(now.boot_id, offset_ms)
            self._offset_ms = offset_ms
