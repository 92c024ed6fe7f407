"""A call that may hang, in a thread that can be left behind."""

from __future__ import annotations

import threading
from typing import Callable, Generic, Optional, TypeVar

from edge.errors import CaptureError
from edge.threads import SupervisedThread

T = TypeVar("T")


class Attempt(Generic[T]):
    """Runs `call`, which returns anything but None, in a daemon thread from now on.

    What neither returns nor fails in time is left behind: a driver's call cannot be interrupted.
    """

    def __init__(self, name: str, call: Callable[[], T]) -> None:
        self._call = call
        self._done = threading.Event()
        self._value: Optional[T] = None
        self._error: Optional[CaptureError] = None
        self._thread = SupervisedThread(name, self._run, self._on_failure)
        self._thread.start()

    def result(self, timeout_s: float) -> Optional[T]:
        """What the call returned; None if it still runs after `timeout_s`.

        Raises the call's CaptureError; whatever else it raised comes as one too.
        """
        if not self._done.wait(max(timeout_s, 0.0)):
            return None
        if self._error is not None:
            raise self._error
        return self._value

    def _run(self) -> None:
        try:
            self._value = self._call()
        except CaptureError as error:
            self._error = error
        self._done.set()

    def _on_failure(self, name: str, error: BaseException) -> None:
        # The name alone: a foreign message may quote a URL with its password.
        self._error = CaptureError(f"internal error: {type(error).__name__}")
        self._done.set()
