"""One camera's place on the line, which it keeps while readers come and go.

Part of the composition root, with `line.py`.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Callable, List, Optional
from typing import Counter as CounterOf

from edge.batching.feed import Feed
from edge.batching.ring import SlotRing
from edge.capture import Mailbox, Reader
from edge.config.schema import CameraConfig
from edge.health.meters import CameraReading
from edge.records import CameraState, CameraStatus, DropCause


class Voice:
    """Passes a reader's statuses on until it is silenced; after that, none comes through."""

    def __init__(self, on_status: Callable[[CameraStatus], None]) -> None:
        self._on_status = on_status
        self._lock = threading.Lock()
        self._is_silent = False

    def tell(self, status: CameraStatus) -> None:
        """Passes a status on."""
        with self._lock:
            if not self._is_silent:
                self._on_status(status)

    def silence(self) -> None:
        """A reader that is slow to end must not contradict what is said of its camera next."""
        with self._lock:
            self._is_silent = True


@dataclass(frozen=True, eq=False)
class Post:
    """A reader, and where it puts its frames."""

    reader: Reader
    mailbox: Mailbox
    voice: Voice

    def leave(self) -> None:
        """Stops reading: what waits counts as aborted, what was taken still comes out."""
        self.voice.silence()
        self.reader.stop()
        self.mailbox.close()

    @property
    def unfinished(self) -> int:
        """Threads that are still inside the camera's driver."""
        return int(not self.reader.join(0.0)) + self.reader.hanging


@dataclass
class _Totals:
    frames_read: int = 0
    received: int = 0
    reconnects: int = 0
    abandoned: int = 0
    dropped: CounterOf[DropCause] = field(default_factory=Counter)

    def add(self, post: Post) -> None:
        # Received last: what comes meanwhile must not make taken frames look done.
        self.dropped.update(post.mailbox.dropped)
        self.reconnects += post.reader.reconnects
        self.abandoned += post.reader.abandoned
        self.frames_read += post.reader.frames_read
        self.received += post.mailbox.received

    def copied(self) -> _Totals:
        return _Totals(
            self.frames_read,
            self.received,
            self.reconnects,
            self.abandoned,
            Counter(self.dropped),
        )


class Station:
    """Counts for one camera name as long as the line lives, so that no total ever falls.

    A change of any kind takes the camera off its lane until all that was taken from it has come
    out: so its frames stay in order, also where it changes the lane. Belongs to the main loop, but
    for `count_drop` and `frame_done`.
    """

    def __init__(self, config: CameraConfig, post: Post) -> None:
        self.config = config
        self.post = post
        self.ring: Optional[SlotRing] = None
        self.is_fed = False
        self._is_started = False
        self._absence: Optional[CameraStatus] = None
        self._left: List[Post] = []
        self._past = _Totals()
        self._frames_done = 0
        self._patient_until_ns: Optional[int] = None

    @property
    def is_present(self) -> bool:
        """False once the configuration names it no more."""
        return self._absence is None

    @property
    def feed(self) -> Feed:
        """What the batcher takes frames from."""
        return Feed(self.post.mailbox, self.config.max_staleness_ms)

    @property
    def status(self) -> CameraStatus:
        """What is to be said of it."""
        return self._absence or self.post.reader.status

    @property
    def unfinished(self) -> int:
        """Threads of readers that were replaced, or removed, and have not come back."""
        gone = self._left if self.is_present else [*self._left, self.post]
        return sum(post.unfinished for post in gone)

    def count_drop(self, cause: DropCause) -> None:
        """Counts one of its frames that was lost behind the batcher; from any thread."""
        self.post.mailbox.count_drop(cause)

    def frame_done(self) -> None:
        """Counts a frame whose result was told; one call at a time."""
        self._frames_done += 1

    def reading(self) -> CameraReading:
        """The totals of all its readers."""
        totals = self._totals()
        return CameraReading(
            self.status, totals.frames_read, totals.reconnects, totals.dropped, totals.abandoned
        )

    def change(self, config: CameraConfig, post: Optional[Post], patient_until_ns: int) -> None:
        """Off its lane for now, with a new reader if there is a `post`.

        That one starts when its predecessor has let the camera go, or when patience is over.
        """
        self.config = config
        self.is_fed = False
        if post is None:
            return
        self.post.leave()
        self._left.append(self.post)
        self.post = post
        self._is_started = False
        self._absence = None
        self._patient_until_ns = patient_until_ns

    def remove(self, since_unix_ms: int) -> CameraStatus:
        """Gone from the line; says what is left to say of it."""
        self.post.leave()
        self.is_fed = False
        self._absence = CameraStatus(
            self.config.name, CameraState.DISABLED, since_unix_ms, "removed"
        )
        return self._absence

    def settle(self, now_ns: int) -> bool:
        """Starts what may start now; True if the camera is to be fed from here on."""
        if self.is_fed:
            self._forget_left()
            return False
        if not self.is_present or self._is_waiting(now_ns) or self._taken() > 0:
            return False
        self._forget_left()
        self.is_fed = True
        self.start()
        return True

    def start(self) -> None:
        """Starts its reader, once."""
        if not self._is_started:
            self._is_started = True
            # No id twice: frames are told apart by session, camera and id.
            self.post.reader.start(self._totals().frames_read)

    def join(self, timeout_s: float) -> bool:
        """Waits for its reader, which was told to stop."""
        return self.post.reader.join(timeout_s)

    def _is_waiting(self, now_ns: int) -> bool:
        is_patient = self._patient_until_ns is not None and now_ns < self._patient_until_ns
        return is_patient and any(not post.reader.join(0.0) for post in self._left)

    def _taken(self) -> int:
        """Frames out of the mailboxes of which nothing is heard yet; rather too many than too few,
        as frames come in meanwhile."""
        done = self._frames_done
        waiting = int(self.post.mailbox.peek() is not None)
        totals = self._totals()
        lost = sum(totals.dropped.values()) - totals.dropped[DropCause.RATE_CAP]
        return totals.received - done - lost - waiting

    def _totals(self) -> _Totals:
        totals = self._past.copied()
        for post in [*self._left, self.post]:
            totals.add(post)
        return totals

    def _forget_left(self) -> None:
        """Keeps of the readers before only the sums, once nothing can change them any more."""
        staying = []
        for post in self._left:
            if post.unfinished:
                staying.append(post)
            else:
                self._past.add(post)
        self._left = staying
