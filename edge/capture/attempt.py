"""A call that may hang, in a thread that can be left behind."""

from __future__ import annotations

from concurrent.futures import wait
from typing import Callable, Generic, Optional, TypeVar

from edge.errors import CaptureError, EdgeError
from edge.threads import call_in_thread

T = TypeVar("T")


class Attempt(Generic[T]):
    """Runs `call`, which returns anything but None, in a daemon thread from now on.

    What neither returns nor fails in time is left behind: a driver's call cannot be interrupted.
    """

    def __init__(self, name: str, call: Callable[[], T]) -> None:
        self._answer = call_in_thread(name, call)

    def result(self, timeout_s: float) -> Optional[T]:
        """What the call returned; None if it still runs after `timeout_s`.

        Raises the call's CaptureError; whatever else it raised comes as one too.
        """
        # Not the answer's own time-out, which a call's socket.timeout looks like.
        if wait((self._answer,), max(timeout_s, 0.0)).not_done:
            return None
        error = self._answer.exception()
        if error is None:
            return self._answer.result()
        if isinstance(error, CaptureError):
            raise error
        if isinstance(error, EdgeError):
            raise CaptureError(str(error)) from error
        # The name alone: a foreign message may quote a URL with its password.
        raise CaptureError(f"internal error: {type(error).__name__}") from error
