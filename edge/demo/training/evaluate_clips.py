"""Precision and recall on the bundled clips, per score threshold, from the decoded video.

``python -m edge.demo.training.evaluate_clips edge/demo/assets/parts.onnx``
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.demo.scenery.arrays import Image
from edge.demo.training.dataset import MIN_VISIBLE_FRACTION, letterbox
from edge.demo.training.evaluate import detect
from edge.demo.training.postprocess import Found, iou_matrix

_ASSETS = Path(__file__).resolve().parents[1] / "assets"
_MATCH_IOU = 0.5
#: A detection that lies by this share on a part too hidden to be judged is not counted.
_ON_HIDDEN_SHARE = 0.5
_CHUNK = 64


class Truth(NamedTuple):
    """Parts of one frame: boxes_xyxy [M, 4] in source pixels, class ids and visibility [M]."""

    boxes_xyxy: NDArray[Any]
    class_ids: NDArray[Any]
    visible: NDArray[Any]


class Counts(NamedTuple):
    """Right detections, wrong detections, missed parts."""

    right: int
    wrong: int
    missed: int


def read_truth(path: Path) -> List[Truth]:
    """Return the ground truth of every frame of a clip."""
    frames = json.loads(path.read_text())["frames"]
    return [
        Truth(
            np.array([row["box_xyxy"] for row in rows], np.float64).reshape(-1, 4),
            np.array([row["class_id"] for row in rows], np.int64),
            np.array([row["visible_fraction"] for row in rows], np.float64),
        )
        for rows in frames
    ]


def _frames(path: Path) -> Iterator[Image]:
    video = cv2.VideoCapture(str(path))
    while True:
        is_read, frame = video.read()
        if not is_read:
            video.release()
            return
        yield np.asarray(frame, np.uint8)


def detect_in_clip(onnx_path: Path, clip: Path) -> List[Found]:
    """Return what the model finds per decoded frame; boxes in source pixels."""
    found: List[Found] = []
    pending: List[Image] = []
    scale, shift = 1.0, np.zeros(4)

    def flush() -> None:
        for one in detect(onnx_path, np.stack(pending)) if pending else []:
            found.append(one._replace(boxes_xyxy=(one.boxes_xyxy - shift) / scale))
        pending.clear()

    for frame in _frames(clip):
        boxed, geometry = letterbox(frame)
        scale, shift = geometry.scale, np.array((geometry.pad_left_px, geometry.pad_top_px) * 2)
        pending.append(boxed[..., ::-1])
        if len(pending) == _CHUNK:
            flush()
    flush()
    return found


def count_matches(truth: Truth, found: Found, min_score: float) -> Counts:
    """Match detections with judged parts, best score first, same class and IoU >= 0.5."""
    sure = found.scores >= min_score
    boxes, class_ids = found.boxes_xyxy[sure], found.class_ids[sure]
    is_judged = truth.visible >= MIN_VISIBLE_FRACTION
    iou = iou_matrix(boxes, truth.boxes_xyxy) * (class_ids[:, None] == truth.class_ids[None])
    iou = iou * is_judged[None]
    is_taken = np.zeros(len(truth.boxes_xyxy), bool)
    right = wrong = 0
    for row, box in zip(iou, boxes):
        free: NDArray[Any] = np.where(is_taken, 0.0, row)
        if free.size and free.max() >= _MATCH_IOU:
            is_taken[int(np.argmax(free))] = True
            right += 1
        elif not _lies_on_hidden(box, truth.boxes_xyxy[~is_judged]):
            wrong += 1
    return Counts(right, wrong, int(is_judged.sum()) - right)


def _lies_on_hidden(box_xyxy: NDArray[Any], hidden_xyxy: NDArray[Any]) -> bool:
    low = np.maximum(box_xyxy[:2], hidden_xyxy[:, :2])
    high = np.minimum(box_xyxy[2:], hidden_xyxy[:, 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=1)
    area = float((box_xyxy[2:] - box_xyxy[:2]).prod())
    return bool((shared >= _ON_HIDDEN_SHARE * area).any())


def precision_recall(
    truths: Sequence[Truth], found: Sequence[Found], thresholds: Sequence[float]
) -> Dict[float, Tuple[float, float]]:
    """Return (precision, recall) over all frames for each score threshold."""
    if len(truths) != len(found):
        raise ValueError(f"expected {len(truths)} frames as in the ground truth, got {len(found)}")
    table = {}
    for threshold in thresholds:
        counts = [count_matches(t, f, threshold) for t, f in zip(truths, found)]
        right = sum(c.right for c in counts)
        wrong, missed = sum(c.wrong for c in counts), sum(c.missed for c in counts)
        table[threshold] = (right / max(1, right + wrong), right / max(1, right + missed))
    return table


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Print precision and recall of an ONNX model on the bundled clips."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("onnx", type=Path)
    parser.add_argument("--assets", type=Path, default=_ASSETS)
    options = parser.parse_args(arguments)
    thresholds = [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6]
    for clip in sorted(options.assets.glob("*.mp4")):
        truths = read_truth(options.assets / "groundtruth" / f"{clip.stem}.json")
        table = precision_recall(truths, detect_in_clip(options.onnx, clip), thresholds)
        for threshold, (precision, recall) in table.items():
            sys.stdout.write(
                f"{clip.name:<10} score >= {threshold:.2f}"
                f"  precision {precision:.4f}  recall {recall:.4f}\n"
            )


if __name__ == "__main__":
    main()
