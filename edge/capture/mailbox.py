"""Where a camera's newest frame waits for the batch."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Callable, DefaultDict, Dict, List, Optional

from edge.records import DropCause, Frame, FrameInfo, OnFrame


class Mailbox:
    """Holds at most one frame: a newer one replaces it, and the loss is counted.

    Once closed it holds none.
    """

    def __init__(self, camera: str, on_frame: OnFrame) -> None:
        self.camera = camera
        self._on_frame = on_frame
        self._lock = threading.Lock()
        self._frame: Optional[Frame] = None
        self._received = 0
        self._is_closed = False
        self._dropped: DefaultDict[DropCause, int] = defaultdict(int)
        self._curious: List[Callable[[Frame], object]] = []

    def put(self, frame: Frame) -> None:
        """Makes `frame` the newest, then tells `on_frame`."""
        with self._lock:
            self._received += 1
            if self._is_closed:
                self._dropped[DropCause.ABORTED] += 1
                return
            if self._frame is not None:
                self._dropped[DropCause.SUPERSEDED] += 1
            self._frame = frame
            curious, self._curious = self._curious, []
        self._on_frame()
        for look in curious:
            look(frame)

    def show_next(self, look: Callable[[Frame], object]) -> None:
        """Shows the next frame to `look`, once, on the thread that puts it, which is not to wait.

        The frame goes its way all the same.
        """
        with self._lock:
            self._curious.append(look)

    def take(self, expected: Optional[FrameInfo] = None) -> Optional[Frame]:
        """Hands over the newest frame, once; None if there is none, or not the `expected` one."""
        with self._lock:
            frame = self._frame
            if frame is None or (expected is not None and frame.info is not expected):
                return None
            self._frame = None
        return frame

    def peek(self) -> Optional[FrameInfo]:
        """Describes the frame that waits, if one does."""
        frame = self._frame
        return None if frame is None else frame.info

    def count_drop(self, cause: DropCause) -> None:
        """Counts one frame of this camera that was lost outside the mailbox."""
        with self._lock:
            self._dropped[cause] += 1

    def close(self) -> None:
        """Counts the frame that waits, and all that still come, as aborted."""
        with self._lock:
            self._is_closed = True
            if self._frame is not None:
                self._frame = None
                self._dropped[DropCause.ABORTED] += 1

    @property
    def received(self) -> int:
        """Frames put since the start."""
        return self._received

    @property
    def dropped(self) -> Dict[DropCause, int]:
        """Frames lost since the start, by cause; a copy."""
        with self._lock:
            return dict(self._dropped)

    def __repr__(self) -> str:
        waiting = self.peek()
        state = "empty" if waiting is None else f"frame {waiting.frame_id}"
        drops = "".join(f", {count} {cause.value}" for cause, count in self.dropped.items())
        return f"<Mailbox {self.camera}: {state}{drops}>"
