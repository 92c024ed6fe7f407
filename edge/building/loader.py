"""Loads engines on a device that may never answer."""

from __future__ import annotations

import math
import threading
from concurrent.futures import Future, wait
from typing import Callable, Optional, Set

from edge.errors import EngineHangs
from edge.inference.engine import Engine
from edge.threads import call_in_thread

# Large engines take half a minute on a small module, and measuring their kernels a few more.
LIMIT_S = 600.0

_POLL_S = 0.1


class Loader:
    """Loads each engine in a thread of its own, which is left behind where it takes too long.

    What such a thread still brings is closed. `stop` ends the waiting at once.
    """

    def __init__(self, stop: threading.Event, limit_s: float = LIMIT_S) -> None:
        self._stop = stop
        self._limit_s = limit_s
        self._left_behind: Set[Future[Engine]] = set()

    @property
    def is_idle(self) -> bool:
        """False while a thread that was left behind still uses the device."""
        return not self._left_behind

    def load(self, open_engine: Callable[[], Engine]) -> Optional[Engine]:
        """Loads an engine; None where told to stop meanwhile.

        Raises what `open_engine` raises, and EngineHangs where that does not end.
        """
        if self._stop.is_set():
            return None
        loading = call_in_thread("loading", open_engine)
        # Counted in steps, so that a process that is stopped for a while does not blame the device.
        for _ in range(math.ceil(self._limit_s / _POLL_S)):
            if wait([loading], _POLL_S).done:
                return loading.result()
            if self._stop.is_set():
                self._leave(loading)
                return None
        self._leave(loading)
        raise EngineHangs(f"no engine within {self._limit_s:g} s of loading: the device hangs")

    def _leave(self, loading: Future[Engine]) -> None:
        self._left_behind.add(loading)
        loading.add_done_callback(self._close)

    def _close(self, loading: Future[Engine]) -> None:
        """Closes what nobody waits for any more, in the thread that brings it."""
        if loading.exception() is None:
            loading.result().close()
        self._left_behind.discard(loading)
