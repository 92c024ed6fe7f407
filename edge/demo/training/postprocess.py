"""Raw model output to boxes, for the evaluation alone: it must not share the daemon's mistakes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.demo.training.dataset import MODEL_SIZE_PX

_MAX_CANDIDATES = 600


class Found(NamedTuple):
    """Detections of one image: boxes_xyxy [K, 4], scores [K], class_ids [K]; best first."""

    boxes_xyxy: NDArray[Any]
    scores: NDArray[Any]
    class_ids: NDArray[Any]


def iou_matrix(first_xyxy: NDArray[Any], second_xyxy: NDArray[Any]) -> NDArray[Any]:
    """Return the IoU [K, L] of boxes [K, 4] with boxes [L, 4]."""
    low = np.maximum(first_xyxy[:, None, :2], second_xyxy[None, :, :2])
    high = np.minimum(first_xyxy[:, None, 2:], second_xyxy[None, :, 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=-1)
    first_area = (first_xyxy[:, 2:] - first_xyxy[:, :2]).prod(axis=-1)
    second_area = (second_xyxy[:, 2:] - second_xyxy[:, :2]).prod(axis=-1)
    total = first_area[:, None] + second_area[None] - shared
    return np.asarray(shared / np.maximum(total, 1e-9))


def suppress(boxes_xyxy: NDArray[Any], class_ids: NDArray[Any], max_iou: float) -> NDArray[Any]:
    """Return the indices that class-aware NMS keeps of boxes sorted best first."""
    shifted = boxes_xyxy + class_ids[:, None] * (4.0 * MODEL_SIZE_PX)
    overlap = iou_matrix(shifted, shifted) > max_iou
    alive = np.ones(len(boxes_xyxy), bool)
    for index in range(len(boxes_xyxy)):
        if alive[index]:
            alive[index + 1 :] &= ~overlap[index, index + 1 :]
    return np.flatnonzero(alive)


def decode(raw: NDArray[Any], min_score: float, max_iou: float) -> Found:
    """Return the detections in one raw output [4 + C, N]; an anchor may name several classes."""
    anchors, class_ids = np.nonzero(min_score <= raw[4:].T)
    scores = raw[4:].T[anchors, class_ids]
    order = np.argsort(-scores, kind="stable")[:_MAX_CANDIDATES]
    anchors, class_ids, scores = anchors[order], class_ids[order], scores[order]
    centres, half_sizes = raw[:2].T[anchors], raw[2:4].T[anchors] / 2
    boxes = np.clip(
        np.concatenate((centres - half_sizes, centres + half_sizes), axis=1), 0, MODEL_SIZE_PX
    )
    kept = suppress(boxes, class_ids, max_iou)
    return Found(boxes[kept], scores[kept], class_ids[kept])
