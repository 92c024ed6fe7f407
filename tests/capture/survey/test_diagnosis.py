from __future__ import annotations

import os
from pathlib import Path
from typing import List, Optional

import pytest

from edge.capture.survey.diagnosis import diagnose, diagnose_v4l2
from edge.capture.survey.finding import Finding
from edge.capture.survey.v4l2_devices import V4l2Device
from edge.config.schema import CameraConfig


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("rtsp://127.0.0.1:9/s", "127.0.0.1:9 refuses the connection"),
        ("csi://0", "no CSI sensor was found"),
        ("/dev/video4711", "/dev/video4711 is not connected"),
        ("synthetic://1", None),
        ("clip.mp4", None),
        ("gstreamer:videotestsrc", None),
    ],
)
def test_each_kind_has_its_own(uri: str, reason: Optional[str], tmp_path: Path) -> None:
    camera = CameraConfig.model_validate({"name": "gate", "uri": uri})
    finding = diagnose(camera, tmp_path)
    assert (finding and finding.reason) == reason


def connected(folder: Path) -> List[V4l2Device]:
    busy = Finding("in use by ffmpeg (process 8)", "stop it")
    stable = Path("/dev/v4l/by-id/usb-cam")
    return [
        V4l2Device(folder / "video0", stable_name=stable, card="Webcam", driver="uvcvideo"),
        V4l2Device(folder / "video2", card="Other", driver="uvcvideo", trouble=busy),
        V4l2Device(folder / "video4", card="vi-output, imx219 9-0010", driver="tegra-video"),
    ]


@pytest.mark.parametrize(
    ("name", "reason", "advice"),
    [
        ("video0", "", "another USB port"),
        ("by-id-name", "", "another USB port"),
        ("video2", "in use by ffmpeg", "stop it"),
        ("video4", "raw end of a CSI sensor (vi-output, imx219 9-0010)", "csi://0"),
        ("video1", "is no camera", "connected are: /dev/v4l/by-id/usb-cam"),
        ("video9", "is not connected", "video2"),
    ],
)
def test_why_a_camera_of_this_machine_is_silent(
    name: str, reason: str, advice: str, tmp_path: Path
) -> None:
    for node in ("video0", "video1", "video2", "video4"):
        (tmp_path / node).touch()
    os.symlink(tmp_path / "video0", tmp_path / "by-id-name")
    finding = diagnose_v4l2(tmp_path / name, connected(tmp_path))
    assert finding is not None
    assert reason in finding.reason
    assert advice in finding.advice
    assert bool(finding.reason) is bool(reason)


def test_with_nothing_connected_the_cable_is_to_be_checked(tmp_path: Path) -> None:
    finding = diagnose_v4l2(tmp_path / "video0", [])
    assert finding is not None
    assert "lsusb" in finding.advice
