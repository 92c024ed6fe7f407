"""How far two engines agree: one's boxes scored against the other's, class by class."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.building.average_precision import Floats, Gathered, average_precision, overlapping
from edge.building.gate_report import Agreement, ClassAgreement

REPORTED_SCORE = 0.25
"""The score from which a box counts as reported, and the reference's as true."""

MATCH_IOU = 0.5

WHOLE_CLASS_BOXES = 100
"""A class with fewer boxes counts in a mean over classes by its share of this number.

In a plain mean one box of a rare class outweighs hundreds of a common one: of a class with two
boxes, losing one costs half its AP. Weighted so, one box costs at most about 1/100 of the mean
whatever the classes are, which is the default `max_loss`; with 100 boxes each it is the plain mean.
"""


def weighted_mean(by_class: Floats, box_counts: NDArray[np.int64]) -> float:
    """Mean over classes [C], rare ones counting in part; NaN where there is no box at all."""
    weights = np.minimum(box_counts / WHOLE_CLASS_BOXES, 1.0)
    if not weights.any():
        return float("nan")
    mean = float((by_class * weights).sum() / weights.sum())
    return min(mean, 1.0)  # rounding may lead a little beyond


class Comparison:
    """What `found` has of `labels`, the boxes that are taken for true, and what it has besides.

    `found` must hold all boxes down to a score near 0: what it reports is decided here.
    """

    def __init__(self, found: Gathered, labels: Gathered, class_names: Sequence[str]) -> None:
        self._names = class_names
        self._pairs = overlapping(found, labels, MATCH_IOU).matched(MATCH_IOU)
        self._pair_classes = labels.class_ids[self._pairs.truth]
        self._score_shifts = found.scores[self._pairs.found] - labels.scores[self._pairs.truth]
        scored = average_precision(found, labels, len(class_names))
        self._boxes = scored.box_counts
        is_reported = found.scores >= REPORTED_SCORE
        is_paired = np.zeros(len(found), bool)
        is_paired[self._pairs.found] = True
        kept = np.bincount(found.class_ids[is_reported & is_paired], minlength=len(class_names))
        self._lost = self._boxes - kept
        gained = found.class_ids[is_reported & ~is_paired]
        self._gained = np.bincount(gained, minlength=len(class_names))
        # A class that only `found` has is wrong altogether: AP knows nothing of it, we say 0.
        self._evidence = np.where(self._boxes > 0, self._boxes, self._gained)
        # The exact area: COCO's samples take a hundredth for the first box that is lost, out of
        # however many, which is all that may be lost by default.
        self._area = np.nan_to_num(scored.area)

    def overall(self) -> Agreement:
        """All classes together."""
        return self._of(np.arange(len(self._names)))

    def classes(self) -> Tuple[ClassAgreement, ...]:
        """Each class that either side reports, in the order of the model."""
        return tuple(
            self._of_class(class_id) for class_id in np.flatnonzero(self._evidence).tolist()
        )

    def _of_class(self, class_id: int) -> ClassAgreement:
        return ClassAgreement(
            name=self._names[class_id],
            has_few_boxes=bool(self._evidence[class_id] < WHOLE_CLASS_BOXES),
            **self._of(np.array([class_id])).model_dump(),
        )

    def _of(self, class_ids: NDArray[np.int64]) -> Agreement:
        boxes, lost = int(self._boxes[class_ids].sum()), int(self._lost[class_ids].sum())
        is_ours = np.isin(self._pair_classes, class_ids)
        evidence = self._evidence[class_ids]
        ap50 = _number(weighted_mean(self._area[class_ids, 0], evidence))
        return Agreement(
            boxes=boxes,
            ap50=ap50,
            loss=None if ap50 is None else 1.0 - ap50,
            ap50_95=_number(weighted_mean(self._area[class_ids].mean(axis=1), evidence)),
            recall=1.0 - lost / boxes if boxes else None,
            mean_iou=_mean(self._pairs.iou[is_ours]),
            score_shift=_mean(self._score_shifts[is_ours].astype(np.float64)),
            lost=lost,
            gained=int(self._gained[class_ids].sum()),
        )


def _number(value: float) -> Optional[float]:
    return None if np.isnan(value) else value


def _mean(values: Floats) -> Optional[float]:
    return min(float(values.mean()), 1.0) if len(values) else None
