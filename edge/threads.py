"""Threads that cannot die in silence."""

from __future__ import annotations

import ctypes
import logging
import threading
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Callable, List, Optional, Tuple, TypeVar

log = logging.getLogger(__name__)


_T = TypeVar("_T")

OnFailure = Callable[[str, BaseException], None]
"""Is told the name of a thread that died and why."""


# linux/prctl.h. Loaded here, not at the call: a timed wait follows it.
_PR_SET_TIMERSLACK = 29
_LIBC = ctypes.CDLL(None)


def sharpen_timers() -> None:
    """Lets the calling thread's timed waits end on time; Linux else adds up to 50 microseconds."""
    prctl = getattr(_LIBC, "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1))


class SupervisedThread:
    """Runs `body` in a daemon thread; an exception that escapes it is handed to `on_failure`.

    `body` must return soon after whatever stop signal it watches; `join` tells whether it did.
    """

    def __init__(self, name: str, body: Callable[[], None], on_failure: OnFailure) -> None:
        self.name = name
        self._body = body
        self._on_failure = on_failure
        # Daemon: a camera driver that never returns from read() must not keep a process
        # alive that has been told to stop.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Waits for the thread to end; False if it is still running after `timeout_s`."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(max(timeout_s, 0.0))
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """True between start and the end of `body`."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._body()
        except BaseException as error:  # a thread's top: report it, stop the app
            log.critical("thread %s died: %s", self.name, error, exc_info=True)
            self._on_failure(self.name, error)


def call_in_thread(name: str, work: Callable[[], _T]) -> Future[_T]:
    """Does `work` from now on in a daemon thread of its own, which nobody need wait for."""
    answer: Future[_T] = Future()
    threading.Thread(target=_answer, args=(answer, work), name=name, daemon=True).start()
    return answer


def drain(queue: SimpleQueue[_T]) -> List[_T]:
    """Takes all that waits in a queue at this moment."""
    taken = []
    try:
        while True:
            taken.append(queue.get_nowait())
    except Empty:
        return taken


class CallThread:
    """Does what it is asked for in a daemon thread of its own, one thing after the other.

    For libraries that keep something for every thread that calls them.
    """

    def __init__(self, name: str) -> None:
        self._asked: SimpleQueue[Optional[Tuple[Future[Any], Callable[[], Any]]]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], _T]) -> _T:
        """Waits until `work` is done there; gives its result, or raises what it raised."""
        answer: Future[_T] = Future()
        self._asked.put((answer, work))
        try:
            return answer.result()
        finally:
            del answer  # or an error would keep itself, and all its frames hold, in a cycle

    def close(self) -> None:
        """Ends the thread once all it was asked for is done; it may be called again."""
        self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        for answer, work in iter(self._asked.get, None):
            _answer(answer, work)
            del answer, work  # or they would live until the next is asked for


def _answer(answer: Future[_T], work: Callable[[], _T]) -> None:
    try:
        answer.set_result(work())
    except BaseException as error:  # noqa: BLE001 - a thread's top: it goes to who asked
        answer.set_exception(error)
        del answer, work  # as in `CallThread.call`
