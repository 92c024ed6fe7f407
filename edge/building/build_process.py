"""Runs a build in a process of its own and listens to it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from typing import IO, Iterator, Optional

from pydantic import ValidationError

from edge.building.worker import Job, Message
from edge.errors import BuildError, ConfigError
from edge.records import OnProgress

_POLL_S = 0.1
_GRACE_S = 0.5


def run_job(job: Job, on_progress: OnProgress, stop: threading.Event) -> bool:
    """Runs a job to its end; False where `stop` ended it.

    Raises ConfigError or BuildError: what the job said, or what became of its process.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "edge.building.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,  # Ctrl-C is the parent's to answer
    ) as process:
        with _killed_on(stop, process):
            last = _converse(process, job, on_progress)
            if last is None:
                process.wait()
        # It has nothing to lose: what it made is on the disk, what it did not leaves nothing.
        process.kill()
    # A signal to the whole service may end the worker a moment before it is heard here.
    if stop.wait(_GRACE_S if last is None else 0.0):
        return False
    if last is None:
        raise BuildError(_obituary(process.returncode))
    if last.is_error:
        raise (ConfigError if last.is_config_error else BuildError)(last.text)
    return True


@contextlib.contextmanager
def _killed_on(stop: threading.Event, process: subprocess.Popen[str]) -> Iterator[None]:
    """Kills a process as soon as `stop` is set, for as long as the block lasts."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_POLL_S):
            if stop.is_set():
                process.kill()
                return

    thread = threading.Thread(target=watch, name="build-stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


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


def _obituary(code: int) -> str:
    if code == -signal.SIGKILL:
        return (
            "the build was killed, most likely because memory ran out; a smaller "
            "engine.max_batch, calibration.batch or engine.workspace_mb needs less"
        )
    if code < 0:
        return f"the build died of {signal.Signals(-code).name}; its last lines are in the log"
    return f"the build ended without a result (exit {code}); its last lines are in the log"
