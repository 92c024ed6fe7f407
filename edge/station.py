"""One camera's place on the line, which it keeps while readers come and go.

Part of the composition root, with `line.py`.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import AbstractSet, Callable, Hashable, List, Optional
from typing import Counter as CounterOf

from edge.batching.feed import Feed
from edge.batching.ring import SlotRing
from edge.capture import Mailbox, Reader
from edge.clock import NS_PER_S
from edge.config.schema import CameraConfig
from edge.health.meters import CameraReading
from edge.records import CameraState, CameraStatus, DropCause

# OpenCV waits for 10 s for a USB camera that has fallen silent.
_PATIENCE_NS = 10 * NS_PER_S
# Frames that were counted as dropped before they came into a mailbox.
_UNRECEIVED = (DropCause.RATE_CAP, DropCause.GOVERNED)
# A thread that was told to stop may wait for its next frame, or hang up on a camera.
_LEAVING_NS = 25 * NS_PER_S


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


class Post:
    """A reader, and where it puts its frames; `claim` is what nobody else may have open with it."""

    def __init__(self, reader: Reader, mailbox: Mailbox, voice: Voice, claim: Optional[Hashable]):
        self.reader = reader
        self.mailbox = mailbox
        self.claim = claim
        self._voice = voice
        self._is_started = False
        self._left_ns = 0

    def start(self, first_frame_id: int) -> None:
        """Starts to read, once."""
        if not self._is_started:
            self._is_started = True
            self.reader.start(first_frame_id)

    def leave(self, now_ns: int) -> None:
        """Stops reading: what waits counts as aborted, what was taken still comes out."""
        self._left_ns = now_ns
        self._voice.silence()
        self.reader.stop()
        self.mailbox.close()

    @property
    def is_finished(self) -> bool:
        """True once no thread is inside the camera's driver any more."""
        return self.reader.join(0.0) and not self.reader.hanging

    def hanging(self, now_ns: int) -> int:
        """Threads that hang in the driver of a camera that was left."""
        is_late = now_ns - self._left_ns >= _LEAVING_NS
        return self.reader.hanging + int(is_late and not self.reader.join(0.0))


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

    def __init__(self, config: CameraConfig, post: Post, now_ns: int) -> None:
        self.config = config
        self.post = post
        self.ring: Optional[SlotRing] = None
        self.is_fed = False
        self._absence: Optional[CameraStatus] = None
        self._left: List[Post] = []
        self._past = _Totals()
        self._frames_done = 0
        self._patient_until_ns = now_ns + _PATIENCE_NS

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
    def gone(self) -> List[Post]:
        """Readers that were replaced, or removed, and have not let their camera go yet."""
        gone = self._left if self.is_present else [*self._left, self.post]
        return [post for post in gone if not post.is_finished]

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

    def change(self, config: CameraConfig, post: Optional[Post], now_ns: int) -> None:
        """Off its lane for now, with a new reader if there is a `post`; that one starts later."""
        self.config = config
        self.is_fed = False
        if post is None:
            return
        if self.is_present:
            self.post.leave(now_ns)
        self._left.append(self.post)
        self._absence = None
        self.post = post
        self._patient_until_ns = now_ns + _PATIENCE_NS

    def remove(self, now_ns: int, now_unix_ms: int) -> CameraStatus:
        """Gone from the line; says what is left to say of it."""
        self.post.leave(now_ns)
        self.is_fed = False
        self._absence = CameraStatus(self.config.name, CameraState.DISABLED, now_unix_ms, "removed")
        return self._absence

    def settle(self, now_ns: int, claimed: AbstractSet[Hashable]) -> bool:
        """Starts what may start now; True if the camera is to be fed from here on.

        `claimed` is what readers that were left still have open.
        """
        if self.is_fed:
            self._forget_left()
            return False
        is_waiting = self.post.claim in claimed and now_ns < self._patient_until_ns
        if not self.is_present or is_waiting or self._taken() > 0:
            return False
        self._forget_left()
        self.is_fed = True
        self.start()
        return True

    def start(self) -> None:
        """Starts its reader, once."""
        # No id twice: frames are told apart by session, camera and id.
        self.post.start(self._totals().frames_read)

    def join(self, timeout_s: float) -> bool:
        """Waits for its reader, which was told to stop."""
        return self.post.reader.join(timeout_s)

    def _taken(self) -> int:
        """Frames out of the mailboxes of which nothing is heard yet; rather too many than too few,
        as frames come in meanwhile."""
        done = self._frames_done
        waiting = int(self.post.mailbox.peek() is not None)
        totals = self._totals()
        lost = sum(n for cause, n in totals.dropped.items() if cause not in _UNRECEIVED)
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
            if post.is_finished:
                self._past.add(post)
            else:
                staying.append(post)
        self._left = staying
