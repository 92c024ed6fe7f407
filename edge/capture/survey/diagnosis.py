"""Why a configured camera does not deliver, by what kind of camera it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional, Sequence

from edge.capture.survey.csi_sensors import diagnose_csi
from edge.capture.survey.finding import Finding
from edge.capture.survey.rtsp_diagnosis import diagnose_rtsp
from edge.capture.survey.v4l2_devices import V4l2Device, find_devices
from edge.config.camera_uri import CsiSpec, RtspSpec, V4l2Spec
from edge.config.schema import CameraConfig

_RTSP_STEP_S = 5.0


def diagnose(camera: CameraConfig, root: Path = Path("/")) -> Optional[Finding]:
    """What is known beyond the source's own words; None if nothing. It takes seconds."""
    spec = camera.uri.resolve(root)
    if isinstance(spec, RtspSpec):
        return diagnose_rtsp(spec, camera.transport, _RTSP_STEP_S)
    if isinstance(spec, CsiSpec):
        return diagnose_csi(spec.sensor, root)
    if isinstance(spec, V4l2Spec):
        return diagnose_v4l2(spec.device, find_devices(root))
    return None


def diagnose_v4l2(device: Path, connected: Sequence[V4l2Device]) -> Optional[Finding]:
    """Why a camera of this machine does not deliver, given all that are connected."""
    node = Path(os.path.realpath(device))
    found = next((camera for camera in connected if camera.node == node), None)
    if found is None:
        return _absent(device, connected)
    if found.trouble is not None:
        return Finding(f"{device}: {found.trouble.reason}", found.trouble.advice)
    if found.is_csi_sensor:
        return Finding(
            f"{device} is the raw end of a CSI sensor ({found.card})",
            "give csi://0 (or its number) as the uri",
        )
    return Finding("", "plug it into another USB port, without a hub; see `dmesg`")


def _absent(device: Path, connected: Sequence[V4l2Device]) -> Finding:
    if not connected:
        advice = "check its cable and `lsusb`; docker run: --device"
    else:
        names = ", ".join(f"{camera.stable_name or camera.node}" for camera in connected)
        advice = f"connected are: {names}"
    is_there = os.path.exists(device)
    return Finding(f"{device} is {'no camera' if is_there else 'not connected'}", advice)
