"""What a detector finds in a busy picture, without a detector."""

from __future__ import annotations

from typing import Tuple

import numpy as np
from numpy.typing import NDArray

CLASS_COUNT = 80
CANDIDATES = 1024  # the default of model.max_candidates

_OBJECTS = 12
_BOXES_PER_OBJECT = 10  # around each object a YOLO head gives about so many boxes above 0.25


def busy_picture(model_wh: Tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    """Candidates float32 [K, 6] of one picture: x1, y1, x2, y2, score, class, best first.

    12 objects with 10 boxes each above a score of 0.25; the rest is the usual tail below.
    """
    random = np.random.default_rng(seed)
    picked = np.arange(CANDIDATES) % _OBJECTS
    centers = random.uniform(0.15, 0.85, (_OBJECTS, 2)) * model_wh
    centers[:, 1] = model_wh[1] / 2 + (centers[:, 1] - model_wh[1] / 2) * 0.5  # inside 16:9
    sizes = random.uniform(0.05, 0.2, (_OBJECTS, 2)) * model_wh
    jitter = random.normal(0, 0.06, (CANDIDATES, 2)) * sizes[picked]
    found = np.empty((CANDIDATES, 6), np.float32)
    found[:, 0:2] = centers[picked] + jitter - sizes[picked] / 2
    found[:, 2:4] = centers[picked] + jitter + sizes[picked] / 2
    found[:, 4] = _scores(random)
    found[:, 5] = random.integers(0, CLASS_COUNT, _OBJECTS)[picked]
    return found


def _scores(random: np.random.Generator) -> NDArray[np.float64]:
    above = np.sort(random.uniform(0.26, 0.95, _OBJECTS * _BOXES_PER_OBJECT))[::-1]
    below = np.sort(random.exponential(0.02, CANDIDATES - len(above)))[::-1]
    return np.concatenate([above, np.minimum(below, 0.24)])
