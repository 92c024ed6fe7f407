"""The durable outbox: whatever it has committed reaches the broker, or is counted."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional

from edge.clock import NS_PER_S
from edge.publish.outbox.age import Timekeeper
from edge.publish.outbox.entry import DropCause, Entry, Kind, Limits
from edge.publish.outbox.ledger import Ledger
from edge.publish.outbox.loss import Loss
from edge.publish.outbox.pace import DrainPace
from edge.publish.outbox.writer import OnCommitted, Writer
from edge.threads import OnFailure, SupervisedThread

# While rows are being read from the disk; and a wait for each message of the pace would be a
# waste.
_READING_S = 0.02

_NEVER_NS = 1 << 63

_HANGS = "the disk does not answer; check it"


@dataclass(frozen=True)
class OutboxStatus:
    """How the outbox stands; `trouble` says why the disk takes nothing, empty while it does.

    `queued` counts everything not acknowledged, `in_memory` what of it a power cut would cost,
    `handed` what is under way, `committed` all entries this process has put on the disk; `fill` is
    the share of the disk's limit that is taken, 0..1.
    """

    queued: int
    in_memory: int
    handed: int
    committed: int
    disk_bytes: int
    fill: float
    trouble: str
    troubles: Mapping[str, int]


class Outbox:
    """Keeps messages until the broker has them; callable from any thread, never waits for a disk.

    What is committed survives the process, events a power cut too. In one process an entry is
    handed out once, unless it is given back; after a restart, what was not acknowledged is handed
    out again. Entries go out in the order of their putting, each camera's and all together. While
    the disk takes nothing they are kept in memory; while it cannot be read, or does not answer,
    newer ones do not wait for those on it.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits,
        times: Timekeeper,
        on_failure: OnFailure,
        committed: Optional[OnCommitted] = None,
    ) -> None:
        self.times = times
        self._lock = threading.Lock()
        self._ledger = Ledger(limits)
        self._limits = limits
        self._pace = DrainPace(limits.drain_per_s)
        self._writer = Writer(path, limits, self._ledger, self._lock, times, committed)
        self._thread = SupervisedThread("outbox", self._run, on_failure)
        self._wake = threading.Event()
        self._wakes_ns = 0
        self._stopping = threading.Event()
        self._has_ended = False

    def start(self) -> None:
        """Starts the thread that reads and writes."""
        self._thread.start()

    @property
    def takes_detections(self) -> bool:
        """Whether detections are to be kept too."""
        return self._limits.has_detections

    def put(self, kind: Kind, topic: str, payload: bytes) -> Optional[int]:
        """Accepts a message; gives its ticket, None if it was counted as lost."""
        now = self.times.now()
        entry = Entry(0, kind, topic, payload, now)
        due_ns = now.monotonic_ns + self._limits.windows_ns[kind]
        with self._lock:
            if self._has_ended:
                self._ledger.add_loss(kind, DropCause.STOPPED, now)
                return None
            ticket = self._ledger.put(entry)
            self._pace.note_put()
            must_wake = due_ns < self._wakes_ns or (
                self._ledger.is_half_full and not self._writer.trouble
            )
            if must_wake:
                self._wakes_ns = due_ns
        if must_wake:
            self._wake.set()
        return ticket

    def take(self) -> Optional[Entry]:
        """The next entry, which is handed out now; None if there is none or the pace forbids it.

        None may also come while the disk is being read.
        """
        with self._lock:
            if not self._ledger.may_have_more:
                return None
            now = self.times.now()
            if self._writer.hangs(now.monotonic_ns):
                self._ledger.disk_absent()
            entries = self._ledger.take(now, min(1, self._pace.allowance(now.monotonic_ns)))
            self._pace.spend(len(entries))
            wants_more = self._ledger.wanted_rows() > 0
        if wants_more:
            self._wake.set()
        return entries[0] if entries else None

    def ack(self, ticket: int) -> None:
        """The broker has acknowledged it; an unknown one is ignored."""
        now = self.times.now()
        with self._lock:
            self._ledger.acknowledge(ticket, now)

    def refuse(self, ticket: int) -> None:
        """The broker has refused it, which counts as a loss; an unknown one is ignored."""
        now = self.times.now()
        with self._lock:
            self._ledger.refuse(ticket, now)

    def give_back(self) -> None:
        """A connection has ended: what is under way is handed out again, first and in order."""
        with self._lock:
            self._ledger.give_back()

    def pause_s(self) -> Optional[float]:
        """How long until `take` may have more; None while none will before an `ack` or a `put`."""
        now_ns = self.times.now().monotonic_ns
        with self._lock:
            if self._queued() <= self._ledger.handed or self._ledger.is_window_full:
                return None
            return max(self._pace.pause_s(now_ns), _READING_S)

    @property
    def is_empty(self) -> bool:
        """Whether the broker has acknowledged everything."""
        with self._lock:
            return self._queued() == 0

    def losses(self) -> List[Loss]:
        """All that was lost since the file was made."""
        with self._lock:
            return self._ledger.losses.all()

    def dropped(self) -> Dict[DropCause, int]:
        """What this run has lost or found missing, by cause."""
        with self._lock:
            return self._ledger.losses.of_this_run()

    def status(self) -> OutboxStatus:
        """How it stands."""
        now_ns = self.times.now().monotonic_ns
        with self._lock:
            return OutboxStatus(
                queued=self._queued(),
                in_memory=self._ledger.waiting,
                handed=self._ledger.handed,
                committed=self._writer.committed_count,
                disk_bytes=self._writer.disk_bytes,
                fill=self._writer.disk_bytes / self._limits.max_bytes,
                trouble=_HANGS if self._writer.hangs(now_ns) else self._writer.trouble,
                troubles={trouble.value: n for trouble, n in self._writer.troubles.items()},
            )

    def stop(self, deadline_s: float) -> bool:
        """Commits everything; False if the disk did not take it all in time, which is counted."""
        self._stopping.set()
        self._wake.set()
        is_done = self._thread.join(deadline_s)
        with self._lock:
            is_complete = is_done and self._ledger.waiting == 0
            self._ledger.abandon(self.times.now())
            self._has_ended = True
        return is_complete

    def work(self) -> float:
        """One round of what the thread does; gives the seconds until the next is due."""
        with self._lock:  # what is put meanwhile, and is due sooner, ends the wait to come
            self._wakes_ns = _NEVER_NS
        self._writer.step()
        pause_s = self._writer.pause_s()
        with self._lock:
            self._wakes_ns = self.times.now().monotonic_ns + int(pause_s * NS_PER_S)
        return pause_s

    def finish(self) -> None:
        """The last round: writes everything and closes the file."""
        self._writer.step(is_final=True)
        self._writer.close()

    def _queued(self) -> int:
        return max(0, self._writer.rows - self._ledger.deletes) + self._ledger.waiting

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self.work())
            self._wake.clear()
        self.finish()
