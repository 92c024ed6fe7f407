"""The process around a command: its streams, its signals, its end."""

from __future__ import annotations

import _thread
import contextlib
import io
import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Iterator, Optional

from edge.errors import EXIT_SOFTWARE

# An orderly end takes 10 s at the most; what hangs longer, in a mount that does not answer, say,
# is ended with the process.
_PATIENCE_S = 15.0


def open_missing_streams() -> None:
    """Puts /dev/null where stdin, stdout or stderr is closed.

    Otherwise the next file or socket that is opened would take its number, and be written to.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - lives with the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character is no reason to fail.
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def stop_signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`; a second one ends the process at once."""
    is_signalled = False

    def on_signal(number: int, frame: Optional[FrameType]) -> None:
        nonlocal is_signalled
        if is_signalled:
            os._exit(128 + number)
        is_signalled = True
        # Not here: `set` takes the lock that the interrupted thread may hold inside `wait`.
        _thread.start_new_thread(_stop_or_end, (stop,))

    signals = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(number, on_signal) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, previous):
            signal.signal(number, handler)


class Hangups:
    """Remembers that SIGHUP came, from now to the process's end; several count as one."""

    def __init__(self) -> None:
        self._has_come = False
        signal.signal(signal.SIGHUP, self._note)

    def take(self) -> bool:
        """True once after each; for the main thread."""
        if not self._has_come:
            return False
        # One that comes before this line is answered along with the one before.
        self._has_come = False
        return True

    def _note(self, number: int, frame: Optional[FrameType]) -> None:
        self._has_come = True


def end(code: int) -> None:
    """Ends the process with what was said flushed."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    # Not sys.exit: a camera's thread that is left behind in its driver, and comes back while the
    # interpreter is being taken down, would abort the process.
    os._exit(code)


def _stop_or_end(stop: threading.Event) -> None:
    stop.set()
    time.sleep(_PATIENCE_S)
    os._exit(EXIT_SOFTWARE)
