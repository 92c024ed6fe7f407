from __future__ import annotations

import json
from typing import Any, Dict

import pytest

from edge.publish.late import told_late
from edge.publish.payload import detections_payload
from tests.publish import samples

MADE_MS = samples.CAPTURED_UNIX_MS


def payload(*, is_clock_synced: bool = True) -> bytes:
    return detections_payload(
        samples.frame_result(), samples.HEADER, samples.MODEL, is_clock_synced=is_clock_synced
    ).to_json()


@pytest.mark.parametrize(
    ("shift_ms", "is_replayed", "changed"),
    [
        pytest.param(0, True, {"replayed": True}, id="replayed: its time stays"),
        pytest.param(
            86_400_000,
            False,
            {"ts": "2026-11-23T12:50:30.123Z", "ts_ms": MADE_MS + 86_400_000, "clock_synced": True},
            id="the clock was set before it was sent",
        ),
        pytest.param(
            -MADE_MS - 1,
            True,
            {"replayed": True, "ts": "1970-01-01T00:00:00.000Z", "ts_ms": 0, "clock_synced": True},
            id="never before 1970",
        ),
    ],
)
def test_only_what_is_late_changes(
    shift_ms: int, is_replayed: bool, changed: Dict[str, Any]
) -> None:
    before = payload(is_clock_synced=False)
    after = told_late(before, shift_ms, is_replayed=is_replayed)
    assert json.loads(after) == {**json.loads(before), **changed}


def test_bytes_are_those_of_a_live_message() -> None:
    assert told_late(payload(), 0, is_replayed=False) == payload()
