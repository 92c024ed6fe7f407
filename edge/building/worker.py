"""The process that builds: making an engine may take all memory, or crash, without the daemon.

`python -m edge.building.worker` reads one job on stdin, writes progress and its end as lines of
JSON on what was its stdout, and ends with its parent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from enum import Enum
from pathlib import Path
from typing import IO, Optional

from pydantic import BaseModel, ConfigDict

from edge.building.engine_store import Hit
from edge.building.graph import deploy
from edge.building.make import Maker
from edge.building.plan import BuildPlan
from edge.config.schema import Precision
from edge.errors import ConfigError, EdgeError, EngineOutOfMemory
from edge.records import BuildPhase, BuildProgress, OnProgress

# linux/oom.h: the first to be killed where memory runs out.
_OOM_SCORE_ADJ_MAX = "1000"
_NICENESS = 10
_EXIT_ORPHAN = 1


class Task(str, Enum):
    """What a worker does."""

    MAKE_FLOAT = "make_float"
    JUDGE_FLOAT = "judge_float"
    MAKE_INT8 = "make_int8"


class Job(BaseModel):
    """One task; `precision` is the engine to make, or for INT8 the one it is judged by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Task
    precision: Precision
    plan: BuildPlan
    log_level: int = logging.INFO

    @property
    def product(self) -> Precision:
        """What the task makes or judges."""
        return Precision.INT8 if self.task is Task.MAKE_INT8 else self.precision


class Message(BaseModel):
    """One line of the worker: progress while there is a phase, else how the job ended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    phase: Optional[BuildPhase] = None
    precision: Optional[Precision] = None
    done: Optional[float] = None
    text: str = ""
    is_error: bool = False
    is_config_error: bool = False
    is_out_of_memory: bool = False

    @classmethod
    def of(cls, progress: BuildProgress) -> Message:
        """The line that tells of progress."""
        return cls(
            phase=progress.phase,
            precision=progress.precision,
            done=progress.done,
            text=progress.message,
        )

    @property
    def progress(self) -> Optional[BuildProgress]:
        """The progress it tells of; None at the end."""
        if self.phase is None or self.precision is None:
            return None
        return BuildProgress(self.phase, self.precision, self.done, self.text)


def work(job: Job, on_progress: OnProgress) -> None:
    """Does a job. Raises EdgeError."""
    graph = deploy(job.plan.model.path, job.plan.model)
    with contextlib.closing(job.plan.toolchain(graph)) as toolchain:
        maker = job.plan.maker(graph, toolchain)

        def on_wait() -> None:
            message = "waiting for another build to end"
            on_progress(BuildProgress(BuildPhase.BUILDING, job.product, None, message))

        with maker.alone(on_wait) as has_waited:
            # The other one was most likely asked for the same.
            if not (has_waited and _is_done(job, maker)):
                _do(job, maker, on_progress)


def _is_done(job: Job, maker: Maker) -> bool:
    found = maker.find(job.product)
    if not isinstance(found, Hit):
        return False
    if job.task is Task.JUDGE_FLOAT:
        return found.gate is not None and maker.is_up_to_date(found.gate)
    return True


def _do(job: Job, maker: Maker, on_progress: OnProgress) -> None:
    if job.task is Task.MAKE_FLOAT:
        maker.make_float(job.precision, on_progress)
    elif job.task is Task.JUDGE_FLOAT:
        maker.judge_float(on_progress)
    else:
        maker.make_int8(job.precision, on_progress)


def report(job: Job, output: IO[str]) -> None:
    """Does a job and tells on `output` how it goes and how it ended."""

    def say(message: Message) -> None:
        output.write(message.model_dump_json(exclude_defaults=True) + "\n")
        output.flush()

    try:
        work(job, lambda progress: say(Message.of(progress)))
    except EdgeError as error:
        say(
            Message(
                text=str(error),
                is_error=True,
                is_config_error=isinstance(error, ConfigError),
                is_out_of_memory=isinstance(error, EngineOutOfMemory),
            )
        )
    except MemoryError:
        say(
            Message(
                text="memory ran out; a smaller calibration.batch or engine.max_batch needs less",
                is_error=True,
                is_out_of_memory=True,
            )
        )
    else:
        say(Message(text="done"))


def main() -> None:
    """The process: one job from stdin to its end."""
    output = _claim_stdout()
    _step_back()
    job = Job.model_validate_json(sys.stdin.readline())
    logging.basicConfig(level=job.log_level, format="%(levelname)s %(name)s: %(message)s")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    report(job, output)


def _claim_stdout() -> IO[str]:
    """Keeps stdout for the messages: TensorRT's libraries print on it too."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return output


def _step_back() -> None:
    """Lets the cameras' work go first, and dies first where memory runs out."""
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE_ADJ_MAX, "ascii")


def _end_with_parent() -> None:
    # The parent holds the other end and writes nothing more: the end of the file is its own end.
    sys.stdin.read()
    os._exit(_EXIT_ORPHAN)


if __name__ == "__main__":
    main()
