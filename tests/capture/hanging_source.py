"""Sources that hang until a test lets them go."""

from __future__ import annotations

import queue
import threading
from typing import List, Optional

import numpy as np

from edge.capture.source import Picture
from edge.errors import CaptureError

GENEROUS_S = 60.0


def picture(level: int) -> Picture:
    return Picture(np.full((4, 6, 3), level, np.uint8))


class HangingSource:
    """Delivers `pictures`, then hangs in the call that `hangs_in` names until `gate` opens.

    After that it delivers `late` for ever, or raises it.
    """

    def __init__(self, hangs_in: str, pictures: int = 0, late: Optional[CaptureError] = None):
        self.gate = threading.Event()
        self.hung = threading.Event()
        self.closed = threading.Event()
        self.closed_by: Optional[threading.Thread] = None
        self.threads: List[threading.Thread] = []
        self._hangs_in = hangs_in
        self._left = pictures
        self._late = late

    def open(self) -> None:
        self.threads.append(threading.current_thread())
        if self._hangs_in == "open":
            self._hang()

    def read(self) -> Picture:
        if self._left:
            self._left -= 1
            return picture(1)
        if self._hangs_in == "read":
            self._hang()
        elif self._hangs_in == "close":
            raise CaptureError("cable pulled")
        if self._late is not None:
            raise self._late
        return picture(99)

    def close(self) -> None:
        self.closed_by = threading.current_thread()
        if self._hangs_in == "close":
            self._hang()
        self.closed.set()

    def _hang(self) -> None:
        self.hung.set()
        assert self.gate.wait(GENEROUS_S)


class FedSource:
    """Delivers what is put into `feed`: a picture, an error to raise, or None for the end."""

    def __init__(self) -> None:
        self.feed: queue.Queue[object] = queue.Queue()
        self.opened = 0

    def open(self) -> None:
        self.opened += 1

    def read(self) -> Optional[Picture]:
        step = self.feed.get(timeout=GENEROUS_S)
        if isinstance(step, CaptureError):
            raise step
        assert step is None or isinstance(step, Picture)
        return step

    def close(self) -> None:
        pass
