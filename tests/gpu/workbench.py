"""What the GPU tests share: the demo model, pictures, plans that are built once and kept."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.building.graph import deploy
from edge.building.tensorrt_builder import BuildCaches, TensorRtBuilder
from edge.building.tensorrt_config import BuildOptions
from edge.building.toolchain import CalibrationFeed
from edge.config.schema import CalibrationMethod, ModelConfig, Precision, TacticSource
from edge.geometry import Image, Letterbox
from edge.inference.cuda import Context
from edge.postprocess.nms import suppress
from edge.records import BuildProgress, DeployedGraph

ASSETS = Path(__file__).resolve().parents[2] / "edge" / "demo" / "assets"
MAX_BATCH = 8
CALIBRATION_BATCH = 8
# The userland of these tests has neither cuBLAS nor cuDNN; convolutions need neither.
OPTIONS = BuildOptions(
    max_batch=MAX_BATCH,
    opt_batch=MAX_BATCH,
    workspace_bytes=1 << 30,
    tactic_sources=(TacticSource.EDGE_MASK_CONVOLUTIONS, TacticSource.JIT_CONVOLUTIONS),
)
_PROGRESS_STEP = 0.1


def say(text: str) -> None:
    """A line at once, for whoever watches a run of minutes."""
    sys.stdout.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")
    sys.stdout.flush()


def demo_graph() -> DeployedGraph:
    path = ASSETS / "parts.onnx"
    return deploy(path, ModelConfig(path=path))


def letterboxed(graph: DeployedGraph, sources: List[Image]) -> Image:
    """Rows uint8 [n, H, W, 3], drawn as live frames are."""
    width, height = graph.preprocessing.input_wh
    rows = np.empty((len(sources), height, width, 3), np.uint8)
    for row, source in zip(rows, sources):
        size_wh = (source.shape[1], source.shape[0])
        Letterbox.fit(size_wh, (width, height), graph.preprocessing.pad_anchor).draw(source, row)
    return rows


def pictures(graph: DeployedGraph) -> Image:
    """The demo's still pictures."""
    paths = sorted((ASSETS / "images").glob("*.jpg"))
    sources: List[Any] = [cv2.imread(str(path)) for path in paths]
    return letterboxed(graph, sources)


def clip_frames(graph: DeployedGraph, name: str, every: int, count: int) -> Image:
    """Frames of one of the demo's clips."""
    capture = cv2.VideoCapture(str(ASSETS / name))
    sources: List[Any] = []
    number = 0
    while len(sources) < count:
        is_read, frame = capture.read()
        if not is_read:
            break
        if number % every == 0:
            sources.append(frame)
        number += 1
    capture.release()
    return letterboxed(graph, sources)


def feed_of(frames: Image) -> CalibrationFeed:
    """Full calibration batches of the frames; what is left over is left out."""
    count = len(frames) // CALIBRATION_BATCH
    batches = frames[: count * CALIBRATION_BATCH].reshape(
        count, CALIBRATION_BATCH, *frames.shape[1:]
    )
    return CalibrationFeed(lambda: iter(batches), count, CalibrationMethod.ENTROPY)


class Workbench:
    """Builds plans of one graph and keeps them, the timings and the scales in a folder."""

    def __init__(self, graph: DeployedGraph, context: Context, folder: Path) -> None:
        self.graph = graph
        self.context = context
        self.folder = folder
        self.progress: List[BuildProgress] = []
        self.built_s: Dict[str, float] = {}
        self._told = 0.0

    def builder(self, caches: BuildCaches, options: BuildOptions = OPTIONS) -> TensorRtBuilder:
        return TensorRtBuilder(self.graph, options, self.context, self._on_progress, caches)

    def caches(self) -> BuildCaches:
        """The timings and scales of earlier builds."""
        return BuildCaches(self._read("timing.cache"), self._read(f"{self._key}.scales"))

    def keep(self, caches: BuildCaches) -> None:
        (self.folder / "timing.cache").write_bytes(caches.timing)
        (self.folder / f"{self._key}.scales").write_bytes(caches.calibration)

    def plan(self, precision: Precision) -> bytes:
        """A float plan, from the folder where it is there."""
        return self._kept(precision.value, lambda builder: builder.build(precision))

    def int8_plan(self, feed: CalibrationFeed, *, head_in_fp16: bool = False) -> bytes:
        """An INT8 plan, from the folder where it is there."""
        name = "int8-head-in-fp16" if head_in_fp16 else "int8"
        return self._kept(name, lambda builder: builder.build_int8(feed, head_in_fp16=head_in_fp16))

    @property
    def _key(self) -> str:
        text = self.graph.onnx_bytes + self.context.device_name.encode()
        return hashlib.sha256(text).hexdigest()[:12]

    def _kept(self, name: str, build: Any) -> bytes:
        path = self.folder / f"{self._key}-{name}.plan"
        if not path.exists():
            caches = self.caches()
            self._told = 0.0
            say(f"building {name} (timings of earlier builds: {len(caches.timing)} bytes)")
            started = time.monotonic()
            data = build(self.builder(caches))
            self.built_s[name] = time.monotonic() - started
            say(f"built {name} in {self.built_s[name]:.1f} s: {len(data)} bytes")
            self.keep(caches)
            path.write_bytes(data)
        return path.read_bytes()

    def _read(self, name: str) -> bytes:
        path = self.folder / name
        return path.read_bytes() if path.exists() else b""

    def _on_progress(self, progress: BuildProgress) -> None:
        self.progress.append(progress)
        done = progress.done or 0.0
        if done >= self._told + _PROGRESS_STEP or done < self._told:
            self._told = done
            say(
                f"  {progress.precision.value} {progress.phase.value} {done:.0%} {progress.message}"
            )


def objects(detections: NDArray[np.float32], score: float) -> NDArray[np.float32]:
    """What would be reported of one image: rows of at least this score, without overlaps."""
    kept = suppress(detections[detections[:, 4] >= score], 0.5)
    return kept


def pairs(
    reference: NDArray[np.float32], candidate: NDArray[np.float32], iou: float
) -> Iterator[Tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Each object of the reference with the best of the same class that overlaps it enough."""
    for row in reference:
        others = candidate[candidate[:, 5] == row[5]]
        if len(others):
            overlaps = _overlaps(row, others)
            best = int(np.argmax(overlaps))
            if overlaps[best] >= iou:
                yield row, others[best]


def agreement(
    reference: NDArray[np.float32], candidate: NDArray[np.float32], iou: float
) -> Tuple[int, int, float]:
    """Over all images: objects of the reference, how many were found, the worst score change."""
    count = found = 0
    worst = 0.0
    for image, other in zip(reference, candidate):
        sure = objects(image, 0.5)
        count += len(sure)
        for row, match in pairs(sure, objects(other, 0.25), iou):
            found += 1
            worst = max(worst, abs(float(row[4] - match[4])))
    return count, found, worst


def _overlaps(row: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    top_left = np.maximum(row[:2], others[:, :2])
    bottom_right = np.minimum(row[2:4], others[:, 2:4])
    inside = np.clip(bottom_right - top_left, 0, None).prod(axis=1)
    area = (row[2:4] - row[:2]).prod()
    areas = (others[:, 2:4] - others[:, :2]).prod(axis=1)
    overlaps: NDArray[np.float32] = inside / (area + areas - inside)
    return overlaps
