"""OpenCV's VideoCapture, its errors in our words, and what this build of it can do."""

from __future__ import annotations

import functools
import logging
import os
import re
from typing import Any, Optional, Protocol, Sequence, Tuple

import cv2
import numpy as np

from edge.errors import CaptureError
from edge.geometry import Image

log = logging.getLogger(__name__)

_AV_LOG_QUIET = -8
_GSTREAMER_IN_BUILD = re.compile(r"^\s*GStreamer:\s+YES", re.MULTILINE)


class Capture(Protocol):
    """What is used of a cv2.VideoCapture."""

    def isOpened(self) -> bool:
        """Whether it was opened and not released since."""

    def get(self, prop: int, /) -> float:
        """A property's value; 0 where there is none."""

    def read(self) -> Tuple[bool, Any]:
        """Whether there was a picture, and the picture."""

    def release(self) -> None:
        """Closes it."""


def open_capture(target: str, backend: int, params: Sequence[int] = ()) -> cv2.VideoCapture:
    """Opens `target`; whether that worked, the capture's `isOpened` tells.

    Raises CaptureError, without naming `target`, if OpenCV itself fails.
    """
    try:
        return cv2.VideoCapture(target, backend, list(params))
    except cv2.error as error:
        raise CaptureError(f"OpenCV cannot capture: {error.err}") from error


def read_image(capture: Capture) -> Optional[Image]:
    """Waits for the next picture as OpenCV hands it over, uint8; None if there is none.

    Raises CaptureError if OpenCV itself fails.
    """
    try:
        ok, image = capture.read()
    except cv2.error as error:
        raise CaptureError(f"OpenCV cannot decode a frame: {error.err}") from error
    return np.asarray(image, np.uint8) if ok else None


def bgr_from_nv12(image: Image) -> Image:
    """Turns NV12, uint8 [h * 3 / 2, w], into BGR [h, w, 3]; both sides must be even.

    With the colours of BT.601 whatever the stream says, like OpenCV 4.5.4 decoding in software.
    """
    try:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_YUV2BGR_NV12), np.uint8)
    except cv2.error as error:
        raise CaptureError(f"a picture of shape {image.shape} is no NV12: {error.err}") from error


def turned(image: Image, degrees: int) -> Image:
    """Turns a picture clockwise by 0, 90, 180 or 270 degrees; contiguous."""
    codes = {
        90: cv2.ROTATE_90_CLOCKWISE,
        180: cv2.ROTATE_180,
        270: cv2.ROTATE_90_COUNTERCLOCKWISE,
    }
    return np.asarray(cv2.rotate(image, codes[degrees]), np.uint8) if degrees else image


def has_gstreamer() -> bool:
    """Tells whether this OpenCV was built with GStreamer; pip's never is."""
    return mentions_gstreamer(cv2.getBuildInformation())


def mentions_gstreamer(build_information: str) -> bool:
    """Tells whether OpenCV's words about its build list GStreamer as there."""
    return _GSTREAMER_IN_BUILD.search(build_information) is not None


def opencv_in_words() -> str:
    """Version and place of the OpenCV that Python found."""
    return f"OpenCV {cv2.__version__} in {os.path.dirname(cv2.__file__)}"


@functools.lru_cache(maxsize=None)
def silence_decoders() -> None:
    """Keeps FFmpeg's and OpenCV's own lines off stderr, where this OpenCV lets itself be told.

    To be called before any camera's thread runs, as it changes the environment; it does so once.
    """
    if log.isEnabledFor(logging.DEBUG):
        return
    # Read when OpenCV first opens something with FFmpeg; OpenCV 4.5.4 does not know it.
    os.putenv("OPENCV_FFMPEG_LOGLEVEL", str(_AV_LOG_QUIET))
    opencv_logging = getattr(cv2.utils, "logging", None)  # absent from OpenCV 4.5.4
    if opencv_logging is not None:
        opencv_logging.setLogLevel(opencv_logging.LOG_LEVEL_ERROR)
