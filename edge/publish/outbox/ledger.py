"""Which entries are where, which go next, and which make room; knows neither disk nor broker."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from heapq import merge
from itertools import islice
from typing import (
    AbstractSet,
    Callable,
    Dict,
    Iterable,
    List,
    MutableMapping,
    Optional,
    Sequence,
    Set,
)

from edge.clock import NS_PER_S
from edge.publish.outbox.age import Stamp, age_ns, redated
from edge.publish.outbox.entry import DropCause, Entry, Kind, Limits
from edge.publish.outbox.loss import Loss, LossBook

# Tickets of this run are above those of every run before, whose number on the disk this run may
# not know yet.
FIRST_TICKET = 1 << 62

# Read ahead from the disk, so that taking does not wait for it.
READY_ENTRIES = 256
READY_BYTES = 1 << 20

# What goes out within this time has not been late.
LIVE_NS = NS_PER_S

# In one transaction: under the lock they are only copied, which takes under a millisecond.
BATCH_ENTRIES = 500

_Entries = MutableMapping[int, Entry]


@dataclass(frozen=True)
class Head:
    """A row on the disk without its content."""

    ticket: int
    kind: Kind
    size_bytes: int
    stamp: Stamp


@dataclass(frozen=True)
class Batch:
    """One transaction."""

    inserts: Sequence[Entry]
    deletes: Sequence[int]
    losses: Optional[Sequence[Loss]]

    @property
    def is_promise(self) -> bool:
        """Whether its commit must reach the disk itself."""
        return any(entry.kind.is_promise for entry in self.inserts)


class Ledger:
    """The outbox in memory. An entry is `waiting` until it is on the disk, `ready` when it can go.

    Entries go out by ticket, so each camera's stay in order. What has been handed out is only
    known here: a restart hands it out again, and the flash is spared a write for every message.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._next_ticket = FIRST_TICKET
        # OrderedDict: to take the first of a dict again and again is quadratic.
        self._waiting: Dict[Kind, _Entries] = {kind: OrderedDict() for kind in Kind}
        # Of the waiting, those nobody has taken.
        self._unhanded: Dict[Kind, _Entries] = {kind: OrderedDict() for kind in Kind}
        self._waiting_bytes = 0
        self._ready: _Entries = OrderedDict()  # of those on the disk, what is loaded
        self._ready_bytes = 0
        self._returned: Dict[int, Entry] = {}
        self._handed: Dict[int, Entry] = {}
        self._writing: Set[int] = set()
        self._to_delete: MutableMapping[int, int] = OrderedDict()  # ticket -> done with when
        self._loaded_to = 0
        self._last_on_disk = 0
        self._is_disk_known = False
        self._must_wait_for_disk = True
        self._redate: Optional[Callable[[Stamp], Stamp]] = None
        self.losses = LossBook()
        self._losses_ns: Optional[int] = None

    # --- for who puts and who takes ----------------------------------------------------------

    def put(self, entry: Entry) -> Optional[int]:
        """Accepts an entry, whose ticket is given here; None if it was counted as lost."""
        if entry.size_bytes > min(self._limits.memory_bytes, self._limits.max_bytes):
            self.add_loss(entry.kind, DropCause.TOO_LARGE, entry.stamp)
            return None
        entry = replace(entry, ticket=self._next_ticket)
        self._next_ticket += 1
        self._waiting[entry.kind][entry.ticket] = entry
        self._unhanded[entry.kind][entry.ticket] = entry
        self._waiting_bytes += entry.size_bytes
        self._make_room_in_memory(entry.stamp)
        return entry.ticket if entry.ticket in self._waiting[entry.kind] else None

    def take(self, now: Stamp, limit: int) -> List[Entry]:
        """The next entries in order, at most `limit` and what the window of handed ones allows."""
        taken: List[Entry] = []
        room = min(limit, self._limits.in_flight - len(self._handed))
        while len(taken) < room:
            entry = self._pop_next()
            if entry is None:
                break
            if self._is_expired(entry.kind, entry.stamp, now):
                self._drop(entry, DropCause.EXPIRED, now)
                continue
            if age_ns(entry.stamp, now) > LIVE_NS:
                entry = replace(entry, is_replayed=True)
            self._handed[entry.ticket] = entry
            taken.append(entry)
        return taken

    def acknowledge(self, ticket: int, now: Stamp) -> None:
        """The broker has it; only now may it be forgotten."""
        entry = self._handed.pop(ticket, None)
        if entry is not None:
            self._forget(entry, now)

    def refuse(self, ticket: int, now: Stamp) -> None:
        """The broker will never have it, which is a loss."""
        entry = self._handed.pop(ticket, None)
        if entry is not None:
            self._drop(entry, DropCause.REFUSED, now)

    def give_back(self) -> None:
        """Nobody knows what of the handed has arrived: all goes out again, in its old order."""
        for ticket, entry in self._handed.items():
            self._returned[ticket] = replace(self._redated(entry), is_replayed=True)
        self._handed.clear()

    def redate(self, boot_id: str, offset_ms: int) -> None:
        """Sets this boot's times right in memory, and from now on in what is loaded."""
        self._redate = lambda stamp: redated(stamp, boot_id, offset_ms)
        live = (*self._waiting.values(), *self._unhanded.values())
        for entries in (*live, self._ready, self._returned):
            entries.update({ticket: self._redated(entry) for ticket, entry in entries.items()})

    # --- for who writes to the disk ----------------------------------------------------------

    def due_ns(self) -> Optional[int]:
        """When something must be written; None where nothing waits for it."""
        dues = [
            next(iter(entries.values())).stamp.monotonic_ns + self._limits.windows_ns[kind]
            for kind, entries in self._waiting.items()
            if entries
        ]
        lazily_ns = self._limits.longest_window_ns
        if self._to_delete:
            dues.append(next(iter(self._to_delete.values())) + lazily_ns)
        if self.losses.is_dirty and self._losses_ns is not None:
            dues.append(self._losses_ns + lazily_ns)
        if self.is_half_full:
            dues.append(0)
        return min(dues) if dues else None

    def batch(self) -> Batch:
        """What a transaction has to do now; `written` or `not_written` must follow."""
        by_kind = [entries.values() for entries in self._waiting.values()]
        in_order = merge(*by_kind, key=lambda entry: entry.ticket)
        inserts = list(islice(in_order, BATCH_ENTRIES))
        self._writing = {entry.ticket for entry in inserts}
        losses = self.losses.all() if self.losses.is_dirty else None
        self.losses.is_dirty = False
        return Batch(inserts, list(islice(self._to_delete, BATCH_ENTRIES)), losses)

    def written(self, batch: Batch) -> List[int]:
        """The transaction is committed; gives the tickets that are on the disk by it."""
        self._writing.clear()
        for ticket in batch.deletes:
            self._to_delete.pop(ticket, None)
        keeps_up = not self.has_unloaded
        for entry in batch.inserts:
            keeps_up = self._moved_to_disk(entry, keeps_up)
        return [entry.ticket for entry in batch.inserts]

    def not_written(self, batch: Batch) -> None:
        """The transaction failed: all of it is still to be done."""
        self._writing.clear()
        self.losses.is_dirty = self.losses.is_dirty or batch.losses is not None

    def disk_opened(self, last_on_disk: int) -> None:
        """What is on the disk, up to this ticket, goes before what waits."""
        self._last_on_disk = max(last_on_disk, self._loaded_to)
        self._is_disk_known = self._must_wait_for_disk = True

    def disk_absent(self) -> None:
        """The disk cannot be read, perhaps never again: what waits goes out without it."""
        self._must_wait_for_disk = False

    @property
    def done_on_disk(self) -> AbstractSet[int]:
        """What may be deleted of what is on the disk."""
        return set(self._to_delete)

    def disk_emptied(self, done: AbstractSet[int]) -> None:
        """A new file has taken the place of one that held nothing but these."""
        for ticket in done:
            self._to_delete.pop(ticket, None)
        self.losses.is_dirty = bool(self.losses.all())

    @property
    def has_unloaded(self) -> bool:
        """Whether there are entries on the disk that have not been read."""
        return not self._is_disk_known or self._loaded_to < self._last_on_disk

    def wanted_rows(self) -> int:
        """How many entries to read ahead now."""
        is_low = 2 * len(self._ready) < READY_ENTRIES and self._ready_bytes < READY_BYTES
        is_there_more = self._is_disk_known and self.has_unloaded
        return READY_ENTRIES - len(self._ready) if is_there_more and is_low else 0

    @property
    def loaded_to(self) -> int:
        """The last ticket that was read from the disk, or need not be."""
        return self._loaded_to

    def loaded(self, entries: Sequence[Entry], loaded_to: Optional[int]) -> None:
        """Takes what was read ahead, up to `loaded_to`; None: the disk holds no more."""
        for entry in entries:
            is_known = entry.ticket in self._handed or entry.ticket in self._to_delete
            if not is_known and entry.ticket not in self._returned:
                self._make_ready(self._redated(entry))
        self._loaded_to = self._last_on_disk if loaded_to is None else loaded_to
        self._must_wait_for_disk = True

    def condemn_excess(self, heads: Sequence[Head], excess_bytes: int, now: Stamp) -> bool:
        """Drops of these rows, the oldest first, until so many bytes are free; True if any."""
        condemned = False
        for head in heads:
            if excess_bytes <= 0:
                break
            if self._condemn(head, DropCause.FULL, now):
                excess_bytes -= head.size_bytes
                condemned = True
        return condemned

    def condemn_expired(self, heads: Sequence[Head], now: Stamp) -> bool:
        """Drops of these rows what is too old; True if any was."""
        expired = [head for head in heads if self._is_expired(head.kind, head.stamp, now)]
        return any([self._condemn(head, DropCause.EXPIRED, now) for head in expired])

    def condemn_damaged(self, tickets: Iterable[int], now: Stamp) -> None:
        """Drops rows whose content is no longer what was written."""
        for ticket in tickets:
            self._to_delete[ticket] = now.monotonic_ns
            self.add_loss(None, DropCause.DAMAGED, now)

    def add_loss(self, kind: Optional[Kind], cause: DropCause, now: Stamp, count: int = 1) -> None:
        """Counts what was lost."""
        if not self.losses.is_dirty:
            self._losses_ns = now.monotonic_ns
        self.losses.add(Loss(cause, kind, count))

    def abandon(self, now: Stamp) -> None:
        """Counts what the disk never took as lost; for the end, when it will not any more."""
        for entries in self._waiting.values():
            for entry in list(entries.values()):
                self._drop(entry, DropCause.STOPPED, now)

    @property
    def is_half_full(self) -> bool:
        """Whether memory holds so much that the disk should take it now."""
        return 2 * self._waiting_bytes > self._limits.memory_bytes

    @property
    def waiting(self) -> int:
        """How many entries are in memory only."""
        return sum(map(len, self._waiting.values()))

    @property
    def handed(self) -> int:
        """How many are under way."""
        return len(self._handed)

    @property
    def may_have_more(self) -> bool:
        """Whether something is there that nobody has taken, as far as is known."""
        is_in_memory = self._returned or self._ready or any(self._unhanded.values())
        return bool(is_in_memory) or self.has_unloaded

    @property
    def is_window_full(self) -> bool:
        """Whether nothing more may be under way."""
        return len(self._handed) >= self._limits.in_flight

    @property
    def deletes(self) -> int:
        """How many rows on the disk are done with."""
        return len(self._to_delete)

    # --- the rest is its own affair ----------------------------------------------------------

    def _pop_next(self) -> Optional[Entry]:
        if self._returned:
            return self._returned.pop(min(self._returned))
        if self._ready:
            entry = self._ready.pop(next(iter(self._ready)))
            self._ready_bytes -= entry.size_bytes
            return entry
        return self._pop_unhanded()

    def _pop_unhanded(self) -> Optional[Entry]:
        firsts = [next(iter(entries)) for entries in self._unhanded.values() if entries]
        if not firsts or (self._must_wait_for_disk and self.has_unloaded):
            return None
        first = min(firsts)
        return next(e.pop(first) for e in self._unhanded.values() if first in e)

    def _moved_to_disk(self, entry: Entry, keeps_up: bool) -> bool:
        # Acknowledged meanwhile, it is among those to delete: its row is there all the same.
        self._last_on_disk = max(self._last_on_disk, entry.ticket)
        waiting = self._waiting[entry.kind].pop(entry.ticket, None)
        unhanded = self._unhanded[entry.kind].pop(entry.ticket, None)
        self._waiting_bytes -= waiting.size_bytes if waiting else 0
        has_room = len(self._ready) < READY_ENTRIES and self._ready_bytes < READY_BYTES
        if not keeps_up or (unhanded is not None and not has_room):
            return False
        if unhanded is not None:
            self._make_ready(unhanded)
        self._loaded_to = entry.ticket
        return True

    def _make_ready(self, entry: Entry) -> None:
        self._ready[entry.ticket] = entry
        self._ready_bytes += entry.size_bytes

    def _make_room_in_memory(self, now: Stamp) -> None:
        while self._waiting_bytes > self._limits.memory_bytes:
            victim = self._victim_in_memory()
            if victim is None:
                return
            self._drop(victim, DropCause.MEMORY_FULL, now)

    def _victim_in_memory(self) -> Optional[Entry]:
        for kind in Kind:
            for entry in self._unhanded[kind].values():
                if entry.ticket not in self._writing:
                    return entry
        return None

    def _condemn(self, head: Head, cause: DropCause, now: Stamp) -> bool:
        is_taken = head.ticket in self._handed or head.ticket in self._returned
        if is_taken or head.ticket in self._to_delete:
            return False
        ready = self._ready.pop(head.ticket, None)
        self._ready_bytes -= ready.size_bytes if ready else 0
        self._to_delete[head.ticket] = now.monotonic_ns
        self.add_loss(head.kind, cause, now)
        return True

    def _drop(self, entry: Entry, cause: DropCause, now: Stamp) -> None:
        self._forget(entry, now)
        self.add_loss(entry.kind, cause, now)

    def _forget(self, entry: Entry, now: Stamp) -> None:
        waiting = self._waiting[entry.kind].pop(entry.ticket, None)
        self._unhanded[entry.kind].pop(entry.ticket, None)
        self._waiting_bytes -= waiting.size_bytes if waiting else 0
        if waiting is None or entry.ticket in self._writing:
            self._to_delete[entry.ticket] = now.monotonic_ns

    def _is_expired(self, kind: Kind, stamp: Stamp, now: Stamp) -> bool:
        return age_ns(stamp, now) > self._limits.max_ages_ns[kind]

    def _redated(self, entry: Entry) -> Entry:
        if self._redate is None:
            return entry
        stamp = self._redate(entry.stamp)
        shift_ms = entry.shift_ms + stamp.unix_ms - entry.stamp.unix_ms
        return replace(entry, stamp=stamp, shift_ms=shift_ms)
