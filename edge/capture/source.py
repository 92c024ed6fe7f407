"""What every kind of camera looks like to its reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional, Protocol

from edge.errors import CaptureError
from edge.geometry import Image
from edge.records import TimestampSource


@dataclass(frozen=True)
class Picture:
    """A decoded picture, uint8 [h, w, 3] BGR, contiguous and not touched again by its source.

    `media_s` is set by recordings: the reader releases the picture that many seconds after the
    first; it grows across loops. `captured_ns` (monotonic) and `ts_source` are set where the
    camera itself knows the time.
    """

    image: Image
    media_s: Optional[float] = None
    captured_ns: Optional[int] = None
    ts_source: TimestampSource = TimestampSource.RECEIVE


class Busy(CaptureError):
    """A source cannot be opened yet, through no fault of its own: try again at once."""


class Source(Protocol):
    """A stream of pictures, used by one thread.

    Every failure is a `CaptureError` of one line that never shows a camera's credentials.
    """

    def open(self) -> None:
        """Starts from the beginning; may be called again after `close`. May raise Busy."""

    def read(self) -> Optional[Picture]:
        """Waits for the next picture; None at the end."""

    def close(self) -> None:
        """Frees what `open` took; may be called at any time and twice."""


def open_in_turn(source: Source, on_try: Callable[[], None] = lambda: None) -> None:
    """Opens a source, for as long as its turn takes to come; raises CaptureError.

    `on_try` is called before each try, of which the last is the one that counts.
    """
    while True:
        on_try()
        try:
            source.open()
        except Busy:
            continue
        return
