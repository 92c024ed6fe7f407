"""The findings, in lines for people and as one JSON object: edge.doctor/1."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, Sequence

from edge.doctor.finding import Finding, Verdict, exit_code

SCHEMA = "edge.doctor/1"

_SUBJECT_WIDTH = 13
_VERDICT_WIDTH = 8


def line(finding: Finding) -> str:
    """One line, with its fix."""
    fix = f"; fix: {finding.fix}" if finding.fix else ""
    title = f"{finding.verdict.value:<{_VERDICT_WIDTH}}  {finding.subject:<{_SUBJECT_WIDTH}}"
    # One finding is one line, whatever a library or a broker put into its words.
    return " ".join(f"{title} {finding.words}{fix}".split("\n"))


def total(findings: Sequence[Finding]) -> str:
    """The last line."""
    counted = Counter(finding.verdict for finding in findings)
    faults, warnings = counted[Verdict.FAULT], counted[Verdict.WARNING]
    if not faults and not warnings:
        return "all is well"
    return f"{_plural(faults, 'fault')}, {_plural(warnings, 'warning')}"


def summary(findings: Sequence[Finding]) -> Dict[str, Any]:
    """What was found, as JSON; `fix` is null where there is nothing to do."""
    counted = Counter(finding.verdict for finding in findings)
    return {
        "schema": SCHEMA,
        "exit_code": exit_code(findings),
        "counts": {verdict.value: counted[verdict] for verdict in Verdict},
        "findings": [
            {
                "subject": finding.subject,
                "verdict": finding.verdict.value,
                "words": finding.words,
                "fix": finding.fix or None,
            }
            for finding in findings
        ],
    }


def _plural(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
