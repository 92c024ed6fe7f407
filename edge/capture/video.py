"""Pictures decoded by FFmpeg: video files and network cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import cv2

from edge.capture.network import check_answers, check_reachable, url_at
from edge.capture.opencv import open_capture, read_image
from edge.capture.pts_clock import PtsClock
from edge.capture.rtsp_transport import GATE
from edge.capture.source import Picture
from edge.clock import NS_PER_MS, Clock
from edge.config.camera import Transport
from edge.errors import CaptureError
from edge.geometry import Image
from edge.records import TimestampSource

_ASSUMED_FPS = 25.0
_MAX_FPS = 240.0
_OPEN_TIMEOUT_MS = 10_000
# OpenCV 4.5.4 gives up after one such wait, newer ones after three.
_READ_TIMEOUT_MS = 5_000


class VideoFile:
    """A recording, played at its own pace, or without `realtime` as fast as it decodes."""

    def __init__(self, path: Path, *, loop: bool, realtime: bool = True) -> None:
        self._path = path
        self._loop = loop
        self._realtime = realtime
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
        image = read_image(self._capture)
        is_over = image is None and self._frames_played > 0
        if is_over and not self._loop:
            return None
        if is_over:
            self._rewind()
            image = read_image(self._capture)
        if image is None:
            raise CaptureError(f"{self._path} holds no frame that can be decoded")
        media_s = self._frames_played * self._frame_s
        self._frames_played += 1
        return Picture(image, media_s if self._realtime else None)

    def close(self) -> None:
        """Closes the file."""
        self._capture.release()

    def _rewind(self) -> None:
        # Opening again works for every container; seeking fails in raw streams.
        self.close()
        check_readable(self._path)
        with GATE.opening_file():
            self._capture = open_capture(str(self._path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise CaptureError(f"{self._path} is not a video, or it is damaged or cut short")


class RtspStream:
    """A network camera; `address` (host:port) stands for the URL in messages."""

    def __init__(self, url: str, address: str, transport: Transport, clock: Clock) -> None:
        self._url = url
        self._address = address
        self._transport = transport
        self._clock = clock
        self._pts_clock = PtsClock()
        self._ip: Optional[str] = None
        self._capture = cv2.VideoCapture()

    def open(self) -> None:
        """Raises CaptureError if the camera does not answer, or refuses."""
        timeouts = (
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS),
        )
        self._capture.release()
        self._pts_clock = PtsClock()
        # Before the gate: a camera that is away must not keep the others from being opened.
        ip = self._ip = self._ip or self._check()
        with GATE.opening(self, self._transport):
            self._ip = None
            self._capture = open_capture(url_at(self._url, ip), cv2.CAP_FFMPEG, timeouts)
        if not self._capture.isOpened():
            raise CaptureError(
                f"no stream from {self._address}: check network, address, path, user and password"
            )

    def read(self) -> Optional[Picture]:
        """Waits for the next frame; CaptureError when the stream ends or falls silent."""
        image = read_image(self._capture)
        if image is None:
            raise CaptureError(f"the stream from {self._address} broke off")
        return self._timed(image, self._clock.monotonic_ns())

    def close(self) -> None:
        """Hangs up, or gives up waiting for its turn."""
        GATE.leave(self)
        self._ip = None
        self._capture.release()

    def _check(self) -> str:
        is_encrypted = self._url.lower().startswith("rtsps:")
        return (check_reachable if is_encrypted else check_answers)(self._address)

    def _timed(self, image: Image, received_ns: int) -> Picture:
        # The camera's own stamp (RTP), counted from the first frame; 0 where a frame has none.
        pts_ns = int(self._capture.get(cv2.CAP_PROP_POS_MSEC) * NS_PER_MS)
        if pts_ns <= 0:
            return Picture(image)
        captured_ns = self._pts_clock.captured_ns(pts_ns, received_ns)
        return Picture(image, captured_ns=captured_ns, ts_source=TimestampSource.PTS)


def playback_fps(reported_fps: float) -> float:
    """The pace to play a file at: 25 where the container reports nothing credible."""
    return reported_fps if 0 < reported_fps <= _MAX_FPS else _ASSUMED_FPS


def check_readable(path: Path) -> None:
    """Raises CaptureError, with the system's reason, if the file or device may not be read."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise CaptureError(f"{path} cannot be opened: {error.strerror}") from error
