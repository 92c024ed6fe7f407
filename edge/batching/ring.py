"""A fixed number of slots that go round: filling, running, being read, free again."""

from __future__ import annotations

import threading
from typing import Callable, List, Optional, Tuple

import numpy as np

from edge.geometry import PAD_GREY, Image
from edge.records import BatchTarget, Slot, TargetSource

# Of the memory that is free at the start, what the slots may take: the network's own need, and on
# a Jetson the GPU's, come out of the same.
_MEMORY_SHARE = 0.25

Allocate = Callable[[Tuple[int, int, int, int]], Image]
"""Makes the host memory of one slot, uint8 of the given shape; pinned where there is a GPU."""


def allocate_pageable(shape: Tuple[int, int, int, int]) -> Image:
    """Ordinary memory, for backends that compute on the host."""
    return np.full(shape, PAD_GREY, np.uint8)


class SlotRing:
    """Hands out free slots and takes them back; memory is bounded by construction."""

    def __init__(
        self,
        count: int,
        rows: int,
        input_wh: Tuple[int, int],
        allocate: Allocate = allocate_pageable,
    ) -> None:
        width, height = input_wh
        self._lock = threading.Lock()
        self._count = count
        self._free: List[Slot] = [
            Slot(index, allocate((rows, height, width, 3)), self._take_back)
            for index in range(count)
        ]

    def acquire(self) -> Optional[Slot]:
        """A free slot, or None while all are in use."""
        with self._lock:
            return self._free.pop() if self._free else None

    def _take_back(self, slot: Slot) -> None:
        with self._lock:
            if any(free is slot for free in self._free):
                raise ValueError(f"{slot!r} released twice")
            self._free.append(slot)

    def __repr__(self) -> str:
        with self._lock:
            return f"<SlotRing {len(self._free)} of {self._count} slots free>"


def within_memory(
    target: BatchTarget, slots: int, input_wh: Tuple[int, int], free_bytes: int
) -> BatchTarget:
    """The target, or as many frames as `slots` slots may hold in a quarter of the free memory.

    At least one: a batch of a single frame is what the rest of the system would be without.
    """
    frame_bytes = input_wh[0] * input_wh[1] * 3
    affordable = max(int(free_bytes * _MEMORY_SHARE) // (slots * frame_bytes), 1)
    if affordable >= target.frames:
        return target
    return BatchTarget(affordable, TargetSource.MEMORY)
