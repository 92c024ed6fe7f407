"""What the batcher needs of a camera and of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol

from edge.clock import NS_PER_MS
from edge.records import Batch, DropCause, Frame, FrameInfo


class Mailbox(Protocol):
    """Where a camera's newest frame waits."""

    @property
    def camera(self) -> str:
        """The camera's name."""

    @property
    def received(self) -> int:
        """Frames that came in since the start, also those that were replaced."""

    def peek(self) -> Optional[FrameInfo]:
        """The waiting frame, left where it is."""

    def take(self, expected: Optional[FrameInfo] = None) -> Optional[Frame]:
        """The waiting frame, now the caller's; None if it is not the `expected` one."""

    def count_drop(self, cause: DropCause) -> None:
        """Counts a taken frame that will not be inferred."""

    def close(self) -> None:
        """Counts as aborted what waits, and what a camera that cannot be stopped still sends."""


class Sink(Protocol):
    """The pipeline."""

    def can_take(self) -> bool:
        """True while a shared batch handed in now would start soon."""

    def submit(self, batch: Batch) -> None:
        """Accepts a closed batch; its slot comes back through the ring."""

    def exchange(self, waiting: Batch, batch: Batch) -> bool:
        """Accepts a batch in the place of a submitted one, whose slot is then the caller's.

        False, and nothing, if the engine has taken that.
        """


@dataclass(frozen=True)
class Feed:
    """A camera as the batcher sees it."""

    mailbox: Mailbox
    max_staleness_ms: Optional[float] = None

    @property
    def camera(self) -> str:
        """The camera's name."""
        return self.mailbox.camera

    def fresh_until_ns(self, info: FrameInfo) -> Optional[int]:
        """When a frame becomes too old to be worth inferring; None: never."""
        if self.max_staleness_ms is None:
            return None
        return info.captured_ns + int(self.max_staleness_ms * NS_PER_MS)

    def take_fresh(self, expected: FrameInfo, now_ns: int) -> Optional[Frame]:
        """The frame that was peeked at, unless it is stale: then it is counted and gone.

        None also if a newer one has come meanwhile: that one is still to be decided about.
        """
        frame = self.mailbox.take(expected)
        fresh_until_ns = self.fresh_until_ns(expected)
        if frame is not None and fresh_until_ns is not None and now_ns > fresh_until_ns:
            self.mailbox.count_drop(DropCause.STALE)
            return None
        return frame
