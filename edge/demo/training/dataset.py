"""Renders labelled images, letterboxed exactly as inference does it.

``python -m edge.demo.training.dataset --scenes 4000 --out /tmp/train`` writes a set to a folder.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.demo.scene import DIRECTIONS, Scene, SceneObject, SceneSpec
from edge.demo.scenery.arrays import Image
from edge.demo.scenery.backgrounds import TRAINING_FAMILIES

#: float32 [..., MAX_TARGETS, 6]: class id (-1 pads), box xyxy in model pixels, visible fraction.
Targets = NDArray[np.float32]

MODEL_SIZE_PX = 320
PAD_VALUE = 114
#: Parts less visible than this are neither right nor wrong to find.
MIN_VISIBLE_FRACTION = 0.35
MAX_TARGETS = 32
TRAINING_FIRST_SEED = 1_000_000
EVALUATION_FIRST_SEED = 9_000_000
FRAMES_PER_SCENE = 8

_SIZES_WH: Tuple[Tuple[int, int], ...] = (
    (320, 240),
    (400, 300),
    (480, 270),
    (480, 360),
    (640, 360),
    (640, 480),
    (480, 640),
    (800, 600),
    (720, 720),
    (960, 540),
    (1280, 720),
    (1280, 960),
    (1920, 1080),
)
_SIZE_WEIGHTS = np.array([9, 8, 9, 9, 12, 14, 4, 5, 3, 5, 8, 2, 1.5], dtype=float)


@dataclass(frozen=True)
class Letterbox:
    """Where an image lies in the model's square input: model_px = source_px * scale + pad."""

    scale: float
    pad_left_px: int
    pad_top_px: int


def letterbox(image_bgr: Image, size_px: int = MODEL_SIZE_PX) -> Tuple[Image, Letterbox]:
    """Return (uint8 [S, S, 3], its geometry): bilinear, centred on grey, never cropped."""
    height, width = image_bgr.shape[:2]
    scale = min(size_px / width, size_px / height)
    new_w, new_h = round(width * scale), round(height * scale)
    left, top = (size_px - new_w) // 2, (size_px - new_h) // 2
    canvas = np.full((size_px, size_px, 3), PAD_VALUE, np.uint8)
    resized = cv2.resize(image_bgr, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    canvas[top : top + new_h, left : left + new_w] = resized
    return canvas, Letterbox(scale, left, top)


def encode_targets(objects: Sequence[SceneObject], box: Letterbox) -> Targets:
    """Return float32 [MAX_TARGETS, 6]: class id (-1 pads), box xyxy in model pixels, visibility."""
    rows = np.zeros((MAX_TARGETS, 6), np.float32)
    rows[:, 0] = -1.0
    shift = (box.pad_left_px, box.pad_top_px) * 2
    clearest_first = sorted(objects, key=lambda found: -found.visible_fraction)
    for row, found in zip(rows, clearest_first):
        row[0] = found.class_id
        row[1:5] = np.array(found.box_xyxy) * box.scale + shift
        row[5] = found.visible_fraction
    return rows


def random_spec(seed: int, families: Sequence[str]) -> SceneSpec:
    """Return a random scene over one of the background families; the seed decides everything."""
    rng = np.random.default_rng((seed, 3))
    size = _SIZES_WH[int(rng.choice(len(_SIZES_WH), p=_SIZE_WEIGHTS / _SIZE_WEIGHTS.sum()))]
    return SceneSpec(
        seed=seed,
        size_wh=size,
        fps=float(rng.choice([10.0, 15.0, 25.0, 30.0])),
        speed=float(rng.uniform(0.1, 0.5)),
        lap_s=float(rng.uniform(18.0, 24.0)),
        direction=DIRECTIONS[int(rng.integers(len(DIRECTIONS)))],
        background=families[int(rng.integers(len(families)))],
        is_belt=bool(rng.random() < 0.6),
        parts_per_view=float(rng.uniform(2.0, 9.0)),
        distractors_per_view=float(rng.uniform(0.3, 2.5)),
        overlap=float(rng.uniform(0.05, 0.4)),
    )


def frame_indices(spec: SceneSpec, count: int, seed: int) -> List[int]:
    """Return ``count`` indices about 0.4 views apart, so that sprites are shared but not views."""
    step = max(1, round(0.4 / spec.speed * spec.fps))
    start = int(np.random.default_rng((seed, 5)).integers(0, round(spec.lap_s * spec.fps)))
    return [start + step * number for number in range(count)]


def render_scene(seed: int, families: Sequence[str]) -> Tuple[Image, Targets]:
    """Return (images uint8 [F, S, S, 3] RGB, targets float32 [F, MAX_TARGETS, 6]) of one scene."""
    cv2.setNumThreads(1)
    spec = random_spec(seed, families)
    scene = Scene(spec)
    images = np.empty((FRAMES_PER_SCENE, MODEL_SIZE_PX, MODEL_SIZE_PX, 3), np.uint8)
    targets = np.empty((FRAMES_PER_SCENE, MAX_TARGETS, 6), np.float32)
    for row, index in enumerate(frame_indices(spec, FRAMES_PER_SCENE, seed)):
        frame, objects = scene.frame(index)
        boxed, geometry = letterbox(frame)
        images[row] = boxed[..., ::-1]
        targets[row] = encode_targets(objects, geometry)
    return images, targets


def render_dataset(
    scene_count: int, first_seed: int, families: Sequence[str], workers: int
) -> Tuple[Image, Targets]:
    """Return (images uint8 [N, S, S, 3] RGB, targets [N, MAX_TARGETS, 6]) of consecutive seeds."""
    total = scene_count * FRAMES_PER_SCENE
    images = np.empty((total, MODEL_SIZE_PX, MODEL_SIZE_PX, 3), np.uint8)
    targets = np.empty((total, MAX_TARGETS, 6), np.float32)
    seeds = range(first_seed, first_seed + scene_count)
    # Spawned, not forked: OpenCV's and torch's thread pools do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        rendered = pool.imap(partial(render_scene, families=tuple(families)), seeds, chunksize=4)
        for number, (scene_images, scene_targets) in enumerate(rendered):
            rows = slice(number * FRAMES_PER_SCENE, (number + 1) * FRAMES_PER_SCENE)
            images[rows], targets[rows] = scene_images, scene_targets
    return images, targets


def save_dataset(folder: Path, images: Image, targets: Targets) -> None:
    """Write a rendered set to a folder as two ``.npy`` files."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", images)
    # Written last and renamed: a set with targets is a complete set.
    np.save(folder / "partial.npy", targets)
    os.replace(folder / "partial.npy", folder / "targets.npy")


def load_dataset(folder: Path) -> Tuple[Image, Targets]:
    """Return (images, targets) as :func:`render_dataset` made them."""
    return np.load(folder / "images.npy"), np.load(folder / "targets.npy")


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Render a training set to a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--scenes", type=int, default=4000)
    parser.add_argument("--first-seed", type=int, default=TRAINING_FIRST_SEED)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    if options.first_seed + options.scenes > EVALUATION_FIRST_SEED:
        parser.error(f"training seeds must stay below {EVALUATION_FIRST_SEED}")
    images, targets = render_dataset(
        options.scenes, options.first_seed, TRAINING_FAMILIES, options.workers
    )
    save_dataset(options.out, images, targets)


if __name__ == "__main__":
    main()
