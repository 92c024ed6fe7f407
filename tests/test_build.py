"""What `edge build` shows of a build's progress; tests/e2e has the command itself."""

from __future__ import annotations

import io
import sys
from typing import Optional

import pytest

from edge.build import ProgressLine, progress_text
from edge.config.schema import Precision
from edge.records import BuildPhase, BuildProgress, EngineState, EngineStatus

CLEAR = "\r\x1b[K"
INT8 = Precision.INT8


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
