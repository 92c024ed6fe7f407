"""From pictures to a camera's frames: identity, counts, cap, and what is said of them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Optional, Tuple

from edge.backoff import Backoff
from edge.capture.device import device_of
from edge.capture.mailbox import Mailbox
from edge.capture.pacing import RateCap
from edge.capture.picture_watch import PictureWatch
from edge.capture.recovery import Recovery, advice_for
from edge.capture.source import Picture
from edge.capture.status import StatusTracker
from edge.clock import NS_PER_MS, NS_PER_S, Clock
from edge.config.camera_uri import MediaSpec, SyntheticSpec
from edge.config.schema import CameraConfig
from edge.geometry import Image
from edge.records import (
    CameraState,
    DropCause,
    Frame,
    FrameInfo,
    PictureState,
    TimestampSource,
)

# An older time stamp, or one from the future, was not taken from the monotonic clock.
_MAX_FRAME_AGE_NS = 10 * NS_PER_S


class Intake:
    """What a camera keeps while its sources and threads come and go.

    It belongs to the session that reads, from whichever thread; one that was abandoned does not
    touch it again. So it needs no lock.
    """

    def __init__(
        self, config: CameraConfig, mailbox: Mailbox, clock: Clock, tracker: StatusTracker
    ) -> None:
        self.config = config
        self.device = device_of(config)
        self.frames_read = 0
        self.first_frame_id = 0
        self.reconnects = 0
        self._mailbox = mailbox
        self._clock = clock
        self._tracker = tracker
        self._recovery = Recovery(Backoff(random.Random()), advice_for(config))
        self._pictures = PictureWatch(is_live=_is_live(config)) if config.picture_watch else None
        self._cap = RateCap(config.fps)
        self._limit = RateCap(None)
        self._is_first = True

    def limit_fps(self, fps: Optional[float]) -> None:
        """Lets no more frames a second pass from here on; None: as many as the camera's own cap.

        From any thread.
        """
        # One reference, replaced at once.
        self._limit = RateCap(fps)

    def begin(self) -> None:
        """The source is open."""
        self._cap = RateCap(self.config.fps)
        if self._pictures is not None:
            self._pictures.begin()
        self._is_first = True

    def take(self, picture: Picture) -> None:
        """Makes the picture the camera's next frame."""
        info = self._identify(picture)
        if self._is_first:
            self._is_first = False
            self.reconnects += self.frames_read > 0
        self.frames_read += 1
        now_ns = self._clock.monotonic_ns()
        self._recovery.delivered(now_ns)
        self._tracker.online(self._judge(picture.image, now_ns))
        # A recording is thinned by its own time, so that every run keeps the same frames.
        media_s = picture.media_s
        paced_ns = info.captured_ns if media_s is None else int(media_s * NS_PER_S)
        if not self._cap.admits(paced_ns):
            self._mailbox.count_drop(DropCause.RATE_CAP)
        elif not self._limit.admits(paced_ns):
            self._mailbox.count_drop(DropCause.GOVERNED)
        else:
            self._mailbox.put(Frame(info, picture.image))

    def lost(self, reason: str) -> float:
        """The source failed; seconds until it is to be opened again."""
        delay_s = self._recovery.lost()
        self._tracker.change(CameraState.OFFLINE, self._recovery.explain(reason))
        return delay_s

    def plugged_in(self) -> None:
        """The camera's device has just appeared: its failures so far mean nothing."""
        self._recovery.start_over()

    def ended(self) -> None:
        """The source had no more pictures."""
        self._tracker.change(CameraState.ENDED, "the recording is over")

    def _judge(self, image: Image, now_ns: int) -> Optional[PictureState]:
        return None if self._pictures is None else self._pictures.observe(image, now_ns)

    def _identify(self, picture: Picture) -> FrameInfo:
        now_ns, now_unix_ms = self._clock.monotonic_ns(), self._clock.unix_ms()
        captured_ns, ts_source = capture_time(picture, now_ns)
        height, width = picture.image.shape[:2]
        return FrameInfo(
            camera=self.config.name,
            frame_id=self.first_frame_id + self.frames_read,
            size_wh=(width, height),
            captured_ns=captured_ns,
            captured_unix_ms=now_unix_ms - (now_ns - captured_ns) // NS_PER_MS,
            ts_source=ts_source,
        )


def capture_time(picture: Picture, now_ns: int) -> Tuple[int, TimestampSource]:
    """When the picture was taken, monotonic, and whose word that is: the camera's if credible."""
    captured_ns = picture.captured_ns
    if captured_ns is not None and 0 <= now_ns - captured_ns <= _MAX_FRAME_AGE_NS:
        return captured_ns, picture.ts_source
    return now_ns, TimestampSource.RECEIVE


def _is_live(config: CameraConfig) -> bool:
    return not isinstance(config.uri.resolve(Path()), (MediaSpec, SyntheticSpec))
