"""Pictures out of GStreamer pipelines, through OpenCV's appsink."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, Tuple

import cv2

from edge.capture.gstreamer_library import parse_fault
from edge.capture.opencv import Capture, bgr_from_nv12, open_capture, read_image
from edge.capture.pipelines import (
    HardwareFeed,
    Pipeline,
    Size,
    complete,
    delivered_size,
    launch_line,
)
from edge.capture.source import Picture
from edge.capture.video import check_readable, playback_fps
from edge.config.camera_uri import masked
from edge.errors import CaptureError
from edge.geometry import Image

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where pictures come from, for messages."""

    title: str
    advice: str


FindFeed = Callable[[], HardwareFeed]
"""Looks for a source and says what the hardware makes of it; raises CaptureError."""

OpenLine = Callable[[str], Capture]
OpenPipeline = Callable[[Pipeline], Capture]


def open_line(line: str) -> Capture:
    """Opens a launch line; whether that worked, the capture's `isOpened` tells."""
    log.debug("opening %s", masked(line))
    check_line(line)
    capture: Capture = open_capture(line, cv2.CAP_GSTREAMER)
    return capture


def check_line(line: str) -> None:
    """Raises CaptureError, in GStreamer's words, if the line is no pipeline it can build."""
    fault = parse_fault(line)
    if fault is not None:
        raise CaptureError(f"GStreamer cannot build the pipeline: {masked(fault)}: {masked(line)}")


def open_pipeline(pipeline: Pipeline) -> Capture:
    """Opens a pipeline; whether that worked, the capture's `isOpened` tells."""
    return open_line(launch_line(pipeline))


class HardwareCamera:
    """A camera decoded and scaled by a Jetson's own engines.

    Its pictures come when they come (`receive`): what OpenCV tells of the pipeline's position is
    that of the newest buffer, not of the one it hands over.
    """

    def __init__(
        self,
        find_feed: FindFeed,
        model_wh: Optional[Size],
        origin: Origin,
        open_pipeline: OpenPipeline = open_pipeline,
    ) -> None:
        self._stream = _HardwareStream(find_feed, model_wh, origin, open_pipeline)
        self._origin = origin

    def open(self) -> None:
        """Raises CaptureError if no picture comes out of the pipeline."""
        self._stream.open()

    def read(self) -> Optional[Picture]:
        """Waits for the next picture, for ever if need be; CaptureError at the end."""
        image = self._stream.read()
        if image is None:
            raise CaptureError(f"{self._origin.title} stopped delivering")
        return Picture(image)

    def close(self) -> None:
        """Stops the pipeline."""
        self._stream.close()


class HardwareVideo:
    """A video file decoded and scaled by a Jetson's own engines."""

    def __init__(
        self,
        path: Path,
        feed: HardwareFeed,
        model_wh: Optional[Size],
        *,
        loop: bool,
        realtime: bool,
        open_pipeline: OpenPipeline = open_pipeline,
    ) -> None:
        origin = Origin(str(path), "is it a video? decoder: software takes more kinds")
        self._path = path
        self._feed = feed
        self._stream = _HardwareStream(self._find_feed, model_wh, origin, open_pipeline)
        self._loop = loop
        self._realtime = realtime
        self._frames_played = 0

    def open(self) -> None:
        """Raises CaptureError if the file is missing, may not be read, or is no video."""
        self._frames_played = 0
        self._stream.open()

    def read(self) -> Optional[Picture]:
        """Decodes the next frame; after the last comes None, or the first again."""
        image = self._stream.read()
        if image is None and self._loop and self._frames_played:
            self._stream.open()
            image = self._stream.read()
        if image is None and self._frames_played and not self._loop:
            return None
        if image is None:
            raise CaptureError(f"{self._path} holds no frame that can be decoded")
        media_s = self._frames_played / self._stream.fps
        self._frames_played += 1
        return Picture(image, media_s if self._realtime else None)

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()

    def _find_feed(self) -> HardwareFeed:
        check_readable(self._path)
        return self._feed


class CustomPipeline:
    """A user's own pipeline; it must end in BGR, or leave its end to us."""

    def __init__(self, user_line: str, open_line: OpenLine = open_line) -> None:
        self._line = complete(user_line)
        self._open_line = open_line
        self._capture: Capture = cv2.VideoCapture()

    def open(self) -> None:
        """Raises CaptureError if GStreamer cannot run it."""
        self.close()
        self._capture = self._open_line(self._line)
        if not self._capture.isOpened():
            raise CaptureError(
                f"no picture from the pipeline (try it with gst-launch-1.0): {masked(self._line)}"
            )

    def read(self) -> Optional[Picture]:
        """Waits for the next picture, for ever if need be; CaptureError at the end."""
        image = read_image(self._capture)
        if image is None:
            raise CaptureError("the pipeline has ended")
        if image.ndim != 3 or image.shape[2] != 3:
            raise CaptureError(
                f"the pipeline gives pictures of shape {image.shape}, not BGR: put "
                "`videoconvert ! video/x-raw,format=BGR` before its appsink"
            )
        return Picture(image)

    def close(self) -> None:
        """Stops the pipeline."""
        self._capture.release()


class _HardwareStream:
    """Opens a feed in the size it is to be handed over in, which its own size decides."""

    def __init__(
        self,
        find_feed: FindFeed,
        model_wh: Optional[Size],
        origin: Origin,
        open_pipeline: OpenPipeline,
    ) -> None:
        self._find_feed = find_feed
        self._model_wh = model_wh
        self._origin = origin
        self._open_pipeline = open_pipeline
        self._capture: Capture = cv2.VideoCapture()
        self._shape: Tuple[int, ...] = ()

    @property
    def fps(self) -> float:
        """The stream's own rate, or a likely one."""
        return playback_fps(self._capture.get(cv2.CAP_PROP_FPS))

    def open(self) -> None:
        self.close()
        feed = self._find_feed()
        native_wh = feed.native_wh
        upright_wh = self._start(feed) if native_wh is None else feed.upright(native_wh)
        delivered_wh = delivered_size(upright_wh, self._model_wh)
        if native_wh is not None or delivered_wh != upright_wh:
            self._start(feed, delivered_wh)
        width, height = delivered_wh
        self._shape = (height * 3 // 2, width)

    def read(self) -> Optional[Image]:
        image = read_image(self._capture)
        if image is None:
            return None
        if image.shape[:2] != self._shape:
            # Rows of another length than agreed would come out skewed.
            raise CaptureError(f"{self._origin.title} changed its picture's size")
        return bgr_from_nv12(image)

    def close(self) -> None:
        self._capture.release()

    def _start(self, feed: HardwareFeed, delivered_wh: Optional[Size] = None) -> Size:
        """Starts the pipeline; returns the width and height of its pictures."""
        self.close()
        self._capture = self._open_pipeline(feed.pipeline(delivered_wh))
        if not self._capture.isOpened():
            raise CaptureError(f"no picture from {self._origin.title}: {self._origin.advice}")
        width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if min(width, height) < 4:
            raise CaptureError(f"{self._origin.title} does not tell the size of its pictures")
        return width, height
