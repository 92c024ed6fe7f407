"""Runs a benchmark as people do: as a command of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT_S = 110


def run(command: List[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def run_quickly(benchmark: str) -> Dict[str, Any]:
    ended = run(["-m", f"benchmarks.{benchmark}", "--quick", "--json"])
    assert ended.returncode == 0, ended.stderr
    result: Dict[str, Any] = json.loads(ended.stdout)
    return result
