"""Pinned memory that frames are drawn into, and that engines of one device read them from."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np

from edge.config.schema import Memory
from edge.geometry import PAD_GREY, Image
from edge.inference.cuda import Context, PinnedArray


class PinnedRows:
    """Allocates frames' memory that goes up while Python goes on; it ends with `release` or
    `close`."""

    def __init__(self, context: Context, memory: Memory) -> None:
        self._context = context
        self._is_mapped = memory is not Memory.COPY
        self._arrays: List[PinnedArray] = []

    def allocate(self, shape: Tuple[int, int, int, int]) -> Image:
        """Grey rows uint8 [n, H, W, 3]; raises EngineOutOfMemory."""
        with self._context.current():
            array = PinnedArray(self._context, shape, np.uint8, is_mapped=self._is_mapped)
        self._arrays.append(array)
        rows: Image = array.array
        rows[...] = PAD_GREY
        return rows

    def release(self, rows: Image) -> None:
        """Frees what `allocate` gave, once nobody reads or writes it any more."""
        (array,) = (array for array in self._arrays if array.array is rows)
        self._arrays.remove(array)
        with self._context.current():
            array.close()

    def close(self) -> None:
        """Frees them all; may be called again."""
        with self._context.current():
            while self._arrays:
                self._arrays.pop().close()
