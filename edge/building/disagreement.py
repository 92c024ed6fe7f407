"""Where two engines disagree: which boxes of which images, the worst first."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import List, NamedTuple, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.building.agreement import MATCH_IOU, REPORTED_SCORE
from edge.building.average_precision import Floats, Gathered, overlapping
from edge.building.gate import Predictions
from edge.records import Detections

_MOVED_BELOW_IOU = 0.75


class Mark(Enum):
    """What became of a box between the reference and the candidate."""

    SAME = "same"
    MOVED = "moved"
    LOST = "lost"
    GAINED = "new"


@dataclass(frozen=True, eq=False)
class Marked:
    """The boxes that one engine reports on an image, with a mark each."""

    detections: Detections
    marks: Tuple[Mark, ...]

    def count(self, mark: Mark) -> int:
        """How many boxes bear it."""
        return self.marks.count(mark)


@dataclass(frozen=True, eq=False)
class Disagreement:
    """One image that the engines see differently.

    `weight` sums the scores that are at stake: all of a new box, of a lost one what its score
    fell by, of a moved one the part of it that no longer overlaps.
    """

    image: int
    weight: float
    reference: Marked
    candidate: Marked


def rank(reference: Predictions, candidate: Predictions) -> List[Disagreement]:
    """The images on which something was lost, moved or gained, by falling weight."""
    ours, theirs = reference.reported(), candidate.reported()
    labels, found = Gathered.of(ours), Gathered.of(candidate.images)
    label_fates, found_fates = _fates(labels, found)
    weights = np.zeros(len(ours))
    np.add.at(weights, labels.image_ids, label_fates.weights)
    np.add.at(weights, found.image_ids, found_fates.weights)
    is_reported = found.scores >= REPORTED_SCORE
    disagreements = []
    for image in np.argsort(-weights, kind="stable").tolist():
        if weights[image] > 0:
            rows = labels.rows_of(image)
            marks = found_fates.marks[(found.image_ids == image) & is_reported]
            disagreements.append(
                Disagreement(
                    image,
                    float(weights[image]),
                    Marked(ours[image], tuple(label_fates.marks[rows])),
                    Marked(theirs[image], tuple(marks)),
                )
            )
    return disagreements


class _Fates(NamedTuple):
    """Per box its mark and what the disagreement about it weighs: arrays [N]."""

    marks: NDArray[np.object_]
    weights: Floats


def _fates(labels: Gathered, found: Gathered) -> Tuple[_Fates, _Fates]:
    pairs = overlapping(found, labels, MATCH_IOU).matched(MATCH_IOU)
    left, iou = np.zeros(len(labels)), np.zeros(len(labels))
    left[pairs.truth] = found.scores[pairs.found]
    iou[pairs.truth] = pairs.iou
    is_lost = left < REPORTED_SCORE
    is_moved = ~is_lost & (iou < _MOVED_BELOW_IOU)
    of_labels = _same(len(labels))
    of_labels.marks[is_lost] = Mark.LOST
    of_labels.marks[is_moved] = Mark.MOVED
    of_labels.weights[is_lost] = (labels.scores - left)[is_lost]
    of_labels.weights[is_moved] = (labels.scores * (1.0 - iou))[is_moved]
    is_gained = found.scores >= REPORTED_SCORE
    is_gained[pairs.found] = False
    of_found = _same(len(found))
    of_found.marks[pairs.found] = of_labels.marks[pairs.truth]
    of_found.marks[is_gained] = Mark.GAINED
    of_found.weights[is_gained] = found.scores[is_gained]
    return of_labels, of_found


def _same(count: int) -> _Fates:
    marks: NDArray[np.object_] = np.full(count, Mark.SAME, dtype=object)
    return _Fates(marks, np.zeros(count))
