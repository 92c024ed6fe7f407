"""One camera: its thread, its status, and what replaces a thread that hangs."""

from __future__ import annotations

import threading
from typing import List, Optional

from edge.capture.intake import Intake
from edge.capture.mailbox import Mailbox
from edge.capture.opening import SourceFactory
from edge.capture.session import Session
from edge.capture.status import OnStatus, StatusTracker
from edge.clock import Clock
from edge.config.schema import CameraConfig
from edge.records import CameraStatus
from edge.threads import OnFailure


class Reader:
    """Keeps a camera's mailbox supplied, from a thread that reads a source.

    A source that fails is opened again, after a growing delay, until `stop`; one that hangs is
    left behind with its thread, and `sources` makes another, on the caller's thread. Frame ids
    count every frame that was delivered, also those the rate cap then drops: where a clip of n
    frames loops undisturbed, frame_id % n is the frame's number in the clip.
    """

    def __init__(
        self,
        config: CameraConfig,
        sources: SourceFactory,
        mailbox: Mailbox,
        clock: Clock,
        on_status: OnStatus,
        on_failure: OnFailure,
    ) -> None:
        self._config = config
        self._sources = sources
        self._clock = clock
        self._on_failure = on_failure
        self._tracker = StatusTracker(config, clock, on_status)
        self._intake = Intake(config, mailbox, clock, self._tracker)
        self._stop = threading.Event()
        self._session: Optional[Session] = None
        self._left_behind: List[Session] = []
        self._abandoned = 0

    @property
    def name(self) -> str:
        """The camera's name."""
        return self._config.name

    @property
    def status(self) -> CameraStatus:
        """The camera's status now."""
        return self._tracker.status

    @property
    def frames_read(self) -> int:
        """Frames that were delivered since the start."""
        return self._intake.frames_read

    @property
    def reconnects(self) -> int:
        """How often the camera came back after it was lost."""
        return self._intake.reconnects

    @property
    def abandoned(self) -> int:
        """Threads that hung in the source and were replaced, since the start."""
        return self._abandoned

    @property
    def hanging(self) -> int:
        """Of those, how many have not come back yet."""
        self._left_behind = [session for session in self._left_behind if session.is_alive]
        return len(self._left_behind)

    def announce(self) -> None:
        """Tells the first status, where `start` is to come later."""
        self._tracker.announce()

    def start(self, first_frame_id: int = 0) -> None:
        """Tells the first status and, unless the camera is disabled, starts to read."""
        self._intake.first_frame_id = first_frame_id
        self._tracker.announce()
        if self._config.enabled:
            self._begin_session(0.0)

    def limit_fps(self, fps: Optional[float]) -> None:
        """Lets no more frames a second pass than these, on top of the camera's own cap."""
        self._intake.limit_fps(fps)

    def stop(self) -> None:
        """Asks the thread to end; a wait for a frame's time or for a retry ends at once."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Waits for the thread; False if the source still holds it after `timeout_s`."""
        return self._session is None or self._session.join(timeout_s)

    def check_stall(self, now_ns: int) -> None:
        """Makes the camera stalled if no frame has come for `stall_s`; called regularly.

        A thread that hangs much longer than that is replaced.
        """
        session = self._session
        if session is None or self._stop.is_set():
            return
        hang = session.watch.abandon_if_hung(now_ns)
        if hang is None:
            self._tracker.stall_if(lambda: session.watch.is_stalled(now_ns))
            return
        self._abandoned += 1
        self._left_behind.append(session)
        if session.is_over:
            self._session = None
        else:
            self._begin_session(self._intake.lost(str(hang)))

    def excuse(self, paused_ns: int) -> None:
        """Does not hold against the source that the process stood still for so long."""
        if self._session is not None:
            self._session.watch.excuse(paused_ns)

    def __repr__(self) -> str:
        return (
            f"<Reader {self._config.name}: {self.status.state.value}, "
            f"{self.frames_read} frames, {self.reconnects} reconnects>"
        )

    def _begin_session(self, delay_s: float) -> None:
        # A source of its own: the one before may still be inside the driver.
        self._session = Session(
            self._sources(), self._intake, self._clock, self._stop, self._on_failure
        )
        self._session.start(delay_s)
