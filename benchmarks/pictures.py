"""Frames to measure with."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from edge.geometry import Image

_COUNT = 8


def pictures(count: int, size_wh: Tuple[int, int]) -> Image:
    """Frames uint8 [count, H, W, 3] of noise, the same eight over and over.

    Never zeros, which a GPU computes faster than pictures.
    """
    width, height = size_wh
    random = np.random.default_rng(0)
    several = random.integers(0, 256, (_COUNT, height, width, 3), np.uint8)
    chosen: Image = several[np.arange(count) % _COUNT]
    return chosen
