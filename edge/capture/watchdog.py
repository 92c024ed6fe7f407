"""Looks after all cameras' readers."""

from __future__ import annotations

from collections import Counter
from typing import Callable, Iterable, Mapping, Optional, Sequence

from edge.capture.reader import Reader
from edge.clock import NS_PER_S
from edge.errors import CaptureError
from edge.threads import OnFailure

# Each keeps a decoder and its buffers, easily 50 MB: only the process's end frees them.
MAX_HANGING = 8
# A process that was stopped, or starved, wakes up with every camera long overdue.
_PAUSE_NS = 2 * NS_PER_S


class Watchdog:
    """Notices cameras that stall, replaces threads that hang, and ends the app at too many.

    `others` tells of threads that hang in cameras which nobody reads any more: by camera, at a
    monotonic time.
    """

    def __init__(
        self,
        readers: Iterable[Reader],
        on_failure: OnFailure,
        others: Callable[[int], Mapping[str, int]] = lambda now_ns: {},
    ) -> None:
        self.readers: Sequence[Reader] = list(readers)
        self._on_failure = on_failure
        self._others = others
        self._checked_ns: Optional[int] = None

    def check(self, now_ns: int) -> None:
        """Called several times a second, always from the same thread."""
        paused_ns = 0 if self._checked_ns is None else now_ns - self._checked_ns
        self._checked_ns = now_ns
        for reader in self.readers:
            if paused_ns > _PAUSE_NS:
                reader.excuse(paused_ns)
            reader.check_stall(now_ns)
        hanging = Counter({reader.name: reader.hanging for reader in self.readers})
        hanging.update(self._others(now_ns))
        if sum(hanging.values()) >= MAX_HANGING:
            self._on_failure("capture", CaptureError(_words(hanging)))


def _words(hanging: Mapping[str, int]) -> str:
    cameras = ", ".join(f"{name} {count}" for name, count in hanging.items() if count)
    return (
        f"{sum(hanging.values())} threads hang in the drivers of cameras ({cameras}): "
        "only a restart of the process frees what they hold"
    )
