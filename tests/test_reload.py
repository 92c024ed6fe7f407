from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from edge.config.schema import CameraConfig, Config
from edge.reload import compare, needs_new_reader

BELT: Dict[str, Any] = {"name": "belt", "uri": "synthetic://1"}
DOCK: Dict[str, Any] = {"name": "dock", "uri": "rtsp://user:secret@cam/1"}


def config(*cameras: Dict[str, Any], **sections: Dict[str, Any]) -> Config:
    model = {"path": Path("model.onnx"), **sections.pop("model", {})}
    return Config.model_validate({"model": model, "cameras": list(cameras), **sections})


@pytest.mark.parametrize(
    ("after", "words"),
    [
        pytest.param([BELT, DOCK], "", id="the same"),
        pytest.param([DOCK, BELT], "", id="in another order"),
        pytest.param([{**BELT, "fps": None}, DOCK], "", id="a default written out"),
        pytest.param([BELT, DOCK, {**BELT, "name": "gate"}], "added gate", id="one more"),
        pytest.param([DOCK], "removed belt", id="one less"),
        pytest.param([{**BELT, "fps": 3}, DOCK], "changed belt", id="rate"),
        pytest.param(
            [BELT, {**DOCK, "uri": "rtsp://user:other@cam/1"}], "changed dock", id="password"
        ),
        pytest.param(
            [{**BELT, "name": "gate"}, {**DOCK, "priority": True}],
            "added gate; removed belt; changed dock",
            id="all at once",
        ),
    ],
)
def test_cameras_are_known_by_their_names(after: List[Dict[str, Any]], words: str) -> None:
    change = compare(config(BELT, DOCK), config(*after))
    assert change.words == words
    assert change.config == config(*after)
    assert change.restart_keys == ()


@pytest.mark.parametrize(
    ("sections", "live", "restart"),
    [
        pytest.param({}, (), (), id="nothing"),
        pytest.param(
            {
                "postprocess": {"score_threshold": 0.5, "classes": ["a"]},
                "health": {"interval_s": 5},
            },
            ("postprocess.score_threshold", "postprocess.classes", "health.interval_s"),
            (),
            id="all live",
        ),
        pytest.param(
            {"batching": {"target": 3, "max_wait_ms": 4}},
            ("batching.max_wait_ms",),
            ("batching.target",),
            id="half of a section",
        ),
        pytest.param(
            {"mqtt": {"username": "me", "password": "secret"}, "model": {"max_candidates": 9}},
            (),
            ("model.max_candidates", "mqtt.username", "mqtt.password"),
            id="needs a restart",
        ),
    ],
)
def test_what_can_change_live_does_and_the_rest_is_named(
    sections: Dict[str, Dict[str, Any]], live: Tuple[str, ...], restart: Tuple[str, ...]
) -> None:
    running, wanted = config(BELT), config(BELT, **sections)
    change = compare(running, wanted)
    assert (change.live_keys, change.restart_keys) == (live, restart)
    assert change.words == (f"set {', '.join(live)}" if live else "")
    # What needs a restart is found again at the next reading, and nothing else.
    again = compare(change.config, wanted)
    assert (again.live_keys, again.restart_keys) == ((), restart)
    assert compare(change.config, running).live_keys == live


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param({"priority": True}, False, id="lane"),
        pytest.param({"max_staleness_ms": 9, "deadline_ms": 9}, False, id="times on the road"),
        pytest.param({"score_threshold": 0.9}, False, id="score"),
        pytest.param({"priority": True, "fps": 9}, True, id="lane and rate"),
        pytest.param({"uri": "synthetic://2"}, True, id="uri"),
        pytest.param({"enabled": False}, True, id="disabled"),
        pytest.param({"loop": False}, True, id="loop"),
    ],
)
def test_only_what_concerns_the_source_needs_a_new_reader(
    keys: Dict[str, Any], expected: bool
) -> None:
    before, after = (CameraConfig.model_validate({**BELT, **more}) for more in ({}, keys))
    assert needs_new_reader(before, after) is expected
