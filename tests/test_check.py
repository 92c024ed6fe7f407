"""What `edge check` says of engines that no CPU has; tests/test_cli.py has the command itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import pytest

from edge.building.batch_limit import LimitFile
from edge.building.gate_report import Verdict
from edge.building.loader import Loader
from edge.building.supply import EngineSupply
from edge.check import Checker
from edge.clock import ManualClock
from edge.config.schema import Config, Precision
from edge.demo.show import ASSETS
from tests.building.test_supply import LIMIT, engine
from tests.test_engines import GOOD16, LoadingWorkshop

INT8 = Precision.INT8
STORED = {INT8: engine(INT8, Verdict.PASS), **GOOD16}


def check(folder: Path, monkeypatch: pytest.MonkeyPatch, workshop: LoadingWorkshop) -> List[str]:
    """What is said of the model and its engines, where nothing is wrong."""

    def open_scripted(plan: Any, graph: Any, on_status: Any, *rest: Any) -> EngineSupply:
        script: Any = workshop
        limits = LimitFile(folder, LIMIT)
        return EngineSupply(script, INT8, on_status, ManualClock(), Loader(workshop.stop), limits)

    monkeypatch.setattr("edge.check.open_supply", open_scripted)
    config = Config.model_validate(
        {
            "device": {"state_dir": folder},
            "model": {"path": ASSETS / "parts.onnx"},
            "engine": {"backend": "onnxruntime"},
            "cameras": [{"name": "a", "uri": "synthetic://1", "priority": True}],
            "mqtt": {"host": "127.0.0.1", "port": 1},
        }
    )
    checker = Checker(config, folder)
    lines = list(checker.lines())
    assert checker.faults == 0
    return [line for line in lines if line.split()[0] in ("engine", "priority", "warning")]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (LoadingWorkshop(STORED, {}), "priority int8, an engine for these frames alone"),
        (
            LoadingWorkshop({}, {}),
            "priority int8 is not there: none was built yet; see `edge build`",
        ),
    ],
    ids=["built", "not yet"],
)
def test_the_engine_of_priority_cameras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: LoadingWorkshop, said: str
) -> None:
    shared = LoadingWorkshop(STORED, {})
    shared.in_flight, shared.priority = 2, own
    lines = check(tmp_path, monkeypatch, shared)
    assert lines[0] == "engine   int8 on script 1 (test)"
    assert said in lines


def test_a_batch_that_was_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LimitFile(tmp_path, LIMIT).keep(4, "no room for 8 frames")
    lines = check(tmp_path, monkeypatch, LoadingWorkshop(STORED, {}))
    assert any(line.startswith("warning  at most 4 frames at once") for line in lines)


def test_memory_that_is_short_just_now_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = LoadingWorkshop(STORED, {})
    workshop.fits = 4
    before = sorted(tmp_path.iterdir())
    assert check(tmp_path, monkeypatch, workshop) == [
        "engine   no room for 8 frames (the daemon would go on with fewer frames at once)"
    ]
    assert sorted(tmp_path.iterdir()) == before
