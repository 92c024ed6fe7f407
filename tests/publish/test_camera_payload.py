from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Dict

import pytest
from jsonschema import Draft202012Validator

from edge.publish import camera_payload
from edge.publish.envelope import Payload
from edge.publish.schemas import all_schemas
from edge.records import CameraState, DropCause, PictureState
from tests.publish import samples


def sent(message: Payload) -> Dict[str, Any]:
    """The message as a subscriber gets it, checked against its schema."""
    received: Dict[str, Any] = json.loads(message.to_json())
    Draft202012Validator(all_schemas()[received["schema"]]).validate(received)
    return received


@pytest.mark.parametrize("state", list(CameraState))
def test_camera_status(state: CameraState) -> None:
    status = samples.camera_status(state, "no frame for 3 s")
    message = sent(camera_payload.camera_status_payload(status, samples.HEADER))
    assert (message["camera"], message["state"]) == ("dock1", state.value)
    assert message["reason"] == "no frame for 3 s"
    assert message["since"] == "2026-11-22T12:50:30.123Z"
    assert message["since_ms"] == samples.CAPTURED_UNIX_MS
    assert "picture" not in message


@pytest.mark.parametrize("picture", list(PictureState))
def test_what_a_camera_shows(picture: PictureState) -> None:
    status = replace(samples.camera_status(), picture=picture)
    message = sent(camera_payload.camera_status_payload(status, samples.HEADER))
    assert (message["state"], message["picture"]) == ("online", picture.value)


def test_camera_stats() -> None:
    counters = replace(samples.camera_counters(), abandoned=2)
    message = sent(camera_payload.camera_stats_payload(counters, samples.HEADER))
    assert set(message["dropped"]) == {cause.value for cause in DropCause}
    assert (message["dropped"]["superseded"], message["dropped"]["stale"]) == (10, 0)
    assert (message["fps_read"], message["latency_ms_p50"]) == (29.97, 31.04)
    assert (message["reconnects"], message["abandoned"]) == (1, 2)
    assert "latency_ms_p99" not in message
