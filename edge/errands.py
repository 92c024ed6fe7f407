"""What other threads want done on the main loop's, where the line may be changed.

Part of the composition root, with `app.py`.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Callable, Tuple, TypeVar

from edge.commands.refusal import Refused
from edge.errors import EdgeError
from edge.threads import drain

_T = TypeVar("_T")

Errand = Tuple["Future[Any]", Callable[[], Any]]


class Errands:
    """Hands work over to the thread that calls `run`; refused before `open` and after `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: SimpleQueue[Errand] = SimpleQueue()
        self._why_not = "the appliance is still starting"

    def __len__(self) -> int:
        return self._asked.qsize()

    def open(self) -> None:
        """From here on `run` is called."""
        with self._lock:
            self._why_not = ""

    def close(self) -> None:
        """It is not any more: whoever waits is told so."""
        with self._lock:
            self._why_not = "the appliance is stopping"
        for done, _ in drain(self._asked):
            done.set_exception(Refused(self._why_not))

    def do(self, work: Callable[[], _T]) -> _T:
        """Waits until `work` is done there; gives its result, or raises its EdgeError."""
        done: Future[_T] = Future()
        with self._lock:
            if self._why_not:
                raise Refused(self._why_not)
            self._asked.put((done, work))
        return done.result()

    def run(self) -> None:
        """Does what was asked for, on this thread."""
        for done, work in drain(self._asked):
            try:
                done.set_result(work())
            except EdgeError as error:
                done.set_exception(error)
