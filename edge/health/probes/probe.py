"""What can be asked for readings, and what it answered last."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Callable, Mapping, Optional, Protocol

from edge.clock import Clock
from edge.errors import ProbeError
from edge.health.probes.lines import Command, LineProgram
from edge.records import HealthSource
from edge.threads import OnFailure


@dataclass(frozen=True)
class Sample:
    """Flat numbers, and when they were taken (monotonic)."""

    taken_ns: int
    numbers: Mapping[str, float]


class Probe(Protocol):
    """A source of readings that may come and go."""

    @property
    def source(self) -> HealthSource:
        """Its name."""

    @property
    def trouble(self) -> str:
        """Why it has nothing to say, and what to do about that; empty while it has."""

    def start(self) -> None:
        """Begins to ask; nothing where that was begun already."""

    def stop(self, timeout_s: float) -> bool:
        """Asks no more; False if that took longer."""

    def latest(self) -> Optional[Sample]:
        """The last answer; None while there is none."""


Interpret = Callable[[int, str], Mapping[str, float]]
"""What a line said at a time means; empty where nothing, ProbeError where it tells of trouble."""


class LineProbe:
    """A probe that is a program which says its readings line by line."""

    def __init__(
        self,
        source: HealthSource,
        command: Command,
        interpret: Interpret,
        interval_s: float,
        clock: Clock,
        on_failure: OnFailure,
    ) -> None:
        self.source = source
        self._interpret = interpret
        self._clock = clock
        self._lock = threading.Lock()
        self._sample: Optional[Sample] = None
        self._trouble = ""
        self._has_explained = False
        self._program = LineProgram(source.value, command, interval_s, self, clock, on_failure)

    @property
    def trouble(self) -> str:
        """Why it has nothing to say, and what to do about that; empty while it has."""
        with self._lock:
            return self._trouble

    @property
    def starts(self) -> int:
        """How often the program was started."""
        return self._program.starts

    def start(self) -> None:
        """Begins to run the program."""
        self._program.start()

    def stop(self, timeout_s: float) -> bool:
        """Ends it; what it said is forgotten."""
        ended = self._program.stop(timeout_s)
        with self._lock:
            self._sample = None
        return ended

    def latest(self) -> Optional[Sample]:
        """The last line that meant something."""
        with self._lock:
            return self._sample

    def said(self, line: str) -> bool:
        """Takes a line; True if it was of use."""
        now_ns = self._clock.monotonic_ns()
        try:
            numbers = self._interpret(now_ns, line)
        except ProbeError as error:
            with self._lock:
                self._trouble = str(error)
                self._has_explained = True
            return False
        if numbers:
            with self._lock:
                self._sample = Sample(now_ns, numbers)
                self._trouble = ""
                self._has_explained = False
        return bool(numbers)

    def failed(self, reason: str) -> None:
        """The program ended; what it said itself explains more than how it ended."""
        with self._lock:
            if not self._has_explained:
                self._trouble = reason
            self._has_explained = False
