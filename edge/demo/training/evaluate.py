"""Scores the ONNX file on images whose seeds and backgrounds no training image had.

``python -m edge.demo.training.evaluate edge/demo/assets/parts.onnx --json result.json``
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edge.demo.scene import CLASS_NAMES
from edge.demo.scenery.arrays import Image
from edge.demo.scenery.backgrounds import HELD_OUT_FAMILIES
from edge.demo.training.dataset import (
    EVALUATION_FIRST_SEED,
    MIN_VISIBLE_FRACTION,
    Targets,
    render_dataset,
)
from edge.demo.training.postprocess import Found, decode

_MIN_SCORE = 0.005
_MAX_IOU = 0.6
_BATCH = 16


def detect(onnx_path: Path, images_rgb: Image, threads: int = 0) -> List[Found]:
    """Return what the model finds in images uint8 [N, S, S, 3]; boxes in model pixels."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(onnx_path), options, providers=["CPUExecutionProvider"]
    )
    found: List[Found] = []
    for start in range(0, len(images_rgb), _BATCH):
        batch = images_rgb[start : start + _BATCH].transpose(0, 3, 1, 2).astype(np.float32) / 255.0
        (raw,) = session.run(["output0"], {"images": np.ascontiguousarray(batch)})
        found += [decode(rows, _MIN_SCORE, _MAX_IOU) for rows in raw]
    return found


def _xywh(box_xyxy: NDArray[Any]) -> List[float]:
    x0, y0, x1, y1 = (float(v) for v in box_xyxy)
    return [x0, y0, x1 - x0, y1 - y0]


def coco_truth(targets: Targets) -> Dict[str, Any]:
    """Return the COCO data set of targets [N, M, 6].

    A part too hidden to be judged becomes a crowd region of every class: COCO then counts what is
    found on it neither as right nor as wrong.
    """
    annotations: List[Dict[str, Any]] = []
    for image_id, rows in enumerate(targets):
        for row in rows[rows[:, 0] >= 0]:
            is_hidden = bool(row[5] < MIN_VISIBLE_FRACTION)
            box = _xywh(row[1:5])
            for class_id in range(len(CLASS_NAMES)) if is_hidden else [int(row[0])]:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": class_id,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": int(is_hidden),
                    }
                )
    return {
        "info": {},
        "images": [{"id": number} for number in range(len(targets))],
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in enumerate(CLASS_NAMES)],
    }


def coco_detections(found: Sequence[Found]) -> List[Dict[str, Any]]:
    """Return detections per image as COCO results."""
    return [
        {"image_id": image_id, "category_id": int(c), "bbox": _xywh(box), "score": float(score)}
        for image_id, one in enumerate(found)
        for box, score, c in zip(*one)
    ]


def average_precision(targets: Targets, found: Sequence[Found]) -> Dict[str, Any]:
    """Return ``map50``, ``map50_95`` and both per class, by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = coco_truth(targets)
        truth.createIndex()
        scored = COCOeval(truth, truth.loadRes(coco_detections(found)), "bbox")
        scored.evaluate()
        scored.accumulate()
    # precision: [IoU threshold, recall, class, area range, detections per image]
    precision = scored.eval["precision"][:, :, :, 0, 2]
    per_class = {
        name: {
            "ap50": float(precision[0, :, k].mean()),
            "ap50_95": float(precision[:, :, k].mean()),
        }
        for k, name in enumerate(CLASS_NAMES)
    }
    return {
        "map50": float(precision[0].mean()),
        "map50_95": float(precision.mean()),
        "per_class": per_class,
    }


def _print_table(result: Dict[str, Any]) -> None:
    lines = [f"{'class':<12} {'AP50':>7} {'AP50-95':>8}"]
    for name, values in result["per_class"].items():
        lines.append(f"{name:<12} {values['ap50']:7.4f} {values['ap50_95']:8.4f}")
    lines.append(f"{'all':<12} {result['map50']:7.4f} {result['map50_95']:8.4f}")
    sys.stdout.write("\n".join(lines) + "\n")


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Evaluate an ONNX model on the held-out set."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("onnx", type=Path)
    parser.add_argument("--scenes", type=int, default=150)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write the result here")
    options = parser.parse_args(arguments)
    images, targets = render_dataset(
        options.scenes, EVALUATION_FIRST_SEED, HELD_OUT_FAMILIES, options.workers
    )
    result = average_precision(targets, detect(options.onnx, images))
    result["images"] = len(images)
    result["command"] = (
        f"python -m edge.demo.training.evaluate {options.onnx} --scenes {options.scenes}"
    )
    result["device"] = f"CPU, {platform.machine()}, ONNX Runtime CPUExecutionProvider"
    result["versions"] = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    _print_table(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
