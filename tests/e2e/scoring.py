"""Scores what arrived over MQTT against what the scene's renderer knows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from edge.demo.show import ASSETS

Box = Sequence[float]

MIN_IOU = 0.5
# A part of which less than this is visible counts neither way.
MIN_VISIBLE_FRACTION = 0.35


@dataclass
class Score:
    """Counts over many frames."""

    true_positives: int = 0
    false_positives: int = 0
    missed: int = 0

    @property
    def precision(self) -> float:
        return self.true_positives / max(self.true_positives + self.false_positives, 1)

    @property
    def recall(self) -> float:
        return self.true_positives / max(self.true_positives + self.missed, 1)


def load_truth(name: str) -> Dict[str, Any]:
    truth: Dict[str, Any] = json.loads((ASSETS / "groundtruth" / f"{name}.json").read_text())
    return truth


def score(messages: Sequence[Mapping[str, Any]], truth: Mapping[str, Any]) -> Score:
    """Scores detections messages of a looping clip; frame_id modulo its length is the frame."""
    total = Score()
    frames = truth["frames"]
    for message in messages:
        score_frame(message, frames[message["frame_id"] % len(frames)], truth, total)
    return total


def score_frame(
    message: Mapping[str, Any],
    objects: Sequence[Mapping[str, Any]],
    truth: Mapping[str, Any],
    total: Score,
) -> None:
    """Adds one frame: best scores first, each takes the free object it overlaps most."""
    width, height = message["frame"]["w"], message["frame"]["h"]
    assert [width, height] == list(truth["size_wh"])
    free = list(objects)
    for found in sorted(message["detections"], key=lambda found: -found["score"]):
        left, top, right, bottom = found["box"]
        box = (left * width, top * height, right * width, bottom * height)
        match, is_real = _best(box, found["class"], free, truth["class_names"])
        if match is None:
            total.false_positives += 1
            continue
        free.remove(match)
        total.true_positives += is_real
    total.missed += sum(part["visible_fraction"] >= MIN_VISIBLE_FRACTION for part in free)


def _best(
    box: Box, class_name: str, free: List[Mapping[str, Any]], names: Sequence[str]
) -> Tuple[Mapping[str, Any] | None, bool]:
    """The free object of the class that `box` overlaps most, and whether it counts."""
    candidates = [
        (iou(box, part["box_xyxy"]), part["visible_fraction"] >= MIN_VISIBLE_FRACTION, part)
        for part in free
        # A part that is hardly visible may be taken for anything.
        if names[part["class_id"]] == class_name or part["visible_fraction"] < MIN_VISIBLE_FRACTION
    ]
    good = [candidate for candidate in candidates if candidate[0] >= MIN_IOU]
    if not good:
        return None, False
    _, is_real, part = max(good, key=lambda candidate: (candidate[1], candidate[0]))
    return part, is_real


def iou(a: Box, b: Box) -> float:
    """Overlap of two x1, y1, x2, y2 boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(a) + _area(b) - shared)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
