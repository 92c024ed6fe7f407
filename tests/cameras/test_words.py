from __future__ import annotations

from edge.cameras.words import camera_line, connected_lines, finding_lines, rate_words
from edge.capture.survey.finding import Finding
from edge.capture.survey.v4l2_devices import FrameSize, PixelFormat, V4l2Device
from tests.cameras.samples import (
    DISABLED,
    FAILED,
    GRABBER,
    LOST_SENSOR,
    OK,
    RAW_SENSOR,
    SENSOR,
    WEBCAM,
    view,
)


def test_what_is_connected() -> None:
    devices, sensors = [WEBCAM, GRABBER, RAW_SENSOR], [SENSOR, LOST_SENSOR]
    assert list(connected_lines(devices, sensors)) == [
        "connected csi://0  imx219 9-0010",
        "connected csi://?  imx477 10-001a",
        "          not found",
        "          fix: check the cable",
        "connected /dev/video0  HD Pro Webcam C920: HD Pro Webc (uvcvideo, usb-0000:00:14.0-1)",
        "          /dev/v4l/by-id/usb-046d_C920_1A2B-video-index0",
        "          MJPG  1920x1080 30 fps, 1280x720 30 fps, 800x600 30 fps, 640x480 30 fps, "
        "and 2 smaller",
        "connected /dev/video4  ",
        "          no permission to open it",
        "          fix: sudo usermod -aG video $USER",
    ]


def test_formats_that_are_no_list() -> None:
    ends = (FrameSize((160, 120), (60.0,)), FrameSize((3280, 2464)))
    formats = (
        PixelFormat("YUYV", "YUYV 4:2:2", ends, is_range=True),
        PixelFormat("RG10", "Raw", ()),
    )
    lines = list(connected_lines([V4l2Device(WEBCAM.node, formats=formats)], []))
    assert lines[1:] == ["          YUYV  160x120 60 fps to 3280x2464", "          RG10  Raw"]


def test_nothing_connected() -> None:
    (line,) = connected_lines([], [])
    assert "no USB camera and no CSI sensor" in line


def test_cameras_stand_in_columns_and_hide_their_credentials() -> None:
    cameras = [result.camera for result in (OK, FAILED, DISABLED)]
    assert [camera_line(result, cameras) for result in (OK, FAILED, DISABLED)] == [
        "camera    dock1  ok          640x360   25.0 fps  rtsp://***@10.0.0.5/live",
        "camera    gate   FAILED            -          -  /dev/video0",
        "camera    yard   disabled          -          -  csi://0",
    ]


def test_a_finding_is_one_line_each() -> None:
    assert list(finding_lines(FAILED.finding)) == [
        "          in use by ffmpeg (process 8)",
        "          fix: stop that program first",
    ]
    assert list(finding_lines(Finding("gone"))) == ["          gone"]
    assert list(finding_lines(None)) == []


def test_a_single_frame_has_no_rate() -> None:
    assert rate_words(view(fps=None)) == "-"
    assert rate_words(None) == "-"
