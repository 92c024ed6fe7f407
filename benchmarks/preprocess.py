"""Letterbox of 8 frames 1080p into a slot, beside what a user would do instead.

``python -m benchmarks.preprocess [--json] [--save]``

One thread each. The peer is Ultralytics' own LetterBox and preprocess (AGPL-3.0: never imported
by the product); without `ultralytics` its figures are absent.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

if not __package__:  # run as a file: the repository is not on the path then
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import report
from benchmarks.timing import Way, interleave, paired_ratio, percentile
from edge.batching.ring import SlotRing
from edge.geometry import PAD_GREY, Image, Letterbox
from edge.records import Slot

BATCH = 8
SOURCE_WH = (1920, 1080)
MODEL_WH = (640, 640)
BAR = report.Bar("<=", 0.20)
# Grey levels: two bilinear kernels may round a sum of four pixels differently.
AGREEMENT = report.Bar("<=", 1.0)
# Sizes of cameras, and two that leave odd borders.
AGREEMENT_SIZES = (SOURCE_WH, (1280, 720), (640, 480), (2592, 1944), (1081, 607), (479, 641))

Preprocess = Callable[[List[Image]], Any]
"""From BGR frames to a float32 RGB NCHW tensor in 0..1."""


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs the benchmark."""
    options = report.parse(__doc__, arguments)
    result = report.Report("preprocess", options)
    ultralytics = _import_ultralytics()
    cv2.setNumThreads(1)  # last: importing Ultralytics sets it, too
    frames = [_noise(SOURCE_WH, seed) for seed in range(BATCH)]
    ways = _ways(frames, ultralytics)
    took_ms = interleave(ways, rounds=5 if options.quick else 60)
    _report_times(took_ms, result)
    if ultralytics is None:
        result.note(
            "the peer is not installed, so letterbox_over_ultralytics is absent: "
            "pip install ultralytics"
        )
    else:
        difference = max(_difference(ultralytics, size) for size in AGREEMENT_SIZES)
        result.add(
            "max_grey_level_difference",
            difference,
            "",
            f"largest difference from Ultralytics' pixels, noise of {len(AGREEMENT_SIZES)} sizes",
            AGREEMENT,
        )
    result.publish()


def _ways(frames: List[Image], ultralytics: Optional[Preprocess]) -> Dict[str, Way]:
    ways: Dict[str, Way] = {"edge": _edge(frames), "floor": _memory_floor(frames)}
    if ultralytics is not None:
        peer = ultralytics
        ways["ultralytics"] = lambda: peer(frames)
    blob = _opencv_blob(frames)
    if blob is not None:
        ways["opencv_blob"] = blob
    ways["numpy_recipe"] = lambda: _numpy_recipe(frames)
    return ways


def _report_times(took_ms: Dict[str, List[float]], result: report.Report) -> None:
    edge_ms = took_ms["edge"]
    if "ultralytics" in took_ms:
        ratio = paired_ratio(edge_ms, took_ms["ultralytics"])
        meaning = "its time: 8x1080p into a slot, over LetterBox + preprocess"
        result.add("letterbox_over_ultralytics", ratio, "of", meaning, BAR)
    floor = paired_ratio(edge_ms, took_ms["floor"])
    result.add("letterbox_over_floor", floor, "times", "the memory floor below")
    meanings = {
        "edge": "Slot.draw of 8 frames, uint8 NHWC",
        "ultralytics": "LetterBox + preprocess, float32 NCHW",
        "opencv_blob": "cv2.dnn.blobFromImagesWithParams, letterbox, float32 NCHW",
        "numpy_recipe": "the tutorials' resize, pad, reverse, transpose, divide, stack",
        "floor": "copying the source rows that bilinear 3:1 touches, and the resized pixels",
    }
    for name, meaning in meanings.items():
        if name in took_ms:
            result.add(f"{name}_ms", percentile(took_ms[name], 50), "ms", meaning)


def _noise(size_wh: Tuple[int, int], seed: int) -> Image:
    """The hardest picture to agree on; a resize takes as long for any."""
    width, height = size_wh
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# --- the ways --------------------------------------------------------------------------------


def _new_slot(rows: int) -> Slot:
    slot = SlotRing(1, rows, MODEL_WH).acquire()
    assert slot is not None
    return slot


def _edge(frames: List[Image]) -> Way:
    slot = _new_slot(len(frames))
    letterbox = Letterbox.fit(SOURCE_WH, MODEL_WH)

    def draw_all() -> None:
        for row, frame in enumerate(frames):
            slot.draw(row, frame, letterbox)

    return draw_all


def _memory_floor(frames: List[Image]) -> Way:
    """Reads and writes what no letterbox of this size can avoid, and computes nothing."""
    width, height = Letterbox.fit(SOURCE_WH, MODEL_WH).resized_wh
    source_w, source_h = SOURCE_WH
    step = source_h // height
    touched = np.empty((height, 2, source_w * 3), np.uint8)
    resized = np.zeros((height, width, 3), np.uint8)
    rows = _new_slot(len(frames)).rows

    def copy_all() -> None:
        for row, frame in zip(rows, frames):
            np.copyto(touched, frame.reshape(height, step, source_w * 3)[:, :2])
            np.copyto(row[:height, :width], resized)

    return copy_all


def _opencv_blob(frames: List[Image]) -> Optional[Way]:
    dnn: Any = cv2.dnn
    if not hasattr(dnn, "blobFromImagesWithParams"):
        return None  # OpenCV of JetPack 5
    params = dnn.Image2BlobParams()
    params.scalefactor = (1 / 255, 1 / 255, 1 / 255)
    params.size = MODEL_WH
    params.swapRB = True
    params.ddepth = cv2.CV_32F
    params.paddingmode = dnn.DNN_PMODE_LETTERBOX
    if hasattr(params, "borderValue"):
        params.borderValue = (PAD_GREY, PAD_GREY, PAD_GREY)
    return lambda: dnn.blobFromImagesWithParams(frames, params)


def _numpy_recipe(frames: List[Image]) -> NDArray[np.float32]:
    width, height = MODEL_WH
    tensors = []
    for frame in frames:
        scale = min(width / frame.shape[1], height / frame.shape[0])
        resized_wh = round(frame.shape[1] * scale), round(frame.shape[0] * scale)
        resized = cv2.resize(frame, resized_wh, interpolation=cv2.INTER_LINEAR)
        left, top = (width - resized_wh[0]) // 2, (height - resized_wh[1]) // 2
        right, bottom = width - resized_wh[0] - left, height - resized_wh[1] - top
        grey = (PAD_GREY, PAD_GREY, PAD_GREY)
        padded = cv2.copyMakeBorder(
            resized, top, bottom, left, right, cv2.BORDER_CONSTANT, value=grey
        )
        rgb = cv2.cvtColor(padded, cv2.COLOR_BGR2RGB)
        tensors.append(rgb.transpose(2, 0, 1).astype(np.float32) / 255.0)
    return np.stack(tensors)


# --- the peer --------------------------------------------------------------------------------


def _import_ultralytics() -> Optional[Preprocess]:
    """Its predictor's preprocessing, set up as for an engine of fixed size; None without it."""
    # It would ask the network for updates and write its settings into the home directory.
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    with tempfile.TemporaryDirectory() as settings:
        os.environ.setdefault("YOLO_CONFIG_DIR", settings)
        try:
            with contextlib.redirect_stdout(sys.stderr):  # it greets; stdout is for the result
                module = importlib.import_module("ultralytics.engine.predictor")
                torch = importlib.import_module("torch")
        except ModuleNotFoundError:
            return None
        predictor = module.BasePredictor()
    torch.set_num_threads(1)
    predictor.imgsz = MODEL_WH
    predictor.device = torch.device("cpu")
    predictor.model = SimpleNamespace(
        format="engine", pt=False, dynamic=False, stride=32, fp16=False
    )
    preprocess: Preprocess = predictor.preprocess
    return preprocess


def _difference(ultralytics: Preprocess, source_wh: Tuple[int, int]) -> float:
    frame = _noise(source_wh, seed=0)
    slot = _new_slot(1)
    slot.draw(0, frame, Letterbox.fit(source_wh, MODEL_WH))
    tensor = ultralytics([frame]).numpy()[0]
    theirs = tensor[::-1].transpose(1, 2, 0) * 255.0
    return float(np.abs(theirs - slot.rows[0].astype(np.float32)).max())


if __name__ == "__main__":
    main()
