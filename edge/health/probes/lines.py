"""A program that says a line every now and then: started, listened to, ended, started again."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import threading
from typing import Callable, List, Optional, Protocol, Sequence, Tuple

from edge.backoff import Backoff
from edge.clock import NS_PER_S, Clock
from edge.errors import ProbeError
from edge.threads import OnFailure, SupervisedThread

# A line of tegrastats has about 600 bytes, one of jtop 4 KB.
MAX_LINE_BYTES = 64 * 1024

# A program that says more lines than this in one interval has gone mad.
_LINES_PER_INTERVAL = 20

_CHUNK_BYTES = 64 * 1024

# It may need this long for its first line: jtop loads its library, tegrastats its sensors.
_FIRST_LINE_S = 15.0
_SILENT_INTERVALS = 5
_ENDING_S = 1.0
_WORDS = 200

_RETRY_S = (1.0, 60.0)
_WORKED_LINES = 5  # one that says fewer and ends is tried less and less often

Command = Callable[[], Sequence[str]]
"""What to run; raises ProbeError where it cannot be of use."""


class Flooded(ValueError):
    """A program says too much; the message says how much."""


class LineSplitter:
    """Makes lines of what a program writes; keeps no more than one that is not ended.

    Raises Flooded where a line is too long, or too many come within `interval_ns`.
    """

    def __init__(self, interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._rest = b""
        self._window_ns = 0
        self._in_window = 0

    def feed(self, now_ns: int, chunk: bytes) -> List[str]:
        """The lines that `chunk` completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if now_ns - self._window_ns >= self._interval_ns:
            self._window_ns, self._in_window = now_ns, 0
        self._in_window += len(lines)
        if self._in_window > _LINES_PER_INTERVAL:
            raise Flooded(f"it says {self._in_window} lines at once")
        if max(map(len, [self._rest, *lines])) > MAX_LINE_BYTES:
            raise Flooded(f"it says a line of more than {MAX_LINE_BYTES} bytes")
        return [line.decode(errors="replace") for line in lines]


class Listener(Protocol):
    """Who is told what a program says; never by two threads at once."""

    def said(self, line: str) -> bool:
        """Takes a line; True if it was of use."""

    def failed(self, reason: str) -> None:
        """The program is not there, or was ended; it will be tried again."""


class LineProgram:
    """Keeps a program running from `start` to `stop`, each of which may be called again.

    It is killed where it is silent for several intervals or floods, and started again after a
    pause that grows to a minute for as long as it says hardly anything of use.
    """

    def __init__(
        self,
        name: str,
        command: Command,
        interval_s: float,
        listener: Listener,
        clock: Clock,
        on_failure: OnFailure,
    ) -> None:
        self._name = name
        self._command = command
        self._interval_s = interval_s
        self._listener = listener
        self._clock = clock
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: Optional[SupervisedThread] = None
        self._process: Optional[subprocess.Popen[bytes]] = None
        self.starts = 0

    @property
    def is_running(self) -> bool:
        """True between `start` and `stop`."""
        return self._thread is not None and not self._stopped.is_set()

    def start(self) -> None:
        """Begins to run the program, in a thread that also reads from it."""
        if self.is_running:
            return
        stopped = self._stopped = threading.Event()
        self._thread = SupervisedThread(
            f"health-{self._name}", lambda: self._keep_running(stopped), self._on_failure
        )
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Ends program and thread; False if that took longer."""
        self._stopped.set()
        with self._lock:
            if self._process is not None:
                _kill(self._process)
        return self._thread is None or self._thread.join(timeout_s)

    def _keep_running(self, stopped: threading.Event) -> None:
        backoff = Backoff(random.Random(), *_RETRY_S)
        while not stopped.is_set():
            useful_lines, reason = self._run_once(stopped)
            if stopped.is_set():
                return
            self._listener.failed(reason)
            if useful_lines >= _WORKED_LINES:
                backoff.reset()
            stopped.wait(backoff.next_s())

    def _run_once(self, stopped: threading.Event) -> Tuple[int, str]:
        """Runs the program until it ends; counts its useful lines, and tells why it ended."""
        try:
            process = self._open(stopped)
        except ProbeError as error:
            return 0, str(error)
        except OSError as error:
            return 0, f"it cannot be run: {error.strerror or error}"
        if process is None:
            return 0, ""
        self.starts += 1
        run = _Run(process, self._interval_s, self._listener, self._clock)
        try:
            reason = run.listen()
        finally:
            self._close(process)
        return run.useful_lines, reason

    def _open(self, stopped: threading.Event) -> Optional[subprocess.Popen[bytes]]:
        with self._lock:  # so that `stop` finds it, or it finds that it is stopped
            if stopped.is_set():
                return None
            self._process = subprocess.Popen(
                list(self._command()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # A Ctrl-C on the terminal is for the daemon, which ends this and all it began.
                start_new_session=True,
            )
            return self._process

    def _close(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            if self._process is process:
                self._process = None
        _kill(process)
        process.wait()
        assert process.stdout is not None  # it was asked for
        process.stdout.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the program and all it began: it has nothing to lose, and may not listen to less."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class _Run:
    """One run of the program, up to its end."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        interval_s: float,
        listener: Listener,
        clock: Clock,
    ) -> None:
        assert process.stdout is not None  # it was asked for
        self._output = process.stdout.fileno()
        self._process = process
        self._interval_s = interval_s
        self._listener = listener
        self._clock = clock
        self._last_words = ""
        self.useful_lines = 0

    def listen(self) -> str:
        """Hands on each line, until there is a reason not to."""
        splitter = LineSplitter(int(self._interval_s * NS_PER_S))
        quiet_until_ns = self._deadline_ns(_FIRST_LINE_S)
        while True:
            left_s = (quiet_until_ns - self._clock.monotonic_ns()) / NS_PER_S
            if not select.select([self._output], [], [], max(left_s, 0.0))[0]:
                return "it has fallen silent" if self.useful_lines else "it says nothing of use"
            chunk = os.read(self._output, _CHUNK_BYTES)
            if not chunk:
                return self._ending()
            try:
                lines = splitter.feed(self._clock.monotonic_ns(), chunk)
            except Flooded as error:
                return str(error)
            if self._hand_on(lines):
                quiet_until_ns = self._deadline_ns(_SILENT_INTERVALS * self._interval_s)

    def _hand_on(self, lines: Sequence[str]) -> bool:
        is_useful = False
        for line in lines:
            if self._listener.said(line):
                is_useful = True
                self.useful_lines += 1
            elif line.strip():
                self._last_words = line.strip()
        return is_useful

    def _ending(self) -> str:
        try:
            code = self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            return "it closed its output and goes on"
        how = f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"
        return f"{how}: {self._last_words[:_WORDS]}" if self._last_words else how

    def _deadline_ns(self, seconds: float) -> int:
        return self._clock.monotonic_ns() + int(seconds * NS_PER_S)
