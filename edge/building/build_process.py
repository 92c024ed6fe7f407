"""Runs a build in a process of its own and listens to it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from typing import IO, Iterator, Optional

from pydantic import ValidationError

from edge.building.worker import Job, Message
from edge.errors import BuildError, ConfigError, EdgeError, EngineOutOfMemory
from edge.records import BuildProgress, OnProgress

_POLL_S = 0.1
_GRACE_S = 0.5

# Large networks take hours on a small module, but no single step of theirs takes this long.
_SILENCE_S = 7200.0


def run_job(
    job: Job, on_progress: OnProgress, stop: threading.Event, silence_s: float = _SILENCE_S
) -> bool:
    """Runs a job to its end; False where `stop` ended it.

    Raises ConfigError, EngineOutOfMemory or BuildError: what the job said, or what became of its
    process, which is killed where it says nothing for `silence_s`.
    """
    watch = _Watch(stop, silence_s)
    with subprocess.Popen(
        [sys.executable, "-m", "edge.building.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,  # Ctrl-C is the parent's to answer
    ) as process:
        with watch.over(process):
            last = _converse(process, job, watch.heard_by(on_progress))
            if last is None:
                process.wait()
        # It has nothing to lose: what it made is on the disk, what it did not leaves nothing.
        process.kill()
    # A signal to the whole service may end the worker a moment before it is heard here.
    if stop.wait(_GRACE_S if last is None else 0.0):
        return False
    if watch.is_silent:
        raise BuildError(f"the build was given up: it said nothing for {silence_s:g} s")
    if last is None:
        raise _obituary(process.returncode)
    if last.is_error:
        raise _error(last)
    return True


class _Watch:
    """Kills a process when it is to stop, or has said nothing for too long."""

    def __init__(self, stop: threading.Event, silence_s: float) -> None:
        self._stop = stop
        self._silence_s = silence_s
        self._heard_s = time.monotonic()
        self._is_over = threading.Event()
        self.is_silent = False

    def heard_by(self, on_progress: OnProgress) -> OnProgress:
        """Passes progress on, and takes it as a sign of life."""

        def hear(progress: BuildProgress) -> None:
            self._heard_s = time.monotonic()
            on_progress(progress)

        return hear

    @contextlib.contextmanager
    def over(self, process: subprocess.Popen[str]) -> Iterator[None]:
        """Watches over a process for as long as the block lasts."""
        thread = threading.Thread(target=self._look_after, args=(process,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def _look_after(self, process: subprocess.Popen[str]) -> None:
        while not self._is_over.wait(_POLL_S):
            self.is_silent = time.monotonic() - self._heard_s > self._silence_s
            if self.is_silent or self._stop.is_set():
                process.kill()
                return


def _converse(
    process: subprocess.Popen[str], job: Job, on_progress: OnProgress
) -> Optional[Message]:
    """Hands over the job and passes its progress on; its last word, None where it had none."""
    assert process.stdin is not None  # both are pipes
    assert process.stdout is not None
    try:
        process.stdin.write(job.model_dump_json() + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return None
    for message in _messages(process.stdout):
        progress = message.progress
        if progress is None:
            return message
        on_progress(progress)
    return None


def _messages(lines: IO[str]) -> Iterator[Message]:
    for line in lines:
        try:
            yield Message.model_validate_json(line)
        except ValidationError:
            return  # killed in the middle of a line


def _error(last: Message) -> EdgeError:
    if last.is_config_error:
        return ConfigError(last.text)
    return EngineOutOfMemory(last.text) if last.is_out_of_memory else BuildError(last.text)


def _obituary(code: int) -> EdgeError:
    """What a process died of that nobody here killed."""
    if code == -signal.SIGKILL:
        # The kernel's way where memory runs out, and the worker asked to be the first.
        return EngineOutOfMemory(
            "the build was killed, most likely because memory ran out; a smaller "
            "engine.max_batch, calibration.batch or engine.workspace_mb needs less"
        )
    if code < 0:
        name = signal.Signals(-code).name
        return BuildError(f"the build died of {name}; its last lines are in the log")
    return BuildError(
        f"the build ended without a result (exit {code}); its last lines are in the log"
    )
