"""The thread that reads one camera."""

from __future__ import annotations

import random
import threading
from typing import Optional, Tuple

from edge.backoff import Backoff
from edge.capture.mailbox import Mailbox
from edge.capture.pacing import Pacer, RateCap
from edge.capture.source import Picture, Source
from edge.capture.status import OnStatus, StatusTracker
from edge.clock import NS_PER_MS, NS_PER_S, Clock
from edge.config.schema import CameraConfig
from edge.errors import CaptureError
from edge.records import (
    CameraState,
    CameraStatus,
    DropCause,
    Frame,
    FrameInfo,
    TimestampSource,
)
from edge.threads import OnFailure, SupervisedThread

# An older time stamp, or one from the future, was not taken from the monotonic clock.
_MAX_FRAME_AGE_NS = 10 * NS_PER_S


class Reader:
    """Reads a source in its own thread and keeps the camera's mailbox supplied.

    A source that fails is opened again, after a growing delay, until `stop`. Frame ids count
    every frame the source delivers, also those the rate cap then drops: where a clip of n frames
    loops undisturbed, frame_id % n is the frame's number in the clip.
    """

    def __init__(
        self,
        config: CameraConfig,
        source: Source,
        mailbox: Mailbox,
        clock: Clock,
        on_status: OnStatus,
        on_failure: OnFailure,
    ) -> None:
        self._config = config
        self._source = source
        self._mailbox = mailbox
        self._clock = clock
        self._tracker = StatusTracker(config, clock, on_status)
        self._backoff = Backoff(random.Random())
        self._stop = threading.Event()
        self._thread = SupervisedThread(f"capture-{config.name}", self._run, on_failure)
        self._frames_read = 0
        self._reconnects = 0

    @property
    def status(self) -> CameraStatus:
        """The camera's status now."""
        return self._tracker.status

    @property
    def frames_read(self) -> int:
        """Frames the source has delivered since the start."""
        return self._frames_read

    @property
    def reconnects(self) -> int:
        """How often the camera came back after it was lost."""
        return self._reconnects

    def start(self) -> None:
        """Tells the first status and, unless the camera is disabled, starts to read."""
        self._tracker.announce()
        if self._config.enabled:
            self._thread.start()

    def stop(self) -> None:
        """Asks the thread to end; a wait for a frame's time or for a retry ends at once."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Waits for the thread; False if the source still holds it after `timeout_s`."""
        return self._thread.join(timeout_s)

    def check_stall(self, now_ns: int) -> None:
        """Makes the camera stalled if no frame has come for `stall_s`; called regularly."""
        self._tracker.check_stall(now_ns)

    def __repr__(self) -> str:
        return (
            f"<Reader {self._config.name}: {self.status.state.value}, "
            f"{self._frames_read} frames, {self._reconnects} reconnects>"
        )

    def _run(self) -> None:
        while not self._stop.is_set():
            error = self._read_session()
            if error is None:
                return
            self._tracker.change(CameraState.OFFLINE, str(error))
            self._stop.wait(self._backoff.next_s())

    def _read_session(self) -> Optional[CaptureError]:
        """From opening to closing; returns what went wrong, or None at the end or on `stop`."""
        try:
            with self._tracker.waiting():
                self._source.open()
            self._read_until_end()
        except CaptureError as error:
            return error
        finally:
            self._source.close()
        return None

    def _read_until_end(self) -> None:
        pacer, cap = Pacer(), RateCap(self._config.fps)
        is_first = True
        while not self._stop.is_set():
            with self._tracker.waiting():
                picture = self._source.read()
            if picture is None:
                self._tracker.change(CameraState.ENDED, "the recording is over")
                return
            if self._is_stopped_before_due(picture, pacer):
                return
            if is_first:
                self._come_online()
                is_first = False
            self._deliver(picture, cap)

    def _is_stopped_before_due(self, picture: Picture, pacer: Pacer) -> bool:
        if picture.media_s is None:
            return False
        now_ns = self._clock.monotonic_ns()
        wait_ns = pacer.due_ns(picture.media_s, now_ns) - now_ns
        return wait_ns > 0 and self._stop.wait(wait_ns / NS_PER_S)

    def _come_online(self) -> None:
        if self._frames_read > 0:
            self._reconnects += 1
        self._backoff.reset()

    def _deliver(self, picture: Picture, cap: RateCap) -> None:
        info = self._identify(picture)
        self._frames_read += 1
        self._tracker.change(CameraState.ONLINE)
        # A recording is thinned by its own time, so that every run keeps the same frames.
        media_s = picture.media_s
        if cap.admits(info.captured_ns if media_s is None else int(media_s * NS_PER_S)):
            self._mailbox.put(Frame(info, picture.image))
        else:
            self._mailbox.count_drop(DropCause.RATE_CAP)

    def _identify(self, picture: Picture) -> FrameInfo:
        now_ns, now_unix_ms = self._clock.monotonic_ns(), self._clock.unix_ms()
        captured_ns, ts_source = capture_time(picture, now_ns)
        height, width = picture.image.shape[:2]
        return FrameInfo(
            camera=self._config.name,
            frame_id=self._frames_read,
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
