"""What a look at one thing came to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Iterable

EXIT_FAULTS = 1


class Verdict(str, Enum):
    """How much it matters; `not here` is no trouble: this machine has none of it."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    ABSENT = "not here"


@dataclass(frozen=True)
class Finding:
    """One line about one subject, free of credentials; `fix` is empty where there is none."""

    subject: str
    verdict: Verdict
    words: str
    fix: str = ""


def ok(subject: str, words: str) -> Finding:
    """Nothing to do."""
    return Finding(subject, Verdict.OK, words)


def warning(subject: str, words: str, fix: str = "") -> Finding:
    """It works, less well than it could, or not for long."""
    return Finding(subject, Verdict.WARNING, words, fix)


def fault(subject: str, words: str, fix: str = "") -> Finding:
    """The appliance, or a part of what it was configured for, cannot work."""
    return Finding(subject, Verdict.FAULT, words, fix)


def absent(subject: str, words: str) -> Finding:
    """This machine has none of it, and why."""
    return Finding(subject, Verdict.ABSENT, words)


def exit_code(findings: Iterable[Finding]) -> int:
    """0 unless there is a fault."""
    return EXIT_FAULTS if any(found.verdict is Verdict.FAULT for found in findings) else 0
