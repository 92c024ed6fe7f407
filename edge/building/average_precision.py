"""Average precision of found boxes against true ones, matched as COCO does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.records import Detections

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
_RECALLS: Floats = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, eq=False)
class Gathered:
    """The boxes of many images end to end, as arrays of equal length.

    boxes_xyxy float64 [N, 4] in the pixels of their image, scores float32 [N], class_ids and
    image_ids int64 [N], image_ids rising.
    """

    boxes_xyxy: Floats
    scores: NDArray[np.float32]
    class_ids: Indices
    image_ids: Indices

    @classmethod
    def of(cls, images: Sequence[Detections]) -> Gathered:
        """Gathers the boxes of `images`; the place in the sequence is the image's id."""
        images = [*images, Detections.empty()]  # concatenate wants at least one
        counts = [len(image) for image in images]
        return cls(
            np.concatenate([image.boxes_xyxy for image in images]).astype(np.float64),
            np.concatenate([image.scores for image in images]),
            np.concatenate([image.class_ids for image in images]),
            np.repeat(np.arange(len(images)), counts),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def rows_of(self, image_id: int) -> slice:
        """Where the boxes of one image lie."""
        first, last = np.searchsorted(self.image_ids, [image_id, image_id + 1])
        return slice(int(first), int(last))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Found and true boxes of the same image and class that overlap, as indices int64 [P].

    `iou` is float64 [P]. In the order in which they are matched: the best scored found box
    chooses first, and takes the true box it overlaps most.
    """

    found: Indices
    truth: Indices
    iou: Floats

    def matched(self, iou_threshold: float) -> Pairs:
        """Pairs of at least that IoU in which every box occurs at most once."""
        candidates = np.flatnonzero(self.iou >= iou_threshold)
        found, truth = self.found[candidates], self.truth[candidates]
        taken: List[int] = []
        # Plain bytes and integers: each choice depends on those before it.
        is_found_busy = bytearray(int(np.max(found, initial=0)) + 1)
        is_truth_busy = bytearray(int(np.max(truth, initial=0)) + 1)
        for place, ours, theirs in zip(candidates.tolist(), found.tolist(), truth.tolist()):
            if not (is_found_busy[ours] or is_truth_busy[theirs]):
                is_found_busy[ours] = is_truth_busy[theirs] = True
                taken.append(place)
        return Pairs(self.found[taken], self.truth[taken], self.iou[taken])


@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """One row per class and one column per IoU threshold, NaN where a class has no true box.

    `coco` float64 [C, T] samples precision at 101 recalls, as pycocotools does; `area` float64
    [C, T] is the whole area under the same curve. They differ by up to a hundredth: a single
    true box that is never found costs `coco` its last sample, however many boxes there are.
    `box_counts` int64 [C] counts the true boxes.
    """

    coco: Floats
    area: Floats
    box_counts: Indices


def average_precision(
    found: Gathered, truth: Gathered, class_count: int, iou_thresholds: Floats = IOU_THRESHOLDS
) -> AveragePrecision:
    """Scores `found` against `truth`, whose own scores do not matter.

    Equal scores are taken in the order of the images, then of their boxes. Raises ValueError
    for a class that is not in 0..class_count-1.
    """
    for boxes in (found, truth):
        _check_classes(boxes.class_ids, class_count)
    pairs = overlapping(found, truth, float(np.min(iou_thresholds)))
    is_right = np.zeros((len(iou_thresholds), len(found)), bool)
    for row, threshold in zip(is_right, iou_thresholds):
        row[pairs.matched(float(threshold)).found] = True
    box_counts = np.bincount(truth.class_ids, minlength=class_count)
    coco = np.full((class_count, len(iou_thresholds)), np.nan)
    area = coco.copy()
    ranked = _ranked(found.scores)
    for class_id in np.flatnonzero(box_counts).tolist():
        of_class = ranked[found.class_ids[ranked] == class_id]
        curves = is_right[:, of_class]
        coco[class_id], area[class_id] = _under_curves(curves, int(box_counts[class_id]))
    return AveragePrecision(coco, area, box_counts)


def overlapping(found: Gathered, truth: Gathered, iou_threshold: float) -> Pairs:
    """All pairs of one image and class with at least that IoU, which must be above 0."""
    images = np.intersect1d(found.image_ids, truth.image_ids)
    parts = [_pairs_of_image(found, truth, int(image), iou_threshold) for image in images]
    none = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    columns = list(zip(none, *parts))
    found_at, truth_at, iou = (np.concatenate(column) for column in columns)
    place = np.empty(len(found), np.int64)
    place[_ranked(found.scores)] = np.arange(len(found))
    # Of two true boxes that a found one overlaps equally COCO takes the later.
    order = np.lexsort((-truth_at, -iou, place[found_at]))
    return Pairs(found_at[order], truth_at[order], iou[order])


def box_iou(boxes: Floats, others: Floats) -> Floats:
    """Intersection over union of each box [P, 4] with the other at its place [P, 4]: [P]."""
    top_left = np.maximum(boxes[:, :2], others[:, :2])
    bottom_right = np.minimum(boxes[:, 2:], others[:, 2:])
    width, height = (bottom_right - top_left).clip(0).T
    shared = width * height
    union = _areas(boxes) + _areas(others) - shared
    iou: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
    return iou


def _pairs_of_image(
    found: Gathered, truth: Gathered, image_id: int, iou_threshold: float
) -> Tuple[Indices, Indices, Floats]:
    ours, theirs = found.rows_of(image_id), truth.rows_of(image_id)
    left, top, right, bottom = found.boxes_xyxy[ours].T[:, :, None]
    other_left, other_top, other_right, other_bottom = truth.boxes_xyxy[theirs].T[:, None, :]
    # Few boxes touch: only for them is the IoU worth its time.
    touches = found.class_ids[ours, None] == truth.class_ids[None, theirs]
    touches &= (left < other_right) & (other_left < right)
    touches &= (top < other_bottom) & (other_top < bottom)
    rows, columns = np.nonzero(touches)
    rows, columns = rows + ours.start, columns + theirs.start
    iou = box_iou(found.boxes_xyxy[rows], truth.boxes_xyxy[columns])
    enough = iou >= iou_threshold
    return rows[enough], columns[enough], iou[enough]


def _under_curves(is_right: NDArray[np.bool_], box_count: int) -> Tuple[Floats, Floats]:
    """The two averages of precision for [T, N] found boxes by falling score: each [T]."""
    right = is_right.cumsum(axis=1)
    recall = right / box_count
    precision = right / np.arange(1, is_right.shape[1] + 1)
    # What counts at a recall is the best precision there or beyond.
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    area: Floats = (best * is_right).sum(axis=1) / box_count
    coco = np.array([_sampled(*curve) for curve in zip(recall, best)])
    return coco, area


def _sampled(recall: Floats, precision: Floats) -> float:
    places = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[places].mean())


def _ranked(scores: NDArray[np.float32]) -> Indices:
    ranked: Indices = np.argsort(-scores, kind="stable")
    return ranked


def _areas(boxes: Floats) -> Floats:
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    areas: Floats = width * height
    return areas


def _check_classes(class_ids: Indices, class_count: int) -> None:
    strange = class_ids[(class_ids < 0) | (class_ids >= class_count)]
    if len(strange):
        raise ValueError(f"expected classes 0..{class_count - 1}, got {int(strange[0])}")
