"""Pictures through OpenCV's VideoCapture: video files, network cameras, USB cameras."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Optional, Sequence

import cv2
import numpy as np

from edge.capture.source import Picture
from edge.clock import NS_PER_MS
from edge.errors import CaptureError
from edge.geometry import Image
from edge.records import TimestampSource

log = logging.getLogger(__name__)

_ASSUMED_FPS = 25.0
_MAX_FPS = 240.0
_OPEN_TIMEOUT_MS = 10_000
# OpenCV 4.5.4 gives up after one such wait, newer ones after three.
_READ_TIMEOUT_MS = 5_000
_AV_LOG_QUIET = -8


class VideoFile:
    """A recording, played at its own pace."""

    def __init__(self, path: Path, *, loop: bool) -> None:
        self._path = path
        self._loop = loop
        self._capture = cv2.VideoCapture()
        self._frame_s = 0.0
        self._frames_played = 0

    def open(self) -> None:
        """Raises CaptureError if the file is missing, may not be read, or is no video."""
        self._frames_played = 0
        self._rewind()
        self._frame_s = 1.0 / playback_fps(self._capture.get(cv2.CAP_PROP_FPS))

    def read(self) -> Optional[Picture]:
        """Decodes the next frame; after the last comes None, or the first again."""
        image = _read(self._capture)
        is_over = image is None and self._frames_played > 0
        if is_over and not self._loop:
            return None
        if is_over:
            self._rewind()
            image = _read(self._capture)
        if image is None:
            raise CaptureError(f"{self._path} holds no frame that can be decoded")
        media_s = self._frames_played * self._frame_s
        self._frames_played += 1
        return Picture(image, media_s)

    def close(self) -> None:
        """Closes the file."""
        self._capture.release()

    def _rewind(self) -> None:
        # Opening again works for every container; seeking fails in raw streams.
        self.close()
        _check_readable(self._path)
        self._capture = _open(str(self._path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise CaptureError(f"{self._path} is not a video, or it is damaged or cut short")


class RtspStream:
    """A network camera; `address` (host:port) stands for the URL in messages."""

    def __init__(self, url: str, address: str) -> None:
        self._url = url
        self._address = address
        self._capture = cv2.VideoCapture()

    def open(self) -> None:
        """Raises CaptureError if the camera does not answer, or refuses."""
        timeouts = (
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS),
        )
        self.close()
        self._capture = _open(self._url, cv2.CAP_FFMPEG, timeouts)
        if not self._capture.isOpened():
            raise CaptureError(
                f"no stream from {self._address}: check network, address, path, user and password"
            )

    def read(self) -> Optional[Picture]:
        """Waits for the next frame; CaptureError when the stream ends or falls silent."""
        image = _read(self._capture)
        if image is None:
            raise CaptureError(f"the stream from {self._address} broke off")
        return Picture(image)

    def close(self) -> None:
        """Hangs up."""
        self._capture.release()


class V4l2Camera:
    """A camera of this machine."""

    def __init__(self, device: Path) -> None:
        self._device = device
        self._capture = cv2.VideoCapture()

    def open(self) -> None:
        """Raises CaptureError if the device is absent, busy, forbidden or no camera."""
        self.close()
        _check_readable(self._device)
        self._capture = _open(str(self._device), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise CaptureError(f"{self._device} is in use by another program, or is no camera")

    def read(self) -> Optional[Picture]:
        """Waits for the next frame; CaptureError when the camera is gone or silent."""
        image = _read(self._capture)
        if image is None:
            raise CaptureError(f"{self._device} stopped delivering: check its cable")
        # For V4L2 this is the driver's time stamp of the buffer, on the monotonic clock.
        captured_ns = int(self._capture.get(cv2.CAP_PROP_POS_MSEC) * NS_PER_MS)
        return Picture(image, captured_ns=captured_ns, ts_source=TimestampSource.V4L2)

    def close(self) -> None:
        """Frees the device."""
        self._capture.release()


def playback_fps(reported_fps: float) -> float:
    """The pace to play a file at: 25 where the container reports nothing credible."""
    return reported_fps if 0 < reported_fps <= _MAX_FPS else _ASSUMED_FPS


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise CaptureError(f"{path} cannot be opened: {error.strerror}") from error


def _open(target: str, backend: int, params: Sequence[int] = ()) -> cv2.VideoCapture:
    try:
        return cv2.VideoCapture(target, backend, list(params))
    except cv2.error as error:
        raise CaptureError(f"OpenCV cannot capture: {error}") from error


def _read(capture: cv2.VideoCapture) -> Optional[Image]:
    try:
        ok, image = capture.read()
    except cv2.error as error:
        raise CaptureError(f"OpenCV cannot decode a frame: {error}") from error
    return np.asarray(image, np.uint8) if ok else None


def silence_decoders() -> None:
    """Keeps FFmpeg's and OpenCV's own lines off stderr, where this OpenCV lets itself be told.

    To be called before any camera's thread runs: it changes the environment.
    """
    if log.isEnabledFor(logging.DEBUG):
        return
    # Read when OpenCV first opens something with FFmpeg; OpenCV 4.5.4 does not know it.
    os.putenv("OPENCV_FFMPEG_LOGLEVEL", str(_AV_LOG_QUIET))
    opencv_logging = getattr(cv2.utils, "logging", None)  # absent from OpenCV 4.5.4
    if opencv_logging is not None:
        opencv_logging.setLogLevel(opencv_logging.LOG_LEVEL_ERROR)
