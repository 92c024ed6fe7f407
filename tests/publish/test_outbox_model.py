"""Whatever is done to an outbox, and wherever its process ends, against a model in memory."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, List, Set

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from edge.clock import ManualClock
from edge.publish.outbox.age import Timekeeper
from edge.publish.outbox.entry import Entry, Kind
from edge.publish.outbox.outbox import Outbox
from tests.publish.outboxes import limits, take


class OutboxMachine(RuleBasedStateMachine):
    """Numbers every message; `pending` are those that may not be missing."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = ManualClock()
        self.next_number = 0
        self.number_of = {0: 0}
        self.committed: Set[int] = set()
        self.pending: Set[int] = set()
        self.acknowledged: Set[int] = set()
        self.ghosts: Set[int] = set()  # acknowledged, but killed before the disk knew
        self.handed: List[Entry] = []
        self.open()

    def open(self) -> None:
        self.handed = []
        self.number_of = {}
        self.outbox = Outbox(
            self.folder / "outbox.db",
            limits(in_flight=20),
            Timekeeper(self.clock, "boot", lambda: True),
            lambda name, error: None,
            lambda tickets: self.committed.update(self.number_of[t] for t in tickets),
        )

    @rule(kind=st.sampled_from(Kind), count=st.sampled_from([1, 2, 7, 280]))
    def put(self, kind: Kind, count: int) -> None:
        for _ in range(count):
            payload = str(self.next_number).encode()
            ticket = self.outbox.put(kind, "t", payload)
            assert ticket is not None
            self.number_of[ticket] = self.next_number
            self.pending.add(self.next_number)
            self.next_number += 1

    @rule(ms=st.sampled_from([0, 100, 300, 6_000]))
    def work(self, ms: int) -> None:
        self.clock.advance_ms(ms)
        self.outbox.work()

    @rule(limit=st.integers(1, 30))
    def take(self, limit: int) -> None:
        entries = take(self.outbox, limit)
        numbers = [int(entry.payload) for entry in entries]
        under_way = {int(entry.payload) for entry in self.handed}
        assert numbers == sorted(set(numbers))
        assert not under_way & set(numbers), "handed twice"
        assert set(numbers) <= self.pending | self.ghosts
        if numbers:
            due = {number for number in self.pending - under_way if number <= numbers[-1]}
            assert due <= set(numbers), "overtaken"
        self.ghosts -= set(numbers)
        self.pending |= set(numbers)
        self.handed += entries

    @rule(data=st.data())
    def ack(self, data: Any) -> None:
        self.acknowledge([entry for entry in self.handed if data.draw(st.booleans())])

    @rule()
    def ack_all(self) -> None:
        self.acknowledge(self.handed)

    def acknowledge(self, done: List[Entry]) -> None:
        for entry in done:
            self.outbox.ack(entry.ticket)
        numbers = {int(entry.payload) for entry in done}
        self.handed = [entry for entry in self.handed if entry not in done]
        self.pending -= numbers
        self.acknowledged |= numbers

    @rule()
    def give_back(self) -> None:
        self.outbox.give_back()
        self.handed = []

    @rule()
    def restart(self) -> None:
        self.outbox.finish()
        assert self.pending <= self.committed
        self.acknowledged.clear()
        self.open()

    @rule()
    def kill(self) -> None:
        self.outbox._writer.close()
        self.ghosts |= self.acknowledged & self.committed
        self.acknowledged.clear()
        self.pending &= self.committed
        self.open()

    def teardown(self) -> None:
        self.restart()
        left: List[int] = []
        while True:
            self.work(1_000)
            self.take(100)
            if not self.handed:
                break
            left += [int(entry.payload) for entry in self.handed]
            self.ack_all()
        assert not self.pending
        assert self.outbox.losses() == []
        self.outbox.finish()
        shutil.rmtree(self.folder)


OutboxMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestOutboxAgainstModel = OutboxMachine.TestCase
