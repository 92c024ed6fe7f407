"""What is built by which plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import pytest

from edge.building.plan import BuildPlan
from edge.config.schema import Config
from edge.records import Lane


def plan(module: Optional[str] = None, **engine: Any) -> BuildPlan:
    config = {
        "model": {"path": Path("parts.onnx")},
        "engine": {"backend": "onnxruntime", **engine},
        "cameras": [{"name": "a", "uri": "synthetic://1"}],
    }
    return BuildPlan.of(Config.model_validate(config), module)


@pytest.mark.parametrize(
    ("engine", "module", "expected"),
    [
        ({}, None, 32),
        ({"max_batch": 31}, None, 31),
        ({"max_batch": 64}, None, 64),
        ({}, "Jetson Xavier NX", 8),
        ({"max_batch": 64}, "Jetson Xavier NX", 8),
        ({"max_batch": 4}, "Jetson Xavier NX", 4),
    ],
)
def test_the_largest_batch(engine: Dict[str, Any], module: Optional[str], expected: int) -> None:
    assert plan(module, **engine).max_batch == expected


def test_the_others_are_told_apart_in_a_child_process() -> None:
    shared = plan(dla_core=0)
    for of in (shared, shared.of_at_most(4), shared.for_priority()):
        assert BuildPlan.model_validate_json(of.model_dump_json()) == of
    assert (shared.of_at_most(4).max_batch, shared.of_at_most(4).lane) == (4, Lane.BATCH)
    priority = shared.for_priority()
    assert (priority.max_batch, priority.lane) == (1, Lane.PRIORITY)
