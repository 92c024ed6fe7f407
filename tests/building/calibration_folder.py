"""Folders of small pictures, drawn from a number."""

from __future__ import annotations

from pathlib import Path
from typing import Tuple

import cv2
import numpy as np

from edge.geometry import Image


def picture(seed: int, size_wh: Tuple[int, int] = (96, 64)) -> Image:
    """Soft random blotches, uint8 [h, w, 3] BGR; two seeds never look alike."""
    blotches = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(blotches, size_wh, interpolation=cv2.INTER_LINEAR), np.uint8)


def encoded(image: Image, suffix: str = ".jpg", quality: int = 95) -> bytes:
    done, data = cv2.imencode(suffix, image, (cv2.IMWRITE_JPEG_QUALITY, quality))
    assert done
    return bytes(data.tobytes())


def fill(folder: Path, count: int, first: int = 0) -> Path:
    """Puts `count` pictures into the folder, named by their seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        (folder / f"{seed:03d}.jpg").write_bytes(encoded(picture(seed)))
    return folder
