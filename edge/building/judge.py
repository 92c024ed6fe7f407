"""Runs engines over the held-out images, for the gate to judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.building.calibration import CalibrationImage, Images, letterboxed
from edge.building.gate import Gate, Predictions, Truth
from edge.building.gate_report import GateReport
from edge.config.schema import PostprocessConfig, Precision
from edge.errors import BuildError
from edge.geometry import Image, Letterbox
from edge.inference.engine import Engine
from edge.postprocess.nms import suppress
from edge.records import BuildPhase, BuildProgress, Detections, OnProgress, Preprocessing

LOWEST_SCORE = 0.001
"""Far below what is reported, so that a precision-recall curve is whole."""

_IOU_THRESHOLD: float = PostprocessConfig().iou_threshold


@dataclass(frozen=True, eq=False)
class HoldOut:
    """The images an engine is judged by; `names` and `truth` have one entry per image.

    `batches` begins anew at each call and gives letterboxed frames uint8 [n, H, W, 3] BGR, of any
    n; what it gives beyond the images is padding. `truth` is in model pixels.
    """

    batches: Callable[[], Iterable[Image]]
    names: Tuple[str, ...]
    truth: Optional[Truth] = None

    @classmethod
    def of(cls, images: Images, preprocessing: Preprocessing, batch: int) -> HoldOut:
        """Those of a calibration folder, with their labels."""
        return cls(
            lambda: letterboxed(images, preprocessing, batch),
            tuple(image.path.name for image in images),
            tuple(_truth(image, preprocessing) for image in images),
        )

    def __len__(self) -> int:
        return len(self.names)

    def frames(self) -> Iterator[Image]:
        """The batches without their padding; BuildError if images have gone missing."""
        left = len(self)
        for batch in self.batches():
            if left:
                yield batch[:left]
            left = max(left - len(batch), 0)
        if left:
            raise BuildError(
                f"{left} of {len(self)} held-out images are gone; leave the calibration folder "
                "as it is while an engine is built"
            )


class Judge:
    """Lets engines see the held-out images, one engine at a time, and compares what they found.

    Predictions outlive their engine: on a small device the reference can be closed before the
    candidate is loaded, and serve for a second candidate.
    """

    def __init__(
        self,
        gate: Gate,
        hold_out: HoldOut,
        on_progress: OnProgress,
        iou_threshold: float = _IOU_THRESHOLD,
    ) -> None:
        self._gate = gate
        self._hold_out = hold_out
        self._on_progress = on_progress
        self._iou_threshold = iou_threshold

    def predict(self, engine: Engine, precision: Precision) -> Predictions:
        """What the engine finds; may raise EngineError or BuildError."""
        found: List[Detections] = []
        unsound_images, top_score = 0, 0.0
        self._tell(precision, 0)
        for frames in self._chunks(engine.info.max_batch):
            rows = engine.infer(frames)
            unsound_images += int((_matters(rows) & ~self._is_sound(rows)).any(axis=1).sum())
            top_score = max(top_score, _top_score(rows))
            found += [self._detections(candidates) for candidates in rows]
            self._tell(precision, len(found))
        return Predictions(precision.value, tuple(found), unsound_images, top_score)

    def compare(self, reference: Predictions, candidate: Predictions) -> GateReport:
        """The gate's verdict on the candidate."""
        return self._gate.judge(reference, candidate, self._hold_out.truth)

    def _chunks(self, max_batch: int) -> Iterator[Image]:
        for frames in self._hold_out.frames():
            for start in range(0, len(frames), max_batch):
                yield frames[start : start + max_batch]

    def _is_sound(self, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which rows [..., 6] are finite and of a class that exists."""
        class_ids = rows[..., 5]
        is_class = (class_ids >= 0) & (class_ids < len(self._gate.class_names))
        is_sound: NDArray[np.bool_] = np.isfinite(rows).all(axis=-1) & is_class
        return is_sound

    def _detections(self, candidates: NDArray[np.float32]) -> Detections:
        is_wanted = self._is_sound(candidates) & _matters(candidates)
        best = suppress(candidates[is_wanted], self._iou_threshold)
        return Detections(best[:, :4], best[:, 4], best[:, 5].astype(np.int64))

    def _tell(self, precision: Precision, seen: int) -> None:
        count = len(self._hold_out)
        self._on_progress(
            BuildProgress(
                BuildPhase.JUDGING,
                precision,
                seen / count if count else 1.0,
                f"{precision.value}: {seen} of {count} held-out images",
            )
        )


def _matters(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows [..., 6] are not below every score; one without a score (NaN) is not."""
    # A half-precision box may overflow where nobody will ever look: at a score near 0.
    matters: NDArray[np.bool_] = ~(rows[..., 4] < LOWEST_SCORE)
    return matters


def _truth(image: CalibrationImage, preprocessing: Preprocessing) -> Optional[Detections]:
    labels = image.labels
    if labels is None:
        return None
    letterbox = Letterbox.fit(image.size_wh, preprocessing.input_wh, preprocessing.pad_anchor)
    boxes = letterbox.to_model(labels.boxes_xyxy)
    return Detections(boxes, np.ones(len(labels), np.float32), labels.class_ids)


def _top_score(rows: NDArray[np.float32]) -> float:
    scores = rows[..., 4]
    return float(np.max(scores, initial=0.0, where=np.isfinite(scores)))
