from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.capture.pipelines import (
    HardwareFeed,
    Stage,
    complete,
    csi_feed,
    delivered_size,
    file_feed,
    launch_line,
    quoted,
    rtsp_feed,
    v4l2_feed,
)
from edge.config.camera import CameraConfig
from edge.config.camera_uri import CsiSpec, MediaSpec, RtspSpec, V4l2Spec

NV12 = "nvvidconv ! video/x-raw,format=NV12,width=640,height=360 ! "
LIVE = "appsink sync=false max-buffers=1 drop=true"
DECODED = "nvv4l2decoder enable-max-performance=1 ! "
RTSP_TIMES = "drop-on-latency=true timeout=5000000 tcp-timeout=5000000 ! "
RTP = "application/x-rtp,media=video ! "


def feed_of(uri: str, keys: Dict[str, Any]) -> HardwareFeed:
    camera = CameraConfig.model_validate({"name": "gate", "uri": uri, **keys})
    spec = camera.uri.resolve(Path("/data"))
    if isinstance(spec, CsiSpec):
        return csi_feed(spec, camera)
    if isinstance(spec, V4l2Spec):
        return v4l2_feed(spec, camera)
    if isinstance(spec, RtspSpec):
        return rtsp_feed(spec, camera)
    assert isinstance(spec, MediaSpec)
    return file_feed(spec.path, camera)


GOLDEN: Dict[str, Tuple[str, Dict[str, Any], str]] = {
    "csi": (
        "csi://0",
        {},
        "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),format=NV12,width=1920,"
        "height=1080,framerate=30/1 ! " + NV12 + LIVE,
    ),
    "csi with every key": (
        "csi://1",
        {
            "size_wh": [1280, 720],
            "capture_fps": 59.94,
            "sensor_mode": 2,
            "exposure_ms": 2.5,
            "rotate": 180,
        },
        'nvarguscamerasrc sensor-id=1 sensor-mode=2 exposuretimerange="2500000 2500000" ! '
        "video/x-raw(memory:NVMM),format=NV12,width=1280,height=720,framerate=60000/1001 ! "
        "nvvidconv flip-method=2 ! video/x-raw,format=NV12,width=640,height=360 ! " + LIVE,
    ),
    "usb mjpeg": (
        "/dev/video0",
        {"pixel_format": "mjpeg", "size_wh": [1920, 1080], "capture_fps": 30},
        'v4l2src device="/dev/video0" ! image/jpeg,width=1920,height=1080,framerate=30/1 ! '
        "jpegparse ! nvv4l2decoder mjpeg=1 ! " + NV12 + LIVE,
    ),
    "usb yuyv": (
        "/dev/v4l/by-id/cam",
        {"pixel_format": "yuyv", "capture_fps": 7.5},
        'v4l2src device="/dev/v4l/by-id/cam" ! video/x-raw,format=YUY2,framerate=15/2 ! '
        + NV12
        + LIVE,
    ),
    "usb exposure": (
        "/dev/video2",
        {"pixel_format": "mjpeg", "exposure_ms": 5},
        'v4l2src device="/dev/video2" extra-controls="c,exposure_auto=1,exposure_absolute=50,'
        'auto_exposure=1,exposure_time_absolute=50" ! image/jpeg ! jpegparse ! '
        "nvv4l2decoder mjpeg=1 ! " + NV12 + LIVE,
    ),
    "rtsp": (
        "rtsp://10.0.0.5/s?a=1&b=2",
        {},
        'rtspsrc location="rtsp://10.0.0.5/s?a=1&b=2" protocols=tcp latency=100 '
        + RTSP_TIMES
        + RTP
        + "parsebin ! "
        + DECODED
        + NV12
        + LIVE,
    ),
    "rtsp h264 over udp": (
        "rtsp://viewer:p%40s%20s@10.0.0.5:8554/s",
        {"codec": "h264", "transport": "udp", "latency_ms": 0},
        'rtspsrc location="rtsp://10.0.0.5:8554/s" user-id=viewer user-pw="p@s s" protocols=udp '
        "latency=0 " + RTSP_TIMES + RTP + "rtph264depay ! h264parse ! " + DECODED + NV12 + LIVE,
    ),
    "rtsps h265": (
        "rtsps://h/s",
        {"codec": "h265", "rotate": 90},
        'rtspsrc location="rtsps://h/s" protocols=tcp latency=100 '
        + RTSP_TIMES
        + RTP
        + "rtph265depay ! h265parse ! "
        + DECODED
        + "nvvidconv flip-method=3 ! video/x-raw,format=NV12,width=640,height=360 ! "
        + LIVE,
    ),
    "file": (
        'clips/a "b".mp4',
        {"rotate": 270},
        'filesrc location="/data/clips/a \\"b\\".mp4" ! parsebin ! '
        + DECODED
        + "nvvidconv flip-method=1 ! video/x-raw,format=NV12,width=640,height=360 ! "
        "appsink sync=false max-buffers=1 drop=false",
    ),
}


@pytest.mark.parametrize(("uri", "keys", "line"), GOLDEN.values(), ids=GOLDEN)
def test_each_camera_has_its_pipeline(uri: str, keys: Dict[str, Any], line: str) -> None:
    assert launch_line(feed_of(uri, keys).pipeline((640, 360))) == line


def test_without_a_size_the_pictures_come_as_they_are() -> None:
    stages = feed_of("rtsp://h/s", {}).pipeline(None)
    assert [str(stage) for stage in stages[-3:]] == ["nvvidconv", "video/x-raw,format=NV12", LIVE]


@pytest.mark.parametrize(
    ("uri", "keys", "native_wh"),
    [
        ("csi://0", {}, (1920, 1080)),
        ("csi://0", {"size_wh": [640, 480]}, (640, 480)),
        ("/dev/video0", {"pixel_format": "mjpeg"}, None),
        ("/dev/video0", {"pixel_format": "yuyv", "size_wh": [640, 480]}, (640, 480)),
        ("rtsp://h/s", {}, None),
        ("a.mp4", {}, None),
    ],
)
def test_where_the_size_is_known_beforehand(
    uri: str, keys: Dict[str, Any], native_wh: Optional[Tuple[int, int]]
) -> None:
    assert feed_of(uri, keys).native_wh == native_wh


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_quarter_turn_swaps_the_sides(degrees: int) -> None:
    upright = feed_of("csi://0", {"rotate": degrees}).upright((1920, 1080))
    assert upright == ((1080, 1920) if degrees in (90, 270) else (1920, 1080))


@pytest.mark.parametrize(
    ("fps", "caps"),
    [
        (30, "30/1"),
        (29.97, "30000/1001"),
        (23.976, "24000/1001"),
        (59.94, "60000/1001"),
        (29.98, "1499/50"),
        (12.5, "25/2"),
        (120, "120/1"),
    ],
)
def test_rates_are_fractions(fps: float, caps: str) -> None:
    stages = feed_of("csi://0", {"capture_fps": fps}).stages
    assert dict(stages[1].properties)["framerate"] == caps


DELIVERED = {
    "hd to a square": ((1920, 1080), (640, 640), (640, 360)),
    "4:3": ((2592, 1944), (640, 640), (640, 480)),
    "portrait": ((1080, 1920), (640, 640), (360, 640)),
    "a wide model": ((1920, 1080), (640, 384), (640, 360)),
    "trimmed to even and to fours": ((1000, 563), (416, 416), (416, 234)),
    "an odd height": ((1366, 769), (320, 320), (320, 180)),
    "a narrow rest": ((1000, 1002), (100, 100), (100, 100)),
    "never enlarged": ((320, 240), (640, 640), (320, 240)),
    "as large as the model": ((640, 360), (640, 640), (640, 360)),
    "full": ((1920, 1080), None, (1920, 1080)),
    "full of a width of no fours": ((1366, 769), None, (1364, 768)),
}


@pytest.mark.parametrize(("source_wh", "model_wh", "expected"), DELIVERED.values(), ids=DELIVERED)
def test_the_size_that_is_handed_over(
    source_wh: Tuple[int, int], model_wh: Optional[Tuple[int, int]], expected: Tuple[int, int]
) -> None:
    assert delivered_size(source_wh, model_wh) == expected


sides = st.integers(16, 8192)


@given(st.tuples(sides, sides), st.tuples(st.integers(32, 2048), st.integers(32, 2048)))
def test_any_size_suits_opencv_and_the_letterbox(
    source_wh: Tuple[int, int], model_wh: Tuple[int, int]
) -> None:
    width, height = delivered_size(source_wh, model_wh)
    assert width % 4 == 0
    assert height % 2 == 0
    assert 4 <= width <= max(source_wh[0], 4)
    assert 2 <= height <= source_wh[1]


def unquoted(text: str) -> str:
    """What gst-launch makes of a value: only what is quoted may hold more than a word."""
    if not text.startswith('"'):
        assert re.fullmatch(r"[A-Za-z0-9-]+", text)
        return text
    match = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', text, re.DOTALL)
    assert match is not None
    return re.sub(r"\\(.)", r"\1", match.group(1), flags=re.DOTALL)


@given(st.text())
def test_any_value_is_read_back_from_its_quotes(value: str) -> None:
    assert unquoted(quoted(value)) == value


def test_no_location_adds_an_element() -> None:
    stage = Stage("filesrc", (("location", 'a" ! fakesink name="x'),))
    assert str(stage) == 'filesrc location="a\\" ! fakesink name=\\"x"'


ADDED = " ! videoconvert ! video/x-raw,format=BGR ! " + LIVE


@pytest.mark.parametrize(
    ("line", "added"),
    [
        ("videotestsrc", ADDED),
        ("videotestsrc ! appsink drop=true", ""),
        ("videotestsrc ! appsink", ""),
        ("videotestsrc ! appsinkhole", ADDED),
        ('filesrc location="a ! appsink" ! decodebin', ADDED),
    ],
)
def test_a_users_pipeline_gets_the_end_it_lacks(line: str, added: str) -> None:
    assert complete(line) == line + added
