from __future__ import annotations

import dataclasses
import json
from typing import Any, Dict

import jsonschema
import pytest

from edge.config.schema import Precision
from edge.publish.engine_payload import engine_payload
from edge.publish.schemas import all_schemas
from edge.records import BuildPhase, BuildProgress, EngineState, EngineStatus, GateOutcome
from tests.publish import samples

FULL = EngineStatus(
    EngineState.IMPROVING,
    wanted=Precision.INT8,
    serving=Precision.FP16,
    progress=BuildProgress(BuildPhase.CALIBRATING, Precision.INT8, 0.34567, "batch 17 of 50"),
    eta_s=61.249,
    cache={Precision.FP16: "hit", Precision.INT8: "none was built yet"},
    gate=GateOutcome(Precision.FP16, "pass", 0.00123456, 812, "as good as fp32"),
    message="",
)


def sent(status: EngineStatus) -> Dict[str, Any]:
    message: Dict[str, Any] = json.loads(engine_payload(status, samples.HEADER).to_json())
    jsonschema.validate(message, all_schemas()["edge.engine/1"])
    return message


def test_everything_that_is_known_is_told() -> None:
    message = sent(FULL)
    assert (message["state"], message["wanted"]) == ("improving", "int8")
    assert message["serving"] == "fp16"
    assert message["build"] == {
        "precision": "int8",
        "phase": "calibrating",
        "percent": 34.6,
        "eta_s": 61.2,
        "message": "batch 17 of 50",
    }
    assert message["cache"] == {"fp16": "hit", "int8": "none was built yet"}
    assert message["gate"] == {
        "precision": "fp16",
        "verdict": "pass",
        "loss": 0.00123,
        "boxes": 812,
        "summary": "as good as fp32",
    }


def test_what_is_unknown_is_absent() -> None:
    message = sent(EngineStatus(EngineState.LOADING, Precision.FP32))
    assert not {"serving", "build", "gate", "priority"} & set(message)


def test_the_engine_of_priority_cameras_is_told_beside_the_shared_one() -> None:
    priority = EngineStatus(
        EngineState.FAILED,
        wanted=Precision.FP16,
        cache={Precision.FP16: "none was built yet"},
        message="priority frames go on through the shared engine: no room",
    )
    message = sent(dataclasses.replace(FULL, priority=priority))
    assert (message["state"], message["serving"]) == ("improving", "fp16")
    assert message["priority"] == {
        "state": "failed",
        "cache": {"fp16": "none was built yet"},
        "message": "priority frames go on through the shared engine: no room",
    }
    message = sent(dataclasses.replace(FULL, priority=FULL))
    same = ("state", "serving", "build", "cache", "gate", "message")
    assert message["priority"] == {name: message[name] for name in same}


@pytest.mark.parametrize("done", [None, 0.0, 1.0])
def test_how_far_a_build_is(done: float) -> None:
    progress = BuildProgress(BuildPhase.BUILDING, Precision.FP16, done)
    message = sent(EngineStatus(EngineState.BUILDING, Precision.FP16, progress=progress))
    assert message["build"].get("percent") == (None if done is None else 100 * done)
