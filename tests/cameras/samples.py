"""What a survey may find."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np

from edge.capture.survey.csi_sensors import CsiSensor
from edge.capture.survey.finding import Finding
from edge.capture.survey.probe import ProbeResult, ProbeState, View
from edge.capture.survey.v4l2_devices import FrameSize, PixelFormat, V4l2Device
from edge.config.schema import CameraConfig

SIZES = tuple(
    FrameSize(size_wh, (30.0, 15.0))
    for size_wh in ((320, 240), (1920, 1080), (640, 480), (1280, 720), (160, 120), (800, 600))
)
WEBCAM = V4l2Device(
    node=Path("/dev/video0"),
    stable_name=Path("/dev/v4l/by-id/usb-046d_C920_1A2B-video-index0"),
    card="HD Pro Webcam C920: HD Pro Webc",
    driver="uvcvideo",
    bus="usb-0000:00:14.0-1",
    formats=(PixelFormat("MJPG", "Motion-JPEG", SIZES),),
)
GRABBER = V4l2Device(
    node=Path("/dev/video4"),
    card="",
    trouble=Finding("no permission to open it", "sudo usermod -aG video $USER"),
)
RAW_SENSOR = V4l2Device(Path("/dev/video6"), card="vi-output, imx219 9-0010", driver="tegra-video")
SENSOR = CsiSensor("imx219 9-0010", 0, Path("/dev/video6"))
LOST_SENSOR = CsiSensor("imx477 10-001a", None, None, Finding("not found", "check the cable"))


def camera(name: str, uri: str, **keys: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": name, "uri": uri, **keys})


def view(fps: Optional[float] = 24.96, level: int = 200) -> View:
    image = np.full((360, 640, 3), level, np.uint8)
    return View(image, 25, fps, first_frame_s=0.3217, taken_unix_ms=1_700_000_000_123)


OK = ProbeResult(camera("dock1", "rtsp://admin:secret@10.0.0.5/live"), ProbeState.OK, view())
FAILED = ProbeResult(
    camera("gate", "/dev/video0"),
    ProbeState.FAILED,
    finding=Finding("in use by ffmpeg (process 8)", "stop that program first"),
)
DISABLED = ProbeResult(camera("yard", "csi://0", enabled=False), ProbeState.DISABLED)
