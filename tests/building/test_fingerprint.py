from __future__ import annotations

from typing import Any, Dict, List

import pytest

from edge.building.fingerprint import BackendKey, CalibrationKey, Fingerprint, GraphKey
from edge.config.schema import CalibrationMethod, Precision, TacticSource

GRAPH = GraphKey(
    model_sha256="a" * 64, graph_sha256="b" * 64, head="yolov8", preprocessing="640x640 rgb /255"
)
BACKEND = BackendKey(
    name="tensorrt", version="8.5.2.2", device="Xavier", compute_capability="7.2", max_batch=8
)
CALIBRATION = CalibrationKey(
    images_sha256="c" * 64,
    method=CalibrationMethod.ENTROPY,
    batch=8,
    holdout=0.2,
    max_loss=0.01,
    min_boxes=500,
)
INT8 = Fingerprint(precision=Precision.INT8, graph=GRAPH, backend=BACKEND, calibration=CALIBRATION)


def test_the_same_is_no_difference() -> None:
    assert INT8.differences(INT8.model_copy(deep=True)) == []


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        (
            "graph",
            {"model_sha256": "d" * 64},
            "graph.model_sha256 was aaaaaaaaaaaa… and is dddddddddddd…",
        ),
        ("backend", {"version": "10.3.0"}, "backend.version was 8.5.2.2 and is 10.3.0"),
        ("backend", {"dla_core": 0}, "backend.dla_core was none and is 0"),
        (
            "backend",
            {"tactic_sources": (TacticSource.CUDNN,)},
            "backend.tactic_sources was none and is ['cudnn']",
        ),
        ("calibration", {"max_loss": 0.02}, "calibration.max_loss was 0.01 and is 0.02"),
        (
            "calibration",
            {"images_sha256": "e" * 64},
            "calibration.images_sha256 was cccccccccccc… and is eeeeeeeeeeee…",
        ),
    ],
)
def test_each_difference_is_named(part: str, change: Dict[str, Any], said: str) -> None:
    changed = getattr(INT8, part).model_copy(update=change)
    now = INT8.model_copy(update={part: changed})
    assert INT8.differences(now) == [said]


def test_several_differences_are_all_named() -> None:
    backend = BACKEND.model_copy(update={"version": "8.6.2", "device": "Orin"})
    named: List[str] = INT8.differences(INT8.model_copy(update={"backend": backend}))
    assert [line.split()[0] for line in named] == ["backend.version", "backend.device"]


def test_it_survives_the_disk() -> None:
    again = Fingerprint.model_validate_json(INT8.model_dump_json())
    assert INT8.differences(again) == []
    assert again.differences(INT8) == []
