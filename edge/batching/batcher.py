"""The thread that gathers frames into batches."""

from __future__ import annotations

import threading
from typing import Mapping, Optional, Sequence

from edge.batching.feed import Feed, Sink
from edge.batching.priority_lane import PriorityLane
from edge.batching.ring import SlotRing
from edge.batching.shared_lane import SharedLane
from edge.clock import NS_PER_S, Clock
from edge.threads import OnFailure, SupervisedThread, sharpen_timers


class Batcher:
    """Steps both lanes whenever a mailbox, a drawing or the pipeline has changed.

    Neither lane's step blocks: what one waits for must not hold up the other.
    """

    def __init__(self, priority: PriorityLane, shared: SharedLane, clock: Clock) -> None:
        self._priority = priority
        self._shared = shared
        self._clock = clock
        # Held for one step, which does not block, and while the feeds change.
        self._stepping = threading.Lock()
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread: Optional[SupervisedThread] = None

    def start(self, sink: Sink, on_failure: OnFailure) -> None:
        """Starts batching into `sink`."""
        self._thread = SupervisedThread("batcher", lambda: self._run(sink), on_failure)
        self._thread.start()

    def wake(self) -> None:
        """Tells that a mailbox, a drawing or the pipeline has changed; cheap, from any thread."""
        self._changed.set()

    def step(self, sink: Sink) -> Optional[int]:
        """Does what is due in both lanes; returns when to look again."""
        with self._stepping:
            self._priority.step(sink)
            return self._shared.step(sink)

    def set_feeds(self, shared: Sequence[Feed], reserved: Mapping[Feed, SlotRing]) -> None:
        """Takes frames from these cameras only from here on; from any thread.

        What is bound of the others still leaves; what waits of them stays where it is.
        """
        with self._stepping:
            self._priority.set_feeds(reserved)
            self._shared.set_feeds(shared)
        self.wake()

    def stop(self, timeout_s: float) -> bool:
        """Sends off what is bound, counts the frames still waiting as aborted, ends the thread."""
        self._stopping.set()
        self._changed.set()
        ended = self._thread is None or self._thread.join(timeout_s)
        self._priority.close()
        self._shared.close()
        return ended

    def __repr__(self) -> str:
        return f"<Batcher {self._priority!r} {self._shared!r}>"

    def _run(self, sink: Sink) -> None:
        sharpen_timers()  # the deadline of a batch is a timed wait of this thread
        while not self._stopping.is_set():
            # The wake-up after each drawing is not idle: a wait that began while the drawing took
            # the interpreter's lock ends late, one begun after it is on time.
            self._changed.wait(self._seconds_until(self.step(sink)))
            self._changed.clear()
        with self._stepping:
            self._priority.flush(sink)
            self._shared.flush(sink)

    def _seconds_until(self, wake_ns: Optional[int]) -> Optional[float]:
        if wake_ns is None:
            return None
        return max((wake_ns - self._clock.monotonic_ns()) / NS_PER_S, 0.0)
