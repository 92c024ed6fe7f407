"""Batches on their way to the engine: priority first, but not for ever."""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from typing import Deque, Dict, Optional

from edge.records import Batch, Lane


class LaneQueue:
    """A queue of batches in which priority ones overtake the others.

    After `burst` priority batches in a row a waiting shared batch goes first, so that priority
    cameras faster than the engine starve nobody.
    """

    def __init__(self, burst: int) -> None:
        self._burst = burst
        self._run = 0
        self._lanes: Dict[Lane, Deque[Batch]] = {lane: deque() for lane in Lane}
        self._lock = threading.Lock()
        # One for each batch and one for the end: a SimpleQueue wakes its waiter in half the time
        # that a Condition takes.
        self._tokens: SimpleQueue[None] = SimpleQueue()

    def put(self, batch: Batch) -> None:
        """Adds a batch; never blocks."""
        with self._lock:
            self._lanes[batch.lane].append(batch)
        self._tokens.put(None)

    def exchange(self, waiting: Batch, batch: Batch) -> bool:
        """Puts a batch in the place of one that waits; False, and nothing, if that was taken."""
        with self._lock:
            lane = self._lanes[waiting.lane]
            if waiting not in lane:
                return False
            lane[lane.index(waiting)] = batch
            return True

    def get(self) -> Optional[Batch]:
        """Waits for the next batch; None once the queue is closed and empty."""
        self._tokens.get()
        with self._lock:
            batch = self._pop()
        if batch is None:
            self._tokens.put(None)  # the end stays the end, whoever asks again
        return batch

    def close(self) -> None:
        """Lets `get` return None after what is queued."""
        self._tokens.put(None)

    def _pop(self) -> Optional[Batch]:
        priority, shared = self._lanes[Lane.PRIORITY], self._lanes[Lane.BATCH]
        if not priority and not shared:
            return None
        if priority and not (shared and self._run >= self._burst):
            # Only while somebody waits does a run of priority batches count against it.
            self._run = self._run + 1 if shared else 0
            return priority.popleft()
        self._run = 0
        return shared.popleft()
