"""A look that hangs or fails holds nobody up and says so."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Callable, Iterator

import pytest

from edge.clock import SystemClock
from edge.doctor import look as module
from edge.doctor.finding import Finding, ok
from edge.doctor.look import Look
from edge.errors import ProbeError


def judge(facts: str) -> Iterator[Finding]:
    yield ok("thing", facts)


def test_facts_are_judged() -> None:
    look = Look("thing", lambda: "there", SystemClock())
    assert list(look.findings(judge)) == [ok("thing", "there")]
    assert look.facts("none") == "there"


def test_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    never = threading.Event()
    look = Look("thing", lambda: str(never.wait()), SystemClock())
    (found,) = look.findings(judge)
    assert found.verdict.value == "warning"
    assert found.words.startswith("no answer within ")
    assert look.facts("none") == "none"
    never.set()


def missing() -> str:
    raise ModuleNotFoundError("No module named 'psutil'")


def unreadable() -> str:
    return Path("/nowhere/at/all").read_text("utf-8")


def useless() -> str:
    raise ProbeError("why it is of no use\nand more")


def secret() -> str:
    raise ValueError("rtsp://user:secret@camera")


@pytest.mark.parametrize(
    ("gather", "words"),
    [
        pytest.param(missing, "cannot be looked at: No module named 'psutil'", id="import"),
        pytest.param(unreadable, "cannot be looked at: No such file or directory", id="file"),
        pytest.param(useless, "why it is of no use", id="in words"),
        pytest.param(secret, "cannot be looked at: internal error: ValueError", id="foreign"),
    ],
)
def test_one_that_fails(gather: Callable[[], str], words: str) -> None:
    look = Look("thing", gather, SystemClock())
    (found,) = look.findings(judge)
    assert (found.verdict.value, found.words) == ("warning", words)
    assert look.facts("none") == "none"
