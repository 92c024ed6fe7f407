"""Boxes for the gate's tests, written as rows."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np

from edge.building.gate import Predictions
from edge.records import Detections

Row = Tuple[float, float, float, float, float, int]
"""x1, y1, x2, y2, score, class."""


def detections(rows: Sequence[Row]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def predictions(
    name: str, images: Sequence[Sequence[Row]], unsound_images: int = 0, top_score: float = 0.9
) -> Predictions:
    return Predictions(name, tuple(map(detections, images)), unsound_images, top_score)


def line_of(count: int, class_id: int = 0, score: float = 0.8) -> List[Row]:
    """Boxes of 10 x 10 that touch nobody, a row of pixels per class."""
    y = 20.0 * class_id
    return [(20.0 * n, y, 20.0 * n + 10, y + 10, score, class_id) for n in range(count)]
