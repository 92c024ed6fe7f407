"""`edge bench` on a GPU: every way of every batch size, the stages, the load, and cameras."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict

import pytest
import yaml

from edge.building.toolchain import backend_of
from edge.config.schema import Backend, EngineConfig
from edge.health.load import LoadRecorder, open_load
from edge.health.nvidia_smi import card_of, find_cards
from edge.inference.cuda import Context
from tests.building.tiny_detectors import TinyDetector
from tests.gpu.workbench import OPTIONS, say

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(580)]

HANG_S = 30.0
SECONDS = 20.0  # less, and a size's load does not last long enough to be read


def bench(folder: Path) -> Dict[str, Any]:
    engine: Dict[str, Any] = {"max_batch": 16}
    if backend_of(EngineConfig()) is Backend.TENSORRT:
        engine["tactic_sources"] = [source.value for source in OPTIONS.tactic_sources or ()]
    config = {
        "device": {"id": "nx", "state_dir": "state"},
        "model": {"path": str(TinyDetector().save(folder)), "class_names": ["a", "b", "c"]},
        "engine": engine,
        "cameras": [{"name": "belt", "uri": "synthetic://1"}],
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "edge", "bench", "-c", str(path), "--json"]
    command += ["--seconds", str(SECONDS), "--cameras", "4", "--plot", str(folder / "plot.svg")]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    summary: Dict[str, Any] = json.loads(done.stdout)
    return summary


def test_the_whole_table(context: Context, tmp_path: Path) -> None:
    summary = bench(tmp_path)
    say(json.dumps(summary))
    if summary["key"]["device"] == "cpu":
        pytest.skip("nothing here runs networks on the GPU")
    assert summary["key"]["device"].startswith(context.device_name)
    assert [row["batch"] for row in summary["rows"]] == [1, 2, 4, 8, 16, 32, 64]
    for row in summary["rows"]:
        assert min(row["throughput_fps"], row["serial_fps"], row["compute_alone_fps"]) > 0
        assert row["compute_ms"] > 0
        assert row["download_ms"] > 0
    assert summary["end_to_end"]["frames"] > 0
    known = {"gpu_utilization", "power_w", "frames_per_joule"}
    # A machine that does not lend its sensors has none of them in any row.
    assert all(known <= set(row) for row in summary["rows"]) or summary["power_of"] is None


def test_the_load_is_read_while_it_changes(context: Context) -> None:
    card = card_of(context.device_name, find_cards())
    source = open_load(card)
    if source is None:
        pytest.skip("nothing tells the load here")
    recorder = LoadRecorder(source, time.perf_counter_ns)
    deadline_s = time.monotonic() + HANG_S
    mean: Dict[str, float] = {}
    while not mean and time.monotonic() < deadline_s:
        time.sleep(0.1)
        mean = recorder.mean(0, time.perf_counter_ns())
    recorder.close()
    say(f"{card}: {mean}")
    assert mean  # the tool writes each reading at once
