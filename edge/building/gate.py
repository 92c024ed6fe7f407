"""The acceptance gate: is an engine of lower precision still as good as the one before it?

The reference's confident boxes are taken for the truth, and the candidate is scored against
them over all its scores. Nothing here runs an engine: boxes in, verdict out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Iterator, Optional, Sequence, Tuple

import numpy as np

from edge.building.agreement import REPORTED_SCORE, Comparison, weighted_mean
from edge.building.average_precision import Gathered, average_precision
from edge.building.gate_report import (
    Agreement,
    ClassAgreement,
    GateReport,
    LabelledLoss,
    Verdict,
)
from edge.config.schema import GateConfig
from edge.records import Detections

Truth = Sequence[Optional[Detections]]
"""Labelled boxes per image in model pixels; None for an image without labels."""

# Rounding in the sums must not turn a loss of exactly `max_loss` into a failure.
_ROUNDING = 1e-9

# AP only asks in which order the boxes come and whether they overlap by half: an engine whose every
# score has fallen below what is reported, or whose boxes have all slipped, loses nothing of it.
_REPORTED_CHANGE = 0.05
_LEAST_MEAN_IOU = 0.75

# What is worth a person's look even where the AP forgives it.
_NOTED_SCORE_SHIFT = 0.05
_NOTED_GAIN = 0.05
_NOTED_MEAN_IOU = 0.9
_NOTED_CLASSES = 5
_DOUBTED_MAP50 = 0.2  # no model that is worth running is this far from its own labels
_NOTED_CLASS_LOSSES = 2  # times `max_loss`


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one engine found on the held-out images, after non-maximum suppression.

    `images` has one entry per image, boxes in model pixels, down to a score near 0.
    `unsound_images` counts those with numbers that mean nothing (not finite, or no such class),
    `top_score` is the highest score of all candidate rows, whether they are boxes or not.
    """

    name: str
    images: Tuple[Detections, ...]
    unsound_images: int
    top_score: float

    def reported(self) -> Tuple[Detections, ...]:
        """The boxes that a user would see."""
        return tuple(_at_least(image, REPORTED_SCORE) for image in self.images)


@dataclass(frozen=True)
class Gate:
    """Judges candidates; `holdout` is the share of the calibration folder that is held out."""

    config: GateConfig
    class_names: Tuple[str, ...]
    holdout: float

    def judge(
        self, reference: Predictions, candidate: Predictions, truth: Optional[Truth] = None
    ) -> GateReport:
        """Compares two engines on the same images; with `truth`, also against true labels."""
        images = len(reference.images)
        if len(candidate.images) != images or (truth is not None and len(truth) != images):
            raise ValueError(
                f"expected {images} images, got {len(candidate.images)} of {candidate.name} and "
                f"{len(truth) if truth is not None else 'no'} labels"
            )
        labels = Gathered.of(reference.reported())
        fault = _fault(reference, candidate, len(labels))
        if fault:
            overall = Agreement(boxes=len(labels))
            return self._report(reference, candidate, overall, (Verdict.FAIL, fault))
        comparison = Comparison(Gathered.of(candidate.images), labels, self.class_names)
        overall, classes = comparison.overall(), comparison.classes()
        labelled = self._labelled(reference, candidate, truth or ())
        ruling = self._ruling(reference, overall, labelled)
        report = self._report(reference, candidate, overall, ruling)
        notes = (*_notes(overall, classes, self.config.max_loss), *_label_notes(labelled))
        return report.model_copy(update={"classes": classes, "labelled": labelled, "notes": notes})

    def _ruling(
        self, reference: Predictions, overall: Agreement, labelled: Optional[LabelledLoss]
    ) -> Tuple[Verdict, str]:
        if overall.boxes < self.config.min_boxes or overall.loss is None:
            return Verdict.NOT_ENOUGH_EVIDENCE, self._missing(reference, overall.boxes)
        losses = [overall.loss]
        said = f"AP50 loss {overall.loss:.4f} over {overall.boxes} boxes of {reference.name}"
        if labelled and labelled.is_judged:
            losses += [labelled.map50_loss, labelled.map50_95_loss]
            said += (
                f", mAP50 loss {labelled.map50_loss:.4f} and mAP50-95 loss "
                f"{labelled.map50_95_loss:.4f} over {labelled.boxes} true labels"
            )
        said += f"; gate.max_loss allows {self.config.max_loss:.4f}"
        unseen = tuple(_unseen_by_ap(overall, self.config.max_loss))
        is_good = max(losses) <= self.config.max_loss + _ROUNDING and not unseen
        return (Verdict.PASS if is_good else Verdict.FAIL), "; ".join((said, *unseen))

    def _missing(self, reference: Predictions, boxes: int) -> str:
        images = len(reference.images)
        if not boxes:
            return (
                f"{reference.name} found no box on {images} held-out images; calibration.folder "
                "must show what the model detects, as the cameras see it"
            )
        more = images_to_add(boxes, images, self.config.min_boxes, self.holdout)
        return (
            f"{reference.name} found {boxes} boxes on {images} held-out images and gate.min_boxes "
            f"is {self.config.min_boxes}; add about {more} images like these to the calibration "
            f"folder, of which {self.holdout:.0%} are held out"
        )

    def _labelled(
        self, reference: Predictions, candidate: Predictions, truth: Truth
    ) -> Optional[LabelledLoss]:
        labels = [(place, boxes) for place, boxes in enumerate(truth) if boxes is not None]
        places = [place for place, _ in labels]
        gathered = Gathered.of([boxes for _, boxes in labels])
        if not len(gathered):
            return None
        before, before_95 = self._mean_ap(reference, places, gathered)
        after, after_95 = self._mean_ap(candidate, places, gathered)
        return LabelledLoss(
            images=len(places),
            boxes=len(gathered),
            # With few labels, one box more or less decides.
            is_judged=len(gathered) >= self.config.min_boxes,
            reference_map50=before,
            candidate_map50=after,
            reference_map50_95=before_95,
            candidate_map50_95=after_95,
            map50_loss=before - after,
            map50_95_loss=before_95 - after_95,
        )

    def _mean_ap(
        self, predictions: Predictions, places: Sequence[int], labels: Gathered
    ) -> Tuple[float, float]:
        """mAP50 and mAP50-95 on the labelled images, as COCO samples them."""
        found = Gathered.of([predictions.images[place] for place in places])
        scored = average_precision(found, labels, len(self.class_names))
        coco = np.nan_to_num(scored.coco)  # a class without labels has no weight
        return (
            weighted_mean(coco[:, 0], scored.box_counts),
            weighted_mean(coco.mean(axis=1), scored.box_counts),
        )

    def _report(
        self,
        reference: Predictions,
        candidate: Predictions,
        overall: Agreement,
        ruling: Tuple[Verdict, str],
    ) -> GateReport:
        verdict, reason = ruling
        return GateReport(
            verdict=verdict,
            reason=reason,
            reference=reference.name,
            candidate=candidate.name,
            images=len(reference.images),
            max_loss=self.config.max_loss,
            min_boxes=self.config.min_boxes,
            overall=overall,
        )


def images_to_add(boxes: int, images: int, min_boxes: int, holdout: float) -> int:
    """Images that the folder lacks, if its next ones show as much; `boxes` must be above 0."""
    held_out_needed = -(-min_boxes * images // boxes)
    return math.ceil((held_out_needed - images) / holdout)


def _fault(reference: Predictions, candidate: Predictions, label_count: int) -> str:
    """What is wrong beyond any comparing, in words; empty where nothing is."""
    images = len(reference.images)
    for engine in (reference, candidate):
        if engine.unsound_images:
            return (
                f"{engine.name} gives numbers that mean nothing (NaN, infinite or no such class) "
                f"on {engine.unsound_images} of {images} images"
            )
    seen = f"{reference.name} found {label_count} boxes"
    if candidate.top_score <= 0 < reference.top_score:
        return f"every score of {candidate.name} is 0 on all {images} images, where {seen}"
    if label_count and not any(map(len, candidate.images)):
        return f"{candidate.name} finds no box on any of {images} images, where {seen}"
    return ""


def _unseen_by_ap(overall: Agreement, max_loss: float) -> Iterator[str]:
    """What makes an engine useless though it loses no AP; a large `max_loss` forgives it too."""
    reported = overall.boxes - overall.lost + overall.gained
    allowed = max(_REPORTED_CHANGE, max_loss)
    if abs(reported - overall.boxes) > allowed * overall.boxes + _ROUNDING:
        yield (
            f"it reports {reported} boxes for these {overall.boxes}, and {allowed:.0%} more or "
            "fewer may be"
        )
    least = min(_LEAST_MEAN_IOU, 1 - max_loss)
    if overall.mean_iou is not None and overall.mean_iou < least:
        yield f"its boxes overlap theirs by {overall.mean_iou:.2f}, at least {least:.2f} must be"


def _notes(overall: Agreement, classes: Sequence[ClassAgreement], max_loss: float) -> Iterator[str]:
    losers = [one for one in classes if _loss(one) > max_loss * _NOTED_CLASS_LOSSES + _ROUNDING]
    for one in sorted(losers, key=_loss, reverse=True)[:_NOTED_CLASSES]:
        yield f"'{one.name}' lost {_loss(one):.4f} of its AP50, {one.lost} of {one.boxes} boxes"
    shifted = [one for one in classes if abs(one.score_shift or 0.0) >= _NOTED_SCORE_SHIFT]
    for one in shifted[:_NOTED_CLASSES]:
        shift = one.score_shift or 0.0
        yield (
            f"scores of '{one.name}' are {abs(shift):.2f} {'higher' if shift > 0 else 'lower'}; "
            "postprocess.score_threshold may need another value"
        )
    if overall.mean_iou is not None and overall.mean_iou < _NOTED_MEAN_IOU:
        yield f"boxes lie less exactly: they overlap those of before by {overall.mean_iou:.2f}"
    if overall.gained > _NOTED_GAIN * overall.boxes:
        yield f"{overall.gained} boxes are new, beside {overall.boxes} known ones"


def _label_notes(labelled: Optional[LabelledLoss]) -> Iterator[str]:
    if labelled is not None and labelled.boxes and labelled.reference_map50 < _DOUBTED_MAP50:
        yield (
            f"even the reference reaches mAP50 {labelled.reference_map50:.2f} by the labels: "
            "are they of these images, and their class numbers the model's?"
        )


def _loss(one: Agreement) -> float:
    return one.loss or 0.0


def _at_least(detections: Detections, score: float) -> Detections:
    kept = detections.scores >= score
    return Detections(
        detections.boxes_xyxy[kept], detections.scores[kept], detections.class_ids[kept]
    )
