"""The demo's model in INT8 beside itself in FP32, on this machine's CPU.

``python -m benchmarks.quantization [--json] [--save]``

Quantized from `calibration/` as the daemon would, and scored on images whose seeds and backgrounds
neither the training nor the calibration had, by COCO's own code; without `pycocotools` those
figures are absent.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

if not __package__:  # run as a file: the repository is not on the path then
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from numpy.typing import NDArray

from benchmarks import report
from benchmarks.timing import interleave, paired_ratio, percentile
from edge.building.calibration import letterboxed, read_calibration
from edge.building.graph import deploy
from edge.building.quantize import quantize
from edge.building.toolchain import CalibrationFeed
from edge.config.schema import CalibrationConfig, CalibrationMethod, EngineConfig, ModelConfig
from edge.geometry import Image
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.records import BuildProgress, DeployedGraph

REPOSITORY = Path(__file__).resolve().parent.parent
MODEL = REPOSITORY / "edge/demo/assets/parts.onnx"
IMAGES = REPOSITORY / "calibration"
SCENES = 150
BATCHES = (1, 8)
METHOD = CalibrationMethod.MINMAX

# As the demo's own evaluation has them.
_MIN_SCORE = 0.005
_MAX_IOU = 0.6

ACCURACY = report.Bar(">=", 0.99)
FASTER = report.Bar(">", 1)

Average = Dict[str, Any]


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs the benchmark."""
    options = report.parse(__doc__, arguments)
    result = report.Report("quantization", options)
    exact = deploy(MODEL, ModelConfig(path=MODEL))
    methods = [METHOD] if options.quick else list(CalibrationMethod)
    rounded = {
        method: _quantized(exact, method, 16 if options.quick else None, result)
        for method in methods
    }
    _report_speed(exact, rounded[METHOD], 3 if options.quick else 40, result)
    if importlib.util.find_spec("pycocotools") is None:
        result.note("accuracy was not measured: pip install pycocotools")
    else:
        _report_accuracy(exact, rounded, 1 if options.quick else SCENES, result)
    result.publish()


def _quantized(
    graph: DeployedGraph, method: CalibrationMethod, limit: Optional[int], result: report.Report
) -> DeployedGraph:
    config = CalibrationConfig(folder=IMAGES, method=method)
    images, _ = read_calibration(IMAGES).split(config.holdout)
    chosen = images[:limit]
    feed = CalibrationFeed(
        lambda: letterboxed(chosen, graph.preprocessing, config.batch),
        -(-len(chosen) // config.batch),
        method,
    )
    start = time.monotonic()
    made = quantize(graph, feed, False, _silent)
    took = time.monotonic() - start
    result.add(f"calibration_{method.value}_s", took, "s", f"{len(chosen)} images, to the graph")
    return made


def _silent(progress: BuildProgress) -> None:
    """Nobody waits for it."""


# --- speed -----------------------------------------------------------------------------------


def _report_speed(
    exact: DeployedGraph, rounded: DeployedGraph, rounds: int, result: report.Report
) -> None:
    engines = {
        "fp32": OnnxRuntimeEngine(exact, EngineConfig()),
        "int8": OnnxRuntimeEngine(rounded, EngineConfig()),
    }
    ratios = [_report_batch(engines, batch, rounds, result) for batch in BATCHES]
    result.add(
        "int8_over_fp32_throughput", min(ratios), "times", "the lower of the two above", FASTER
    )


def _report_batch(
    engines: Dict[str, OnnxRuntimeEngine], batch: int, rounds: int, result: report.Report
) -> float:
    width, height = engines["fp32"].input_wh
    frames = np.random.default_rng(1).integers(0, 256, (batch, height, width, 3), np.uint8)
    took_ms = interleave(
        {name: functools.partial(engine.infer, frames) for name, engine in engines.items()}, rounds
    )
    for name, times_ms in took_ms.items():
        meaning = f"{name}, {batch} frame(s) of {width}x{height}, {_threads()} threads, median"
        result.add(f"{name}_batch{batch}_ms", percentile(times_ms, 50), "ms", meaning)
    ratio = paired_ratio(took_ms["fp32"], took_ms["int8"])
    meaning = f"frames per second of INT8 over FP32, batches of {batch}"
    result.add(f"int8_over_fp32_throughput_batch{batch}", ratio, "times", meaning)
    return ratio


def _threads() -> int:
    return len(os.sched_getaffinity(0))


# --- accuracy --------------------------------------------------------------------------------


def _report_accuracy(
    exact: DeployedGraph,
    rounded: Dict[CalibrationMethod, DeployedGraph],
    scenes: int,
    result: report.Report,
) -> None:
    evaluation = _Evaluation(scenes)
    reference = evaluation.score(exact)
    result.add("map50_95_fp32", reference["map50_95"], "", f"{evaluation.count} held-out images")
    for method, graph in rounded.items():
        found = evaluation.score(graph)
        for key in ("map50", "map50_95"):
            is_other = method is not METHOD
            name = f"{key}_int8_over_fp32" + (f"_{method.value}" if is_other else "")
            bar = ACCURACY if key == "map50_95" and not is_other else None
            meaning = f"{key} of INT8 calibrated by {method.value}, over FP32's"
            result.add(name, found[key] / reference[key], "of", meaning, bar)


class _Evaluation:
    """The held-out images of the demo's training, and COCO's judgement on them."""

    def __init__(self, scenes: int) -> None:
        self._coco = importlib.import_module("edge.demo.training.evaluate")
        self._nms = importlib.import_module("edge.demo.training.postprocess")
        self._images_rgb, self._targets = self._coco.render_dataset(
            scenes,
            self._coco.EVALUATION_FIRST_SEED,
            self._coco.HELD_OUT_FAMILIES,
            _threads(),
        )

    @property
    def count(self) -> int:
        """Images."""
        return len(self._images_rgb)

    def score(self, graph: DeployedGraph) -> Average:
        """`map50` and `map50_95` of a deployed graph."""
        engine = OnnxRuntimeEngine(graph, EngineConfig())
        size = max(engine.input_wh)
        found = [self._found(rows, size) for rows in self._detect(engine)]
        average: Average = self._coco.average_precision(self._targets, found)
        return average

    def _detect(self, engine: OnnxRuntimeEngine) -> List[NDArray[np.float32]]:
        rows: List[NDArray[np.float32]] = []
        size = engine.info.max_batch
        for start in range(0, self.count, size):
            frames: Image = self._images_rgb[start : start + size, :, :, ::-1]
            rows += list(engine.infer(np.ascontiguousarray(frames)))
        return rows

    def _found(self, rows: NDArray[np.float32], size: int) -> Tuple[Any, ...]:
        rows = rows[rows[:, 4] >= _MIN_SCORE]
        rows[:, :4] = np.clip(rows[:, :4], 0, size)
        boxes, scores, classes = rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64)
        kept = self._nms.suppress(boxes, classes, _MAX_IOU)
        found: Tuple[Any, ...] = self._nms.Found(boxes[kept], scores[kept], classes[kept])
        return found


if __name__ == "__main__":
    main()
