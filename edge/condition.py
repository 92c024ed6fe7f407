"""What the parts make of the appliance's condition.

Part of the composition root, with `app.py`.
"""

from __future__ import annotations

from typing import Sequence, Tuple

from edge.publish.payload import ApplianceState
from edge.records import CameraState, CameraStatus, PictureState

_NOT_DELIVERING = (CameraState.OFFLINE, CameraState.STALLED)
# Black is no trouble: a room at night is.
_WORTHLESS = (PictureState.FROZEN, PictureState.COVERED)


def appliance_state(
    cameras: Sequence[CameraStatus], outbox_trouble: str = ""
) -> Tuple[ApplianceState, str]:
    """What they make of the appliance: ready only if a camera delivers and nothing has trouble."""
    trouble = [words for words in map(_trouble, cameras) if words]
    if outbox_trouble:
        trouble.append(f"outbox: {outbox_trouble}; it keeps messages in memory")
    states = {status.state for status in cameras}
    if trouble:
        return ApplianceState.DEGRADED, "; ".join(trouble)
    if CameraState.ONLINE in states:
        return ApplianceState.READY, ""
    if CameraState.STARTING in states:
        return ApplianceState.BUILDING, "waiting for the first frame"
    return ApplianceState.DEGRADED, "no camera delivers: all are disabled or have ended"


def _trouble(status: CameraStatus) -> str:
    if status.state in _NOT_DELIVERING:
        return f"camera {status.camera} {status.state.value}: {status.reason}"
    if status.picture in _WORTHLESS:
        return f"camera {status.camera}: {status.reason}"
    return ""
