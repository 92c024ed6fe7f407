"""What the batcher needs of a camera and of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol

from edge.batching.policy import is_stale
from edge.records import Batch, DropCause, Frame, FrameInfo


class Mailbox(Protocol):
    """Where a camera's newest frame waits."""

    @property
    def camera(self) -> str:
        """The camera's name."""

    def peek(self) -> Optional[FrameInfo]:
        """The waiting frame, left where it is."""

    def take(self, expected: Optional[FrameInfo] = None) -> Optional[Frame]:
        """The waiting frame, now the caller's; None if it is not the `expected` one."""

    def count_drop(self, cause: DropCause) -> None:
        """Counts a taken frame that will not be inferred."""


class Sink(Protocol):
    """The pipeline."""

    def can_take(self) -> bool:
        """True while a shared batch handed in now would start soon."""

    def submit(self, batch: Batch) -> None:
        """Accepts a closed batch; its slot comes back through the ring."""


@dataclass(frozen=True)
class Feed:
    """A camera as the batcher sees it."""

    mailbox: Mailbox
    max_staleness_ms: Optional[float] = None

    @property
    def camera(self) -> str:
        """The camera's name."""
        return self.mailbox.camera

    def is_stale(self, info: FrameInfo, now_ns: int) -> bool:
        """Tells whether a frame has become too old to be worth inferring."""
        return is_stale(info.captured_ns, self.max_staleness_ms, now_ns)

    def take_fresh(self, expected: FrameInfo, now_ns: int) -> Optional[Frame]:
        """The frame that was peeked at, unless it is stale: then it is counted and gone.

        None also if a newer one has come meanwhile: that one is still to be decided about.
        """
        frame = self.mailbox.take(expected)
        if frame is not None and self.is_stale(frame.info, now_ns):
            self.mailbox.count_drop(DropCause.STALE)
            return None
        return frame

    def abort(self) -> None:
        """Counts the waiting frame, if there is one, as aborted."""
        if self.mailbox.take() is not None:
            self.mailbox.count_drop(DropCause.ABORTED)
