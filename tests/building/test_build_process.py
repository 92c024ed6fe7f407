"""Builds in real processes: what they make, and what becomes of them when they are killed."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import List, Type

import pytest

from edge.building import worker
from edge.building.build_process import run_job
from edge.building.engine_store import Hit, Miss
from edge.building.graph import deploy
from edge.building.plan import BuildPlan
from edge.building.worker import Job, Message, Task
from edge.config.schema import Config, Precision
from edge.errors import BuildError, ConfigError, EdgeError, EngineOutOfMemory
from edge.records import BuildPhase, BuildProgress, OnProgress

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = REPOSITORY / "edge/demo/assets/parts.onnx"
HANG_S = 60.0


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration")
    for path in sorted((REPOSITORY / "calibration").glob("*.jpg"))[:60]:
        shutil.copy(path, folder)
    return folder


def plan(state: Path, images: Path, model: Path = MODEL, **gate: float) -> BuildPlan:
    config = Config.model_validate(
        {
            "device": {"state_dir": state},
            "model": {"path": model},
            "engine": {"backend": "onnxruntime", "threads": 2},
            "calibration": {"folder": images, "method": "minmax"},
            "gate": {"min_boxes": 20, **gate},
            "cameras": [{"name": "a", "uri": "synthetic://1"}],
        }
    )
    return BuildPlan.of(config, None)


def job(of: BuildPlan) -> Job:
    return Job(task=Task.MAKE_INT8, precision=Precision.FP32, plan=of)


def run(of: BuildPlan) -> List[BuildProgress]:
    told: List[BuildProgress] = []
    assert run_job(job(of), told.append, threading.Event())
    return told


def stored(of: BuildPlan) -> object:
    graph = deploy(of.model.path, of.model)
    return of.maker(graph, of.toolchain(graph)).find(Precision.INT8)


def test_an_engine_is_made_judged_and_kept(tmp_path: Path, images: Path) -> None:
    of = plan(tmp_path, images, max_loss=0.2)
    told = run(of)
    assert [p.phase for p in told if p.done == 0][:1] == [BuildPhase.JUDGING]
    assert {p.phase for p in told} == {BuildPhase.CALIBRATING, BuildPhase.JUDGING}
    found = stored(of)
    assert isinstance(found, Hit)
    assert found.data is not None
    assert found.gate is not None
    assert found.gate.verdict.value == "pass"


def test_what_the_gate_refuses_is_remembered_but_not_kept(tmp_path: Path, images: Path) -> None:
    of = plan(tmp_path, images, min_boxes=10_000)
    run(of)
    found = stored(of)
    assert isinstance(found, Hit)
    assert found.data is None
    assert found.gate is not None
    assert found.gate.verdict.value == "not_enough_evidence"
    assert not list((tmp_path / "engines").glob("*.engine"))
    assert (tmp_path / "engines" / "gate-int8").is_dir()


def test_bad_input_is_a_config_error_in_its_own_words(tmp_path: Path, images: Path) -> None:
    of = plan(tmp_path, tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"calibration\.folder"):
        run(of)


def kill_worker(number: int) -> None:
    """Signals the only child of this process that is a worker."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            stat = (entry.parent / "stat").read_text().rpartition(")")[2].split()
            if b"edge.building.worker" in entry.read_bytes() and int(stat[1]) == os.getpid():
                os.kill(int(entry.parent.name), number)
        except FileNotFoundError:
            continue


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        # The kernel's way when memory runs out, and nobody here sent it.
        (signal.SIGKILL, EngineOutOfMemory, "most likely because memory ran out"),
        (signal.SIGSEGV, BuildError, "died of SIGSEGV"),
    ],
    ids=["SIGKILL", "SIGSEGV"],
)
def test_a_build_that_is_killed_is_said_and_leaves_nothing(
    tmp_path: Path, images: Path, number: int, kind: Type[EdgeError], said: str
) -> None:
    of = plan(tmp_path, images)
    with pytest.raises(kind, match=said):
        run_job(job(of), lambda progress: kill_worker(number), threading.Event())
    assert isinstance(stored(of), Miss)


def test_a_build_that_hangs_is_given_up(tmp_path: Path, images: Path) -> None:
    of = plan(tmp_path, images)

    def hang(progress: BuildProgress) -> None:
        kill_worker(signal.SIGSTOP)

    with pytest.raises(BuildError, match="said nothing for 5 s"):
        run_job(job(of), hang, threading.Event(), silence_s=5)


def test_a_stop_ends_the_build_at_once(tmp_path: Path, images: Path) -> None:
    stop = threading.Event()
    assert not run_job(job(plan(tmp_path, images)), lambda progress: stop.set(), stop)


def test_a_worker_ends_with_its_parent(tmp_path: Path, images: Path) -> None:
    """SIGKILL leaves the parent no time for anything: the worker must notice by itself."""
    script = (
        "import sys, threading\n"
        "from edge.building.build_process import run_job\n"
        "from edge.building.worker import Job\n"
        "run_job(Job.model_validate_json(sys.argv[1]), lambda p: print('on', flush=True),"
        " threading.Event())\n"
    )
    text = job(plan(tmp_path, images)).model_dump_json()
    parent = subprocess.Popen(
        [sys.executable, "-c", script, text], stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"on\n"
        workers = children_of(parent.pid)
        assert len(workers) == 1
        parent.kill()
    deadline = time.monotonic() + HANG_S
    while is_running(workers[0]):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children_of(pid: int) -> List[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.parent.name))
    return found


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_two_builds_of_one_engine_make_it_once(tmp_path: Path, images: Path) -> None:
    of = plan(tmp_path, images, max_loss=0.2)
    first, second = [], []  # type: List[BuildProgress], List[BuildProgress]
    other: List[threading.Thread] = []
    has_second_begun = threading.Event()

    def run_second() -> None:
        def on_progress(progress: BuildProgress) -> None:
            second.append(progress)
            has_second_begun.set()

        assert run_job(job(of), on_progress, threading.Event())

    def start_second(progress: BuildProgress) -> None:
        first.append(progress)
        if not other:
            other.append(threading.Thread(target=run_second))
            other[0].start()
            # What the first tells meanwhile stays in the pipe, far from full.
            assert has_second_begun.wait(HANG_S)

    assert run_job(job(of), start_second, threading.Event())
    other[0].join(HANG_S)
    assert [progress.message for progress in second] == ["waiting for another build to end"]
    assert len(first) > 2
    assert isinstance(stored(of), Hit)


def test_a_message_survives_the_pipe() -> None:
    progress = BuildProgress(BuildPhase.CALIBRATING, Precision.INT8, 0.5, "17 of 34 images")
    line = Message.of(progress).model_dump_json(exclude_defaults=True)
    assert Message.model_validate_json(line).progress == progress
    assert json.loads(line) == {
        "phase": "calibrating",
        "precision": "int8",
        "done": 0.5,
        "text": "17 of 34 images",
    }


@pytest.mark.parametrize(
    "error",
    [BuildError("no kernel"), ConfigError("no folder"), EngineOutOfMemory("no room")],
    ids=lambda error: type(error).__name__,
)
def test_how_a_job_ends_keeps_its_kind_through_the_pipe(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, error: EdgeError
) -> None:
    def fail(job: Job, on_progress: OnProgress) -> None:
        raise error

    monkeypatch.setattr(worker, "work", fail)
    said = io.StringIO()
    of = job(plan(tmp_path, images))
    worker.report(of, said)
    # A worker that says just this.
    (tmp_path / "said").write_text(said.getvalue())
    script = tmp_path / "worker"
    script.write_text(f"#!/bin/sh\nread job\ncat '{tmp_path}/said'\n")
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(type(error), match=str(error)):
        run_job(of, lambda progress: None, threading.Event())
