from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.bounds import BatchBounds
from edge.config.schema import Config
from edge.records import BatchSetting, PipelineCounters


def config(cameras: int = 4, **batching: Any) -> Config:
    return Config.model_validate(
        {
            "model": {"path": Path("m.onnx")},
            "cameras": [{"name": f"c{n}", "uri": "synthetic://1"} for n in range(cameras)],
            "batching": {"target": 8, "max_wait_ms": 10, **batching},
        }
    )


@pytest.mark.parametrize(
    ("tune", "target"),
    [pytest.param(False, 8, id="fixed"), pytest.param(True, 4, id="tuned: what cameras can fill")],
)
def test_the_governor_sets_the_window_in_the_place_of_the_configured_one(
    tune: bool, target: int
) -> None:
    bounds = BatchBounds(config(tune=tune))
    assert bounds.policy.setting == BatchSetting(target, 10.0)
    bounds.govern(40.0)
    assert bounds.policy.setting == BatchSetting(target, 40.0)
    bounds.configure(config(tune=tune, max_wait_ms=20))  # the governor's goes before
    assert bounds.policy.setting.window_ms == 40.0
    bounds.govern(None)
    assert bounds.policy.setting == BatchSetting(target, 20.0)


def test_the_counters_tell_the_bounds_and_the_tuned_setting() -> None:
    bounds = BatchBounds(config(tune=True))
    bounds.govern(40.0)
    counters = bounds.counted(PipelineCounters.zero())
    assert counters.batching == BatchSetting(8, 40.0)
    assert counters.tuned == BatchSetting(4, 40.0)
    assert BatchBounds(config()).counted(PipelineCounters.zero()).tuned is None
