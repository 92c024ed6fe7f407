"""The engines of a line: one for all frames, and in time one for priority frames alone.

Part of the composition root, with `line.py`.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Callable, Optional

from edge.health.host import free_memory_bytes
from edge.inference.batch_cap import affordable_rows, cap_of
from edge.inference.chunks import ChunkedEngine
from edge.inference.engine import Engine
from edge.inference.seat import EngineSeat
from edge.records import EngineInfo

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What limits the batch of one call: the configuration, the Jetson's `module`, and memory, of
    which each frame needs about `row_bytes`; 0 where that is not known."""

    configured: Optional[int]
    module: Optional[str]
    row_bytes: int


class Seating:
    """Seats engines, others in their place while frames flow, and closes each in the end.

    `on_shrink` is told the cap after memory ran out.
    """

    def __init__(self, engine: Engine, limits: Limits, on_shrink: Callable[[int], None]) -> None:
        self._limits = limits
        self._on_shrink = on_shrink
        self.shared = EngineSeat(self._chunked(engine))
        self._seating = threading.Lock()
        self._priority: Optional[EngineSeat] = None
        self._is_closed = False

    @property
    def info(self) -> EngineInfo:
        """What serves, with the batch it is allowed at present."""
        return self.shared.engine.info

    @property
    def priority_info(self) -> Optional[EngineInfo]:
        """What serves the priority cameras alone; None while they share the one for all."""
        return None if self._priority is None else self._priority.engine.info

    def exchange(self, engine: Engine) -> None:
        """Lets another engine serve all frames from the next batch on; after `close` it ends."""
        self.shared.exchange(self._chunked(engine)).close()

    def serve_priority(self, engine: Engine, open_lane: Callable[[EngineSeat], None]) -> None:
        """Lets an engine serve priority frames alone; one that comes after `close` is closed.

        A lane is opened for the first, whose place the next ones take.
        """
        alone = ChunkedEngine(engine, 1, self._on_shrink)
        with self._seating:
            seat = self._priority
            if seat is None and not self._is_closed:
                self._priority = EngineSeat(alone)
                open_lane(self._priority)
                return
        # Not under the lock: it waits for the batch that is out.
        leaving = alone if seat is None else seat.exchange(alone)
        leaving.close()

    def close(self) -> None:
        """Closes what is seated, nothing being out, and whatever comes later."""
        with self._seating:
            self._is_closed = True
            seats = [self.shared] if self._priority is None else [self.shared, self._priority]
        for seat in seats:
            seat.close()

    def _chunked(self, engine: Engine) -> ChunkedEngine:
        limits = self._limits
        affordable = affordable_rows(free_memory_bytes(), limits.row_bytes)
        cap, decided_by = cap_of(engine.info, limits.configured, limits.module, affordable)
        log.info("up to %d frames at once, by %s", cap, decided_by)
        return ChunkedEngine(engine, cap, self._on_shrink)
