"""`edge build` on a device: what serves after it, and why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

from edge.config.schema import Backend
from tests.building import spoiled
from tests.gpu.workbench import OPTIONS, Workbench, say

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(580)]


def build(config: Path) -> Dict[str, Any]:
    command = [sys.executable, "-m", "edge", "build", "-c", str(config), "--json"]
    # What it says on the way goes to whoever watches: it takes minutes.
    result = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    assert result.returncode == 0
    summary: Dict[str, Any] = json.loads(result.stdout)
    gates = {name: (gate["verdict"], gate["reason"]) for name, gate in summary["gate"].items()}
    say(f"serves {summary['serves']}, cache {summary['cache']}, gates {gates}")
    return summary


def write_config(folder: Path, brightest: int) -> Path:
    sources = [source.value for source in OPTIONS.tactic_sources or ()]
    return spoiled.write_config(
        folder, Backend.TENSORRT, brightest, max_batch=8, tactic_sources=sources
    )


def test_scales_that_ruin_the_detections_are_refused(bench: Workbench, tmp_path: Path) -> None:
    config = write_config(tmp_path, spoiled.DARK)
    summary = build(config)
    assert summary["gate"]["int8"]["verdict"] == "fail"
    assert summary["serves"]["precision"] == "fp16"
    # Nothing has changed, so nothing is built again.
    again = build(config)
    assert again["cache"] == {"int8": "refused by the gate", "fp16": "hit"}
    assert again["serves"]["precision"] == "fp16"


def test_scales_of_the_same_scene_pass(bench: Workbench, tmp_path: Path) -> None:
    config = write_config(tmp_path, spoiled.BRIGHT)
    assert build(config)["serves"]["precision"] == "int8"
    assert build(config)["cache"] == {"int8": "hit"}
