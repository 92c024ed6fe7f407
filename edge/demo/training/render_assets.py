"""Renders the bundled clips, images and calibration set.

``python -m edge.demo.training.render_assets`` writes all of them again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from edge.demo.scene import CLASS_NAMES, Scene, SceneObject, SceneSpec
from edge.demo.scenery.backgrounds import HELD_OUT_FAMILIES, TRAINING_FAMILIES
from edge.demo.training.dataset import random_spec

_REPOSITORY = Path(__file__).resolve().parents[3]
_IMAGES_FIRST_SEED = 9_600_000
_CALIBRATION_FIRST_SEED = 5_000_000
_CALIBRATION_COUNT = 512
_IMAGE_COUNT = 24

#: Seeds and backgrounds of the clips appear in no training set. One lap is one clip: they loop.
CLIPS: Dict[str, SceneSpec] = {
    "belt": SceneSpec(
        seed=9_500_001,
        size_wh=(1280, 720),
        fps=25.0,
        speed=0.25,
        lap_s=24.0,
        direction="right",
        background="chevron",
        is_belt=True,
        parts_per_view=5.0,
        distractors_per_view=1.2,
        overlap=0.2,
    ),
    "table": SceneSpec(
        seed=9_500_002,
        size_wh=(640, 480),
        fps=15.0,
        speed=0.22,
        lap_s=28.0,
        direction="down",
        background="perforated",
        is_belt=False,
        parts_per_view=5.0,
        distractors_per_view=1.2,
        overlap=0.2,
    ),
}
_CLIP_CRF = {"belt": 29, "table": 27}


def object_rows(objects: Sequence[SceneObject]) -> List[Dict[str, Any]]:
    """Return the objects of one image as the ground-truth files hold them."""
    return [
        {
            "track_id": found.track_id,
            "class_id": found.class_id,
            "box_xyxy": [round(v, 1) for v in found.box_xyxy],
            "visible_fraction": round(found.visible_fraction, 3),
        }
        for found in objects
    ]


def _write_json(path: Path, content: Dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")


def _encoder(path: Path, spec: SceneSpec, crf: int) -> subprocess.Popen[bytes]:
    """Start ffmpeg; it reads raw BGR frames from its standard input."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise FileNotFoundError("ffmpeg is needed to write the clips")
    width, height = spec.size_wh
    source = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{width}x{height}", "-r", str(spec.fps)]
    # No B-frames: the hardware decoders of small boards then deliver frames without reordering.
    codec = ["-c:v", "libx264", "-preset", "veryslow", "-crf", str(crf), "-bf", "0", "-g", "75"]
    target = ["-pix_fmt", "yuv420p", "-threads", "2", "-movflags", "+faststart", str(path)]
    command = [ffmpeg, "-y", "-v", "error", *source, "-i", "-", *codec, *target]
    return subprocess.Popen(command, stdin=subprocess.PIPE)


def render_clip(name: str, assets: Path) -> None:
    """Write one clip and its ground truth."""
    spec = CLIPS[name]
    scene = Scene(spec)
    path = assets / f"{name}.mp4"
    frames: List[List[Dict[str, Any]]] = []
    with _encoder(path, spec, _CLIP_CRF[name]) as encoder:
        assert encoder.stdin is not None
        for index in range(round(spec.fps * spec.lap_s)):
            image, objects = scene.frame(index)
            encoder.stdin.write(image.tobytes())
            frames.append(object_rows(objects))
    if encoder.returncode:
        raise RuntimeError(f"ffmpeg failed with exit status {encoder.returncode} on {path}")
    truth = {
        "clip": path.name,
        "fps": spec.fps,
        "size_wh": list(spec.size_wh),
        "class_names": list(CLASS_NAMES),
        "frames": frames,
    }
    _write_json(assets / "groundtruth" / f"{name}.json", truth)


class StillJob(NamedTuple):
    """One JPEG to render: a scene by its seed, the frame's size and the file."""

    seed: int
    size_wh: Tuple[int, int]
    families: Tuple[str, ...]
    quality: int
    path: Path


def render_still(job: StillJob) -> List[Dict[str, Any]]:
    """Write one JPEG and return its objects as ground-truth rows."""
    cv2.setNumThreads(1)
    spec = replace(random_spec(job.seed, job.families), size_wh=job.size_wh)
    index = int(np.random.default_rng((job.seed, 9)).integers(0, round(spec.lap_s * spec.fps)))
    image, objects = Scene(spec).frame(index)
    cv2.imwrite(str(job.path), image, [cv2.IMWRITE_JPEG_QUALITY, job.quality])
    return object_rows(objects)


def _render_stills(jobs: Sequence[StillJob], workers: int) -> List[List[Dict[str, Any]]]:
    jobs[0].path.parent.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return pool.map(render_still, jobs, chunksize=4)


def render_images(assets: Path, workers: int) -> None:
    """Write the still images of the demo and their ground truth, keyed by file name."""
    sizes = (
        (640, 480),
        (480, 640),
        (800, 600),
        (960, 540),
        (640, 360),
        (512, 512),
        (1280, 720),
        (320, 240),
    )
    jobs = [
        StillJob(
            seed=_IMAGES_FIRST_SEED + number,
            size_wh=sizes[number % len(sizes)],
            families=HELD_OUT_FAMILIES,
            quality=72,
            path=assets / "images" / f"parts_{number:02d}.jpg",
        )
        for number in range(_IMAGE_COUNT)
    ]
    truth = {
        job.path.name: {"size_wh": list(job.size_wh), "objects": rows}
        for job, rows in zip(jobs, _render_stills(jobs, workers))
    }
    _write_json(assets / "groundtruth" / "images.json", truth)


def render_calibration(folder: Path, workers: int) -> None:
    """Write the images from which an INT8 engine learns its ranges; none is in the held-out set."""
    sizes = (
        (320, 240),
        (400, 300),
        (480, 270),
        (360, 480),
        (384, 288),
        (320, 320),
        (640, 360),
        (640, 480),
    )
    jobs = [
        StillJob(
            seed=_CALIBRATION_FIRST_SEED + number,
            size_wh=sizes[number % len(sizes)],
            families=TRAINING_FAMILIES,
            quality=54,
            path=folder / f"calibration_{number:03d}.jpg",
        )
        for number in range(_CALIBRATION_COUNT)
    ]
    _render_stills(jobs, workers)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Render every bundled image and clip again."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--root", type=Path, default=_REPOSITORY, help="repository to write into")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=("clips", "images", "calibration"))
    options = parser.parse_args(arguments)
    assets = options.root / "edge" / "demo" / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    if options.only in (None, "clips"):
        for name in CLIPS:
            render_clip(name, assets)
    if options.only in (None, "images"):
        render_images(assets, options.workers)
    if options.only in (None, "calibration"):
        render_calibration(options.root / "calibration", options.workers)


if __name__ == "__main__":
    main()
