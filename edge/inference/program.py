"""What a backend brings to the overlap loop: a network on the device."""

from __future__ import annotations

from typing import Protocol, Tuple

from edge.inference.cuda import Stream


class Program(Protocol):
    """A network on the device; `max_batch` rows at most, exactly so many where it is static.

    Made, used and closed where the context is current, by one thread at a time.
    """

    @property
    def max_batch(self) -> int:
        """The largest batch of one call."""

    @property
    def is_static(self) -> bool:
        """True where every call has `max_batch` rows."""

    @property
    def input_wh(self) -> Tuple[int, int]:
        """Width and height of a frame in pixels."""

    @property
    def candidates(self) -> int:
        """Rows of detections for each frame."""

    def enqueue(
        self, rows: int, frames_pointer: int, detections_pointer: int, stream: Stream
    ) -> None:
        """Queues one batch on a stream, from and to GPU memory that nobody touches meanwhile.

        Raises EngineError, with nothing of it left on the stream that would not end.
        """
