from __future__ import annotations

from typing import Any, Dict, List

import pytest

from edge.config.camera import CameraConfig
from edge.config.camera_keys import KEYS_OF, misplaced_keys

URIS = {
    "CsiSpec": "csi://0",
    "V4l2Spec": "/dev/video0",
    "RtspSpec": "rtsp://h/s",
    "MediaSpec": "a.mp4",
    "SyntheticSpec": "synthetic://1",
    "GStreamerSpec": "gstreamer:videotestsrc",
}
VALUES: Dict[str, Any] = {
    "size_wh": [640, 480],
    "capture_fps": 30,
    "exposure_ms": 5,
    "sensor_mode": 1,
    "pixel_format": "mjpeg",
    "transport": "udp",
    "latency_ms": 50,
    "codec": "h264",
    "decoder": "auto",
    "rotate": 90,
    "scale": "full",
    "realtime": False,
}


def faults(uri: str, **keys: Any) -> Dict[str, str]:
    camera = CameraConfig.model_validate({"name": "gate", "uri": uri, **keys})
    return dict(misplaced_keys(camera))


@pytest.mark.parametrize("kind", URIS)
@pytest.mark.parametrize("key", KEYS_OF)
def test_a_key_is_for_its_kinds_of_source_only(key: str, kind: str) -> None:
    belongs = kind in [owner.__name__ for owner in KEYS_OF[key]]
    assert list(faults(URIS[kind], **{key: VALUES[key]})) == ([] if belongs else [key])


def test_every_key_of_a_source_is_known() -> None:
    assert set(VALUES) == set(KEYS_OF) <= set(CameraConfig.model_fields)


def test_the_words_say_whose_it_is_and_what_this_is() -> None:
    assert faults("a.mp4", exposure_ms=5) == {
        "exposure_ms": "is for a csi:// camera or a camera of /dev/video0, and this is a file or "
        "folder: leave it out"
    }


CONFLICTS: Dict[str, Any] = {
    "latency in software": ("rtsp://h/s", {"decoder": "software", "latency_ms": 9}, ["latency_ms"]),
    "codec in software": ("rtsp://h/s", {"decoder": "software", "codec": "h264"}, ["codec"]),
    "latency in hardware": ("rtsp://h/s", {"decoder": "hardware", "latency_ms": 9}, []),
    "scaled in software": ("rtsp://h/s", {"decoder": "software", "scale": "model"}, ["scale"]),
    "full in software": ("rtsp://h/s", {"decoder": "software", "scale": "full"}, []),
    "software alone": ("rtsp://h/s", {"decoder": "software"}, []),
    "usb in hardware": ("/dev/video0", {"decoder": "hardware"}, ["decoder"]),
    "usb in hardware, told what": (
        "/dev/video0",
        {"decoder": "hardware", "pixel_format": "yuyv"},
        [],
    ),
    "misplaced and in conflict is said once": (
        "a.mp4",
        {"decoder": "software", "latency_ms": 9},
        ["latency_ms"],
    ),
}


@pytest.mark.parametrize(("uri", "keys", "expected"), CONFLICTS.values(), ids=CONFLICTS)
def test_keys_that_exclude_each_other(uri: str, keys: Dict[str, Any], expected: List[str]) -> None:
    assert list(faults(uri, **keys)) == expected
