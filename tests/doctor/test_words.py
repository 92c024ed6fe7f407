"""The findings in lines and as JSON."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from edge.doctor.finding import absent, exit_code, fault, ok, warning
from edge.doctor.words import line, summary, total

OK, WARNING = ok("a", "x"), warning("b", "y", "z")
FAULT, ABSENT = fault("c", "y"), absent("d", "y")

TOTALS: Dict[str, Any] = {
    "nothing": ([], "all is well", 0),
    "well": ([OK, ABSENT], "all is well", 0),
    "a warning": ([OK, WARNING], "no faults, 1 warning", 0),
    "a fault": ([OK, FAULT], "1 fault, no warnings", 1),
    "more": ([FAULT, WARNING, FAULT, WARNING], "2 faults, 2 warnings", 1),
}


@pytest.mark.parametrize(("findings", "words", "code"), TOTALS.values(), ids=TOTALS)
def test_total(findings: Any, words: str, code: int) -> None:
    assert total(findings) == words
    assert exit_code(findings) == code


def test_lines() -> None:
    assert line(OK) == "ok        a             x"
    assert line(WARNING) == "warning   b             y; fix: z"
    assert line(ABSENT) == "not here  d             y"
    assert "\n" not in line(ok("a", "one\ntwo"))


def test_summary() -> None:
    said = summary([OK, FAULT, WARNING])
    assert said["schema"] == "edge.doctor/1"
    assert said["exit_code"] == 1
    assert said["counts"] == {"ok": 1, "warning": 1, "fault": 1, "not here": 0}
    assert said["findings"][2] == {
        "subject": "b",
        "verdict": "warning",
        "words": "y",
        "fix": "z",
    }
    assert said["findings"][0]["fix"] is None
