from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from edge.capture.device import claim_of, device_of
from edge.config.schema import CameraConfig


def camera(uri: str, **keys: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": "gate", "uri": uri, **keys})


@pytest.mark.parametrize(
    ("uri", "device"),
    [
        pytest.param("/dev/video3", Path("/dev/video3"), id="usb"),
        pytest.param("/dev/v4l/by-id/usb-x", Path("/dev/v4l/by-id/usb-x"), id="usb by name"),
        pytest.param("rtsp://gate/s", None, id="network"),
        pytest.param("clip.mp4", None, id="file"),
    ],
)
def test_whose_plug_can_be_seen(uri: str, device: Optional[Path]) -> None:
    assert device_of(camera(uri)) == device


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        pytest.param("/dev/video0", "/dev/video0", True, id="one device"),
        pytest.param("/dev/video0", "/dev/v4l/by-id/usb-x", True, id="one device by two names"),
        pytest.param("/dev/video1", "/dev/v4l/by-id/usb-x", False, id="two devices"),
        pytest.param("csi://0", "csi://0", True, id="one sensor"),
        pytest.param("csi://0", "csi://1", False, id="two sensors"),
        pytest.param("rtsp://u:p@h/s", "rtsp://u:p@h:554/s", False, id="written otherwise"),
        pytest.param("rtsp://u:p@h/s", "rtsp://u:p@h/s", True, id="one stream"),
        pytest.param("rtsp://u:p@h/s", "rtsp://u:p@h/t", False, id="two streams"),
        pytest.param("gstreamer:v4l2src ! x", "gstreamer:v4l2src ! x", True, id="one pipeline"),
    ],
)
def test_who_must_wait_for_whom(
    one: str, other: str, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = {"/dev/v4l/by-id/usb-x": "/dev/video0"}
    monkeypatch.setattr("os.path.realpath", lambda path: links.get(str(path), str(path)))
    assert (claim_of(camera(one)) == claim_of(camera(other))) is is_shared
    assert claim_of(camera(one)) is not None


@pytest.mark.parametrize(
    ("uri", "is_enabled"), [("clip.mp4", True), ("synthetic://1", True), ("csi://0", False)]
)
def test_what_many_may_have_open_is_nobodys(uri: str, is_enabled: bool) -> None:
    assert claim_of(camera(uri, enabled=is_enabled)) is None
