"""Gathers what is found in a thread that neither a stop nor a device that hangs waits for."""

from __future__ import annotations

import queue
import threading
import time
from typing import Callable, Generic, Iterator, Optional, TypeVar, Union

from edge.errors import EdgeError, EngineHangs
from edge.inference.stall import StallWatch
from edge.threads import SupervisedThread

# A stop is noticed within this time.
_POLL_S = 0.1

_T = TypeVar("_T")


class Pulse:
    """When a batch was done last; None while nothing is asked of the device."""

    def __init__(self) -> None:
        self.beat_ns: Optional[int] = None

    def beat(self) -> None:
        """Says that one is done, and that there is another."""
        self.beat_ns = time.monotonic_ns()

    def end(self) -> None:
        """Says that there is no other."""
        self.beat_ns = None


class Background(Generic[_T]):
    """Gathers in a thread; a device whose pulse stops for `patience_s` hangs."""

    def __init__(self, findings: Callable[[Pulse], Iterator[_T]], patience_s: float) -> None:
        self._findings = findings
        self._found: queue.SimpleQueue[Union[_T, EdgeError]] = queue.SimpleQueue()
        self._pulse = Pulse()
        self._watch = StallWatch(patience_s)
        self._thread = SupervisedThread("bench", self._gather, self._fail)

    def until(self, stop: threading.Event) -> Iterator[Union[_T, EdgeError]]:
        """What is found, at once, until `stop`; the last is an error where one ended it."""
        self._thread.start()
        while True:
            # Asked first: what arrives between an empty queue and these would be lost.
            is_last_look = stop.is_set() or not self._thread.is_alive
            try:
                yield self._found.get(timeout=0 if is_last_look else _POLL_S)
            except queue.Empty:
                if is_last_look:
                    return
            silent_s = self._watch.look(time.monotonic_ns(), self._pulse.beat_ns)
            if silent_s is not None:
                yield EngineHangs(f"no batch was done for {silent_s:.0f} s: the device hangs")
                return

    def _gather(self) -> None:
        try:
            for finding in self._findings(self._pulse):
                self._found.put(finding)
        except EdgeError as error:
            self._found.put(error)

    def _fail(self, name: str, error: BaseException) -> None:
        self._found.put(EdgeError(f"{name} died: {error!r}"))
