from __future__ import annotations

from typing import Tuple

import numpy as np
import pytest

from edge.capture.opencv import (
    bgr_from_nv12,
    has_gstreamer,
    mentions_gstreamer,
    opencv_in_words,
    turned,
)
from edge.errors import CaptureError

BUILD = """
  Video I/O:
    FFMPEG:                      YES
    GStreamer:                   {}
    v4l/v4l2:                    YES (linux/videodev2.h)
"""


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (BUILD.format("YES (1.16.2)"), True),
        (BUILD.format("YES"), True),
        (BUILD.format("NO"), False),
        ("Video I/O:\n  FFMPEG: YES\n", False),
    ],
)
def test_gstreamer_is_found_in_the_build(build: str, expected: bool) -> None:
    assert mentions_gstreamer(build) is expected


def test_pips_opencv_has_no_gstreamer() -> None:
    is_of_pip = "site-packages" in opencv_in_words()
    assert not (is_of_pip and has_gstreamer())


@pytest.mark.parametrize(
    ("yuv", "bgr"),
    [
        ((16, 128, 128), (0, 0, 0)),
        ((235, 128, 128), (255, 255, 255)),
        ((81, 90, 240), (0, 0, 255)),
        ((145, 54, 34), (0, 255, 0)),
        ((41, 240, 110), (255, 0, 0)),
    ],
    ids=["black", "white", "red", "green", "blue"],
)
def test_nv12_has_bt601s_colours(yuv: Tuple[int, ...], bgr: Tuple[int, ...]) -> None:
    image = np.empty((6, 8), np.uint8)
    image[:4] = yuv[0]
    image[4:, 0::2], image[4:, 1::2] = yuv[1], yuv[2]
    made = bgr_from_nv12(image)
    assert made.shape == (4, 8, 3)
    assert np.abs(made.astype(int) - bgr).max() <= 2


def test_what_is_no_nv12_is_an_error() -> None:
    with pytest.raises(CaptureError, match=r"\(5, 8\) is no NV12"):
        bgr_from_nv12(np.zeros((5, 8), np.uint8))


@pytest.mark.parametrize(("degrees", "turns"), [(0, 0), (90, -1), (180, -2), (270, -3)])
def test_turns_are_clockwise(degrees: int, turns: int) -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    made = turned(image, degrees)
    assert np.array_equal(made, np.rot90(image, turns))
    assert made.flags.c_contiguous
