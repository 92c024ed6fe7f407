"""Programs that stand in for tegrastats: real processes, which say a line every now and then."""

from __future__ import annotations

from pathlib import Path

SPEAKS = 'while :; do echo "$LINE"; sleep 0.1; done'
SPEAKS_ONCE = 'echo "$LINE"; exec sleep 60'
SILENT = "exec sleep 60"
ENDS = 'echo "$LINE"; echo "cannot open the sensors" >&2; exit 3'
FLOODS = 'while :; do echo "$LINE"; done'
ENDLESS_LINE = "exec tr '\\0' x < /dev/zero"
CLOSES_ITS_OUTPUT = 'echo "$LINE"; exec >&- 2>&-; sleep 60'


def write_program(path: Path, body: str, line: str = "APE 150") -> Path:
    """An executable; `$LINE` in its body is the line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Replaced as a whole: a program that runs cannot be written to.
    fresh = path.with_suffix(".new")
    fresh.write_text(f"#!/bin/sh\nLINE='{line}'\n{body}\n")
    fresh.chmod(0o755)
    fresh.replace(path)
    return path
