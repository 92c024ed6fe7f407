from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import cv2
import pytest

from edge.capture.v4l2_camera import V4l2Camera, fourcc_in_words, refusals, wishes_of
from edge.config.camera import CameraConfig
from edge.errors import CaptureError

EVERYTHING: Dict[str, Any] = {
    "pixel_format": "mjpeg",
    "size_wh": [1920, 1080],
    "capture_fps": 30,
    "exposure_ms": 5,
}
GIVEN = {
    cv2.CAP_PROP_FOURCC: float(int.from_bytes(b"MJPG", "little")),
    cv2.CAP_PROP_FRAME_WIDTH: 1920.0,
    cv2.CAP_PROP_FRAME_HEIGHT: 1080.0,
    cv2.CAP_PROP_FPS: 30.0,
    cv2.CAP_PROP_AUTO_EXPOSURE: 1.0,
    cv2.CAP_PROP_EXPOSURE: 50.0,
}


def camera(**keys: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": "gate", "uri": "/dev/video0", **keys})


def test_everything_is_asked_for_in_the_drivers_order() -> None:
    wishes = wishes_of(camera(**EVERYTHING))
    assert [wish.prop for wish in wishes] == list(GIVEN)
    assert {wish.prop: float(wish.value) for wish in wishes} == GIVEN


def test_nothing_is_asked_for_by_default() -> None:
    assert wishes_of(camera()) == []


REFUSED: Dict[str, Any] = {
    "all as asked": ({}, []),
    "a rate as near as drivers get": ({cv2.CAP_PROP_FPS: 29.41}, []),
    "a rate too far off": (
        {cv2.CAP_PROP_FPS: 29.39},
        ["capture_fps is 29.39 instead of 30"],
    ),
    "another size": (
        {cv2.CAP_PROP_FRAME_WIDTH: 1280.0, cv2.CAP_PROP_FRAME_HEIGHT: 720.0},
        ["width is 1280 instead of 1920", "height is 720 instead of 1080"],
    ),
    "another format": (
        {cv2.CAP_PROP_FOURCC: float(int.from_bytes(b"YUYV", "little"))},
        ["pixel_format is YUYV instead of MJPG"],
    ),
    "exposure that stays automatic": (
        {cv2.CAP_PROP_AUTO_EXPOSURE: 3.0, cv2.CAP_PROP_EXPOSURE: 15.7},
        ["auto exposure is 3 instead of 1", "exposure_ms is 1.57 instead of 5"],
    ),
    "a driver that tells nothing": (
        {cv2.CAP_PROP_FOURCC: -1.0, cv2.CAP_PROP_FPS: 0.0},
        ["pixel_format is unknown instead of MJPG", "capture_fps is 0 instead of 30"],
    ),
}


@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED)
def test_what_a_driver_refuses_is_said(given: Dict[int, float], words: List[str]) -> None:
    answers = {**GIVEN, **given}
    assert refusals(wishes_of(camera(**EVERYTHING)), answers.__getitem__) == words


@pytest.mark.parametrize(
    ("code", "letters"), [(0x47504A4D, "MJPG"), (0, "unknown"), (-1, "unknown")]
)
def test_a_format_is_four_letters(code: int, letters: str) -> None:
    assert fourcc_in_words(float(code)) == letters


def test_a_device_that_is_no_camera_is_not_asked() -> None:
    with pytest.raises(CaptureError, match="/dev/null is in use by another program"):
        V4l2Camera(Path("/dev/null"), wishes_of(camera(**EVERYTHING))).open()
