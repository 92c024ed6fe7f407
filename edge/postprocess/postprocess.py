"""From an engine's candidate boxes to the objects of each frame."""

from __future__ import annotations

import difflib
from typing import Iterator, Optional, Sequence

import numpy as np
from numpy.typing import NDArray

from edge.clock import Clock
from edge.config.schema import CameraConfig, PostprocessConfig
from edge.errors import ConfigError
from edge.geometry import Letterbox
from edge.postprocess.nms import suppress
from edge.records import BatchItem, BatchResult, Detections, FrameResult

_NAMES_SHOWN = 20


class Postprocessor:
    """Turns batch results into frame results; for one thread.

    Each of `cameras` may have a score threshold of its own.
    """

    def __init__(
        self,
        config: PostprocessConfig,
        class_names: Sequence[str],
        cameras: Sequence[CameraConfig] = (),
    ) -> None:
        self._config = config
        self._config_of = {
            camera.name: config.model_copy(update={"score_threshold": camera.score_threshold})
            for camera in cameras
            if camera.score_threshold is not None
        }
        self._wanted_ids = _wanted_ids(config.classes, class_names)
        self._saturated_frames = 0

    @property
    def saturated_frames(self) -> int:
        """Frames whose candidates all passed the threshold: more may have been cut off."""
        return self._saturated_frames

    def process(self, result: BatchResult, clock: Clock) -> Iterator[FrameResult]:
        """The objects of each frame of a batch, found as they are asked for, in order of capture.

        Rows hold a camera's frames in any order.
        """
        rows = list(zip(result.batch.items, result.detections))
        for item, candidates in sorted(rows, key=lambda row: row[0].info.captured_ns):
            yield self._process_frame(item, candidates, result, clock)

    def _process_frame(
        self,
        item: BatchItem,
        candidates: NDArray[np.float32],
        result: BatchResult,
        clock: Clock,
    ) -> FrameResult:
        config = self._config_of.get(item.info.camera, self._config)
        if is_saturated(candidates, config.score_threshold):
            self._saturated_frames += 1
        wanted = self._wanted(candidates)
        detections = detect(wanted, item.letterbox, config)
        return FrameResult(
            info=item.info,
            detections=detections,
            batch=result.batch.info,
            closed_ns=result.batch.closed_ns,
            inferred_ns=result.done_ns,
            finished_ns=clock.monotonic_ns(),
            image=item.image,
        )

    def _wanted(self, candidates: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._wanted_ids is None:
            return candidates
        wanted: NDArray[np.float32] = candidates[np.isin(candidates[:, 5], self._wanted_ids)]
        return wanted


def is_saturated(candidates: NDArray[np.float32], score_threshold: float) -> bool:
    """Tells whether every row of [K, 6] holds a box worth telling, so that K may cut some off."""
    scores = candidates[:, 4]
    return len(scores) > 0 and bool(((scores >= score_threshold) & (scores > 0)).all())


def detect(
    candidates: NDArray[np.float32], letterbox: Letterbox, config: PostprocessConfig
) -> Detections:
    """The objects of one frame, best first, in source pixels, from [K, 6] in model pixels."""
    above = candidates[candidates[:, 4] >= config.score_threshold]
    kept = suppress(above, config.iou_threshold)
    boxes = letterbox.to_source(kept[:, :4])
    # What lay in the border of the letterbox has no area left.
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    best = np.flatnonzero(inside)[: config.max_detections]
    return Detections(boxes[best], kept[best, 4], kept[best, 5].astype(np.int64))


def _wanted_ids(
    classes: Optional[Sequence[str]], class_names: Sequence[str]
) -> Optional[NDArray[np.float32]]:
    """Class ids of the names the user wants, None for all; ConfigError for unknown names."""
    if classes is None:
        return None
    unknown = [name for name in classes if name not in class_names]
    if unknown:
        raise ConfigError("\n".join(_unknown(name, class_names) for name in unknown))
    return np.array([i for i, name in enumerate(class_names) if name in classes], np.float32)


def _unknown(name: str, class_names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, class_names, n=1)
    guess = f"did you mean '{close[0]}'? " if close else ""
    more = len(class_names) - _NAMES_SHOWN
    known = ", ".join(class_names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"postprocess.classes: the model has no class '{name}'; {guess}it knows: {known}"
