"""The wired line with synthetic cameras, a real model and real threads."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, List, Tuple

import pytest

from edge.building.graph import deploy
from edge.clock import SystemClock
from edge.config.schema import Config
from edge.line import Hooks, Line, LineOptions, Stop
from edge.records import BatchSetting, FrameResult, PipelineCounters
from tests.building.tiny_detectors import TinyDetector

HANG_S = 30.0


def run_until(
    folder: Path, tune: bool, is_enough: Callable[[PipelineCounters], bool]
) -> PipelineCounters:
    """Runs two synthetic cameras, and looks four times a second as the app does."""
    config = Config.model_validate(
        {
            "device": {"state_dir": folder},
            "model": {"path": TinyDetector().save(folder)},
            "batching": {"target": 8, "max_wait_ms": 20, "tune": tune},
            "cameras": [
                {"name": "a", "uri": "synthetic://1?size=96x64", "fps": 10},
                {"name": "gate", "uri": "synthetic://2?size=96x64", "fps": 10, "priority": True},
            ],
        }
    )
    failures: List[str] = []
    results: List[FrameResult] = []
    parts: List[Tuple[str, Stop]] = []
    hooks = Hooks(
        results.append,
        lambda status: None,
        lambda thread, error: failures.append(f"{thread}: {error}"),
        lambda cap: None,
    )
    graph = deploy(config.model.path, config.model)
    line = Line(config, folder, graph, SystemClock(), hooks, LineOptions())
    line.start(lambda name, stop: parts.append((name, stop)))
    deadline_s = time.monotonic() + HANG_S
    while not is_enough(line.counters()):
        assert time.monotonic() < deadline_s, line.counters()
        time.sleep(0.25)
        line.observe()
    stopped = [stop(HANG_S) for _, stop in reversed(parts)]
    assert stopped == [True] * len(parts)
    assert failures == []
    assert {result.info.camera for result in results} == {"a", "gate"}
    return line.counters()


@pytest.mark.parametrize("tune", [False, True], ids=["off", "on"])
def test_live_tuning_follows_the_load_only_where_it_is_on(tmp_path: Path, tune: bool) -> None:
    def is_enough(counters: PipelineCounters) -> bool:
        return counters.tune_changes > 0 if tune else counters.frames_inferred > 40

    counters = run_until(tmp_path, tune, is_enough)
    assert counters.batching == BatchSetting(8, 20.0)
    if not tune:
        assert (counters.tuned, counters.tune_changes) == (None, 0)
        return
    # Ten small frames a second are nothing to wait for.
    assert counters.tuned is not None
    assert counters.tuned.target < 8
    assert counters.tuned.window_ms < 20
