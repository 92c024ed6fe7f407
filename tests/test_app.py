from __future__ import annotations

import pytest

from edge.app import appliance_state
from edge.publish.payload import ApplianceState
from edge.records import CameraState, CameraStatus

ONLINE, STARTING = CameraState.ONLINE, CameraState.STARTING
OFFLINE, STALLED = CameraState.OFFLINE, CameraState.STALLED
DISABLED, ENDED = CameraState.DISABLED, CameraState.ENDED


@pytest.mark.parametrize(
    ("cameras", "expected", "reason"),
    [
        pytest.param([ONLINE], ApplianceState.READY, "", id="one online"),
        pytest.param([ONLINE, STARTING], ApplianceState.READY, "", id="one still starting"),
        pytest.param([ONLINE, DISABLED, ENDED], ApplianceState.READY, "", id="others at rest"),
        pytest.param([STARTING], ApplianceState.BUILDING, "first frame", id="all starting"),
        pytest.param([ONLINE, OFFLINE], ApplianceState.DEGRADED, "cam1 offline", id="one offline"),
        pytest.param([STALLED], ApplianceState.DEGRADED, "cam0 stalled", id="only one, stalled"),
        pytest.param([STARTING, OFFLINE], ApplianceState.DEGRADED, "cam1", id="offline at start"),
        pytest.param([DISABLED], ApplianceState.DEGRADED, "no camera", id="all disabled"),
        pytest.param([ENDED, DISABLED], ApplianceState.DEGRADED, "no camera", id="all ended"),
    ],
)
def test_the_cameras_make_the_state(
    cameras: list[CameraState], expected: ApplianceState, reason: str
) -> None:
    statuses = [
        CameraStatus(f"cam{number}", state, 0, "because") for number, state in enumerate(cameras)
    ]
    state, words = appliance_state(statuses)
    assert state is expected
    assert reason in words
    assert bool(words) == bool(reason)
