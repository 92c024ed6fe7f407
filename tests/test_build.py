"""What `edge build` shows of a build's progress, and builds for priority cameras.

tests/e2e has the command itself.
"""

from __future__ import annotations

import io
import sys
import threading
from typing import Any, List, Optional, Tuple

import pytest

from edge.build import Build, ProgressLine, progress_text
from edge.building.gate_report import Verdict
from edge.building.loader import Loader
from edge.building.supply import EngineSupply
from edge.building.worker import Task
from edge.clock import ManualClock
from edge.config.schema import Config, Precision
from edge.demo.show import ASSETS
from edge.errors import EngineOutOfMemory
from edge.records import BuildPhase, BuildProgress, EngineState, EngineStatus
from tests.building.test_supply import engine
from tests.test_engines import GOOD16, LoadingWorkshop

CLEAR = "\r\x1b[K"
FP16, INT8 = Precision.FP16, Precision.INT8


def status(progress: Optional[BuildProgress], eta_s: Optional[float] = None) -> EngineStatus:
    return EngineStatus(EngineState.BUILDING, INT8, progress=progress, eta_s=eta_s)


def progress(done: Optional[float], message: str = "") -> BuildProgress:
    return BuildProgress(BuildPhase.CALIBRATING, INT8, done, message)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param(status(None), "", id="nothing"),
        pytest.param(status(progress(None)), "calibrating int8", id="nobody can tell"),
        pytest.param(
            status(progress(0.0)), f"calibrating int8 [{'.' * 24}]   0 %", id="at the start"
        ),
        pytest.param(
            status(progress(0.5, "17 of 34 images"), 12.4),
            f"calibrating int8 [{'#' * 12}{'.' * 12}]  50 %  17 of 34 images  about 12 s left",
            id="half way",
        ),
        pytest.param(
            status(progress(1.0), 0.0),
            f"calibrating int8 [{'#' * 24}] 100 %  about 0 s left",
            id="at the end",
        ),
        pytest.param(
            status(progress(None, "timing layer 7")),
            "calibrating int8  timing layer 7",
            id="words alone",
        ),
    ],
)
def test_progress_in_one_line(given: EngineStatus, text: str) -> None:
    assert progress_text(given) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_it_in_place_and_gets_its_line_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    line = ProgressLine()
    line.clear()
    assert terminal.getvalue() == ""  # nothing to take away
    line.show("one")
    line.show("two")
    line.clear()
    line.clear()
    assert terminal.getvalue() == f"{CLEAR}one{CLEAR}two{CLEAR}"


def test_a_log_file_gets_a_whole_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    log, now_s = io.StringIO(), [1000.0]
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr("edge.build.time.monotonic", lambda: now_s[0])
    line = ProgressLine()
    for text, step_s in [("first", 0.0), ("too soon", 9.9), ("second", 0.2), ("too soon", 9.9)]:
        now_s[0] += step_s
        line.show(text)
    line.clear()
    assert log.getvalue() == "first\nsecond\n"


def built(
    monkeypatch: pytest.MonkeyPatch, own: LoadingWorkshop, *, in_flight: int = 2
) -> Tuple[List[str], Any]:
    """What a build of a priority camera's config prints, and its summary."""
    shared = LoadingWorkshop({INT8: engine(INT8, Verdict.PASS), **GOOD16}, {})
    shared.in_flight = own.in_flight = in_flight
    shared.priority = own

    def open_scripted(plan: Any, graph: Any, on_status: Any, *rest: Any) -> EngineSupply:
        script: Any = shared
        return EngineSupply(script, INT8, on_status, ManualClock(), Loader(shared.stop))

    monkeypatch.setattr("edge.build.open_supply", open_scripted)
    config = Config.model_validate(
        {
            "model": {"path": ASSETS / "parts.onnx"},
            "engine": {"backend": "onnxruntime"},
            "cameras": [{"name": "a", "uri": "synthetic://1", "priority": True}],
        }
    )
    build = Build(config, threading.Event())
    lines = list(build.lines())
    return lines, build.summary()


def test_the_engine_for_priority_cameras_is_built_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {
        (Task.MAKE_FLOAT, FP16): {FP16: engine(FP16)},
        (Task.JUDGE_FLOAT, FP16): GOOD16,
        (Task.MAKE_INT8, FP16): {INT8: engine(INT8, Verdict.PASS)},
    }
    lines, summary = built(monkeypatch, LoadingWorkshop({}, tasks))
    assert [" ".join(line.split()[:2]) for line in lines if line.startswith("engine ")] == [
        "engine int8", "engine fp16", "engine int8",
    ]  # fmt: skip
    assert "priority  int8 serves these frames" in lines
    assert lines[-1].startswith("serves    int8, after ")
    assert summary["serves"]["precision"] == "int8"
    assert summary["cache"] == {"int8": "hit"}
    assert summary["priority"]["serves"]["precision"] == "int8"
    assert summary["priority"]["cache"]["fp16"] == "none was built yet"
    assert summary["priority"]["gate"]["int8"]["verdict"] == "pass"


def test_without_it_the_build_is_as_good_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    own = LoadingWorkshop(GOOD16, {}, {FP16: EngineOutOfMemory("no room")})
    own.max_batch = 1
    lines, summary = built(monkeypatch, own)
    said = "priority frames go on through the shared engine: no room"
    assert any(line.startswith(f"but       {said}") for line in lines)
    assert lines[-1].startswith("serves    int8, after ")
    assert summary["priority"]["serves"] is None
    assert summary["priority"]["message"].startswith(said)
    assert summary["message"] == ""


def test_on_a_cpu_one_engine_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, summary = built(monkeypatch, LoadingWorkshop({}, {}), in_flight=1)
    assert not [line for line in lines if line.startswith("priority")]
    assert summary["priority"] is None
