"""Non-maximum suppression: of overlapping boxes of one class only the best stays."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Far beyond any detector's input. Boxes are cut there, so that one absurd box cannot make the
# class offsets so large that they swallow the others' pixels.
_FARTHEST_PX = 1e5


def is_box(candidates: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tells which rows of [K, 6] are finite, have an area and a score above 0; bool [K]."""
    finite = np.isfinite(candidates).all(axis=1)
    has_width = candidates[:, 2] > candidates[:, 0]
    has_height = candidates[:, 3] > candidates[:, 1]
    kept: NDArray[np.bool_] = finite & has_width & has_height & (candidates[:, 4] > 0)
    return kept


def suppress(candidates: NDArray[np.float32], iou_threshold: float) -> NDArray[np.float32]:
    """Class-aware non-maximum suppression of one image.

    Takes float32 [K, 6] x1, y1, x2, y2, score, class in any order; returns the rows that stay,
    by falling score. A row goes where its IoU with a better one of its class exceeds the
    threshold, or where it is no box (`is_box`).
    """
    boxes: NDArray[np.float32] = candidates[is_box(candidates)]
    # Lists: cv2 reads them faster than arrays. It gives an array, but a tuple when empty.
    apart = _apart_by_class(boxes).tolist()
    kept = cv2.dnn.NMSBoxes(apart, boxes[:, 4].tolist(), 0.0, iou_threshold)
    best: NDArray[np.float32] = boxes[np.asarray(kept, np.int64).reshape(-1)]
    return best


def _apart_by_class(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Boxes as x, y, width, height, each class moved where no other's boxes can overlap it.

    In float64: with 1000 classes the offsets pass a million, where float32 keeps 1/8 pixel.
    """
    corners = boxes[:, :4].astype(np.float64).clip(-_FARTHEST_PX, _FARTHEST_PX)
    span = np.ptp(corners) + 1.0 if len(corners) else 1.0
    xywh: NDArray[np.float64] = corners.copy()
    xywh[:, 2:] -= corners[:, :2]
    xywh[:, :2] += boxes[:, 5:6].astype(np.float64) * span
    return xywh
