"""How alike two pictures are, for people who pick images: a picture as 32 x 32 grey cells."""

from __future__ import annotations

from typing import Optional, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.geometry import Image

CELLS = 32
"""Cells of a thumbnail along each side, whatever the picture's shape."""

# The same picture saved at JPEG quality 60 changes no cell by more than 2 levels, scaled to 0.7 of
# its size none by more than 9; two frames of a running belt 1/30 s apart change one by 50.
_ALIKE_LEVELS = 8

# Cells of a coarse thumbnail along each side.
_COARSE = 4


def thumbnail(image: Image) -> Image:
    """The mean grey of each cell, uint8 [32, 32], of a picture uint8 [h, w, 3] BGR or [h, w]."""
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, (CELLS, CELLS), interpolation=cv2.INTER_AREA), np.uint8)


def is_alike(one: Image, other: Image) -> bool:
    """Tells whether no cell of two thumbnails differs by more than a recompression may do.

    A perceptual hash of 64 bits sees no small part on a belt that fills the picture, and takes the
    noise of a flat surface for a difference.
    """
    return bool(_alike(one[np.newaxis], other).any())


class Album:
    """Thumbnails that others are looked up in."""

    def __init__(self, thumbnails: Sequence[Image]) -> None:
        self._fine = np.array(thumbnails, np.uint8).reshape(-1, CELLS, CELLS)
        self._coarse = _coarse(self._fine)

    def holds_alike(self, one: Image, before: Optional[int] = None) -> bool:
        """Tells whether a thumbnail, of those `before` that place or of all, is alike to this."""
        # A mean differs by no more than its worst cell: nothing alike is missed.
        far = np.abs(self._coarse[:before] - _coarse(one[np.newaxis])).max(axis=1)
        return bool(_alike(self._fine[:before][far <= _ALIKE_LEVELS], one).any())


def _alike(many: Image, one: Image) -> NDArray[np.bool_]:
    # Bytes all the way: eight times as fast as in wider integers.
    difference = np.maximum(many, one) - np.minimum(many, one)
    worst: Image = difference.max(axis=(1, 2), initial=0)
    return worst <= _ALIKE_LEVELS


def _coarse(thumbnails: Image) -> NDArray[np.float64]:
    size = CELLS // _COARSE
    blocks = thumbnails.reshape(-1, _COARSE, size, _COARSE, size)
    means: NDArray[np.float64] = blocks.mean(axis=(2, 4))
    return means.reshape(len(thumbnails), _COARSE * _COARSE)
