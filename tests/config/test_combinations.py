from __future__ import annotations

from typing import Any, Dict, List

import pytest

from edge.config.combinations import contradictions, fillable_rows, idle_keys
from edge.config.schema import Config, EngineConfig


def config(batching: Dict[str, Any], *cameras: Dict[str, Any]) -> Config:
    """A configuration of the given cameras; without any, of two ordinary ones."""
    named = [
        {"name": f"cam{n}", "uri": "a.mp4", **camera}
        for n, camera in enumerate(cameras or [{}, {}])
    ]
    return Config.model_validate(
        {"model": {"path": "a.onnx"}, "batching": batching, "cameras": named}
    )


PRIORITY = {"priority": True}


@pytest.mark.parametrize(
    ("cameras", "per_camera", "expected"),
    [
        pytest.param([{}, {}, {}], 1, 3, id="one row each"),
        pytest.param([{}, {}, {}], 4, 12, id="four rows each"),
        pytest.param([{}, PRIORITY], 1, 1, id="priority cameras travel alone"),
        pytest.param([{}, {"enabled": False}], 1, 1, id="a disabled one sends nothing"),
        pytest.param([PRIORITY], 1, 0, id="nobody shares"),
    ],
)
def test_rows_that_the_cameras_can_fill(
    cameras: List[Dict[str, Any]], per_camera: int, expected: int
) -> None:
    assert fillable_rows(config({"max_frames_per_camera": per_camera}, *cameras)) == expected


@pytest.mark.parametrize(
    ("engine", "is_wrong"),
    [
        pytest.param({"backend": "tensorrt", "device": "cpu"}, True, id="tensorrt on a CPU"),
        pytest.param({"backend": "tensorrt", "device": "cuda"}, False, id="tensorrt on a GPU"),
        pytest.param({"backend": "tensorrt"}, False, id="tensorrt anywhere"),
        pytest.param({"backend": "onnxruntime", "device": "cpu"}, False, id="onnxruntime"),
        pytest.param({"device": "cpu"}, False, id="a CPU, whatever the backend"),
    ],
)
def test_tensorrt_has_no_cpu(engine: Dict[str, str], is_wrong: bool) -> None:
    # Two faults at once: neither hides the other.
    made = config({"max_wait_ms": 20}, {"max_staleness_ms": 5}, {})
    made = made.model_copy(update={"engine": EngineConfig.model_validate(engine)})
    keys = [key for key, _ in contradictions(made)]
    assert keys == [("engine", "device")] * is_wrong + [("cameras", 0, "max_staleness_ms")]


def test_a_key_of_another_kind_of_source_is_a_contradiction() -> None:
    made = config({}, {}, {"sensor_mode": 1, "latency_ms": 5})
    keys = [key for key, _ in contradictions(made)]
    assert keys == [("cameras", 1, "sensor_mode"), ("cameras", 1, "latency_ms")]


TWO_OF = {
    "longer than the wait": ({"max_wait_ms": 20}, {"max_staleness_ms": 20.1}, False),
    "as long": ({"max_wait_ms": 20}, {"max_staleness_ms": 20}, True),
    "shorter": ({"max_wait_ms": 20}, {"max_staleness_ms": 5}, True),
    "the wait is the default": ({}, {"max_staleness_ms": 5}, False),
    "no limit": ({"max_wait_ms": 1000}, {}, False),
    "priority frames do not wait": (
        {"max_wait_ms": 20},
        {"max_staleness_ms": 5, **PRIORITY},
        False,
    ),
    "the wait is the longest only": (
        {"max_wait_ms": 20, "window": "auto"},
        {"max_staleness_ms": 5},
        False,
    ),
    "tuning moves the wait": ({"max_wait_ms": 20, "tune": True}, {"max_staleness_ms": 5}, False),
    "single frames do not wait": (
        {"max_wait_ms": 20, "target": 1},
        {"max_staleness_ms": 5},
        False,
    ),
}


@pytest.mark.parametrize(("batching", "camera", "is_one"), TWO_OF.values(), ids=TWO_OF)
def test_waiting_longer_than_a_frame_is_fresh_is_a_contradiction(
    batching: Dict[str, Any], camera: Dict[str, Any], is_one: bool
) -> None:
    found = list(contradictions(config(batching, {}, camera, {})))
    assert [key for key, _ in found] == [("cameras", 1, "max_staleness_ms")] * is_one
    assert all("batching.max_wait_ms" in reason for _, reason in found)


IDLE: Dict[str, Any] = {
    "defaults": ({}, [], []),
    "tune one row": ({"tune": True, "target": 1}, [], ["batching.tune does nothing: no batch"]),
    "tune two rows": ({"tune": True, "target": 2}, [], []),
    "tune one camera": ({"tune": True}, [{}], ["batching.tune does nothing: no batch"]),
    "align one row": ({"align_ms": 5, "target": 1}, [], ["batching.align_ms does nothing"]),
    "tune and align without a shared camera": (
        {"tune": True, "align_ms": 5},
        [PRIORITY, PRIORITY],
        ["batching.tune does nothing: every camera", "batching.align_ms does nothing: every"],
    ),
    "one shared camera is one": ({"align_ms": 5}, [PRIORITY, {}, {}], []),
    "auto without a wait": (
        {"window": "auto", "max_wait_ms": 0},
        [],
        ["batching.window does nothing: max_wait_ms is 0"],
    ),
    "auto with a wait": ({"window": "auto", "max_wait_ms": 0.5}, [], []),
    "more rows per camera than rows": (
        {"max_frames_per_camera": 9},
        [],
        ["batching.max_frames_per_camera is 9, but a batch is full at 8 frames"],
    ),
    "as many rows per camera as rows": ({"max_frames_per_camera": 8}, [], []),
    "stale within the default wait": (
        {},
        [{}, {"max_staleness_ms": 10}],
        ["cameras cam1: max_staleness_ms is 10, and a batch waits up to 10 ms"],
    ),
    "a contradiction is not said again": (
        {"max_wait_ms": 10},
        [{}, {"max_staleness_ms": 10}],
        [],
    ),
}


@pytest.mark.parametrize(("batching", "cameras", "expected"), IDLE.values(), ids=IDLE)
def test_what_has_no_effect_is_said(
    batching: Dict[str, Any], cameras: List[Dict[str, Any]], expected: List[str]
) -> None:
    made = config(batching, *cameras)
    found = list(idle_keys(made, made.batching.target))
    assert len(found) == len(expected)
    assert all(words.startswith(start) for words, start in zip(found, expected))
