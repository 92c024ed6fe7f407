"""What was found on a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from edge.geometry import Image
from edge.records.batches import BatchInfo
from edge.records.cameras import FrameInfo


@dataclass(frozen=True)
class Detections:
    """The objects of one frame, a struct of arrays.

    boxes_xyxy float32 [N, 4] in source pixels, scores float32 [N] in 0..1, class_ids int64 [N].
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes_xyxy.shape != (count, 4) or self.class_ids.shape != (count,):
            raise ValueError(
                f"expected boxes ({count}, 4) and class_ids ({count},), "
                f"got {self.boxes_xyxy.shape} and {self.class_ids.shape}"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        """No objects."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))


@dataclass(frozen=True)
class FrameResult:
    """One frame's detections with the times of its road, all monotonic nanoseconds."""

    info: FrameInfo
    detections: Detections
    batch: BatchInfo
    closed_ns: int
    inferred_ns: int
    finished_ns: int
    image: Optional[Image] = None
