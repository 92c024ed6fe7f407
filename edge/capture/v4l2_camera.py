"""A camera of this machine, usually on USB, through OpenCV's V4L2."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

import cv2

from edge.capture.exposure import release_exposure
from edge.capture.opencv import open_capture, read_image
from edge.capture.source import Picture
from edge.capture.v4l2_abi import EXPOSURE_MANUAL, EXPOSURE_UNITS_PER_MS
from edge.capture.video import check_readable
from edge.clock import NS_PER_MS
from edge.config.camera import CameraConfig, PixelFormat
from edge.errors import CaptureError
from edge.records import TimestampSource

log = logging.getLogger(__name__)

_FOURCC = {PixelFormat.MJPEG: b"MJPG", PixelFormat.YUYV: b"YUYV"}
# Drivers round: a rate to a whole interval, an exposure to a line of the sensor.
_TOLERANCE = 0.02


@dataclass(frozen=True)
class Wish:
    """A setting to ask the driver for: OpenCV's property, and how it is told to people."""

    name: str
    prop: int
    value: float
    in_words: Callable[[float], str]


def wishes_of(camera: CameraConfig) -> List[Wish]:
    """What to ask for, in the order that drivers need: format, size, rate, exposure."""
    wishes: List[Wish] = []
    if camera.pixel_format is not PixelFormat.AUTO:
        code = int.from_bytes(_FOURCC[camera.pixel_format], "little")
        wishes.append(Wish("pixel_format", cv2.CAP_PROP_FOURCC, code, fourcc_in_words))
    if camera.size_wh is not None:
        width, height = camera.size_wh
        wishes.append(Wish("width", cv2.CAP_PROP_FRAME_WIDTH, width, _plain))
        wishes.append(Wish("height", cv2.CAP_PROP_FRAME_HEIGHT, height, _plain))
    if camera.capture_fps is not None:
        wishes.append(Wish("capture_fps", cv2.CAP_PROP_FPS, camera.capture_fps, _plain))
    if camera.exposure_ms is not None:
        units = round(camera.exposure_ms * EXPOSURE_UNITS_PER_MS)
        wishes.append(Wish("auto exposure", cv2.CAP_PROP_AUTO_EXPOSURE, EXPOSURE_MANUAL, _plain))
        wishes.append(Wish("exposure_ms", cv2.CAP_PROP_EXPOSURE, units, _exposure_in_words))
    return wishes


def refusals(wishes: Sequence[Wish], get: Callable[[int], float]) -> List[str]:
    """What the driver gave instead of what it was asked for, in words."""
    given = [(wish, get(wish.prop)) for wish in wishes]
    return [
        f"{wish.name} is {wish.in_words(value)} instead of {wish.in_words(wish.value)}"
        for wish, value in given
        if abs(value - wish.value) > _TOLERANCE * abs(wish.value)
    ]


class V4l2Camera:
    """A camera that is asked for `wishes` at each opening; what it refuses is said once."""

    def __init__(self, device: Path, wishes: Sequence[Wish] = ()) -> None:
        self._device = device
        self._wishes = wishes
        self._told: Tuple[str, ...] = ()
        self._capture = cv2.VideoCapture()

    def open(self) -> None:
        """Raises CaptureError if the device is absent, busy, forbidden or no camera."""
        self.close()
        check_readable(self._device)
        if all(wish.prop != cv2.CAP_PROP_AUTO_EXPOSURE for wish in self._wishes):
            release_exposure(self._device)
        self._capture = open_capture(str(self._device), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise CaptureError(f"{self._device} is in use by another program, or is no camera")
        for wish in self._wishes:
            self._capture.set(wish.prop, wish.value)
        self._tell(tuple(refusals(self._wishes, self._capture.get)))

    def read(self) -> Optional[Picture]:
        """Waits for the next frame; CaptureError when the camera is gone or silent."""
        image = read_image(self._capture)
        if image is None:
            raise CaptureError(f"{self._device} stopped delivering: check its cable")
        # For V4L2 this is the driver's time stamp of the buffer, on the monotonic clock.
        captured_ns = int(self._capture.get(cv2.CAP_PROP_POS_MSEC) * NS_PER_MS)
        return Picture(image, captured_ns=captured_ns, ts_source=TimestampSource.V4L2)

    def close(self) -> None:
        """Frees the device."""
        self._capture.release()

    def _tell(self, refused: Tuple[str, ...]) -> None:
        if refused and refused != self._told:
            log.warning("%s does not do all it was asked for: %s", self._device, ", ".join(refused))
        self._told = refused


def fourcc_in_words(code: float) -> str:
    """The four letters of a pixel format."""
    letters = int(code).to_bytes(4, "little", signed=int(code) < 0).decode("latin-1")
    return letters if letters.isascii() and letters.isprintable() else "unknown"


def _plain(value: float) -> str:
    return f"{value:g}"


def _exposure_in_words(units: float) -> str:
    return f"{units / EXPOSURE_UNITS_PER_MS:g}"
