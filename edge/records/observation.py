"""What the pipeline and the publisher have done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Optional

from edge.records.cameras import CameraStatus, DropCounts
from edge.records.engines import BatchSetting


@dataclass(frozen=True)
class CameraCounters:
    """What one camera has done since the start; rates are over the last seconds.

    `abandoned` counts the threads that hung in its driver and were replaced.
    """

    status: CameraStatus
    frames_read: int
    frames_inferred: int
    detections: int
    reconnects: int
    dropped: DropCounts
    fps_read: float
    fps_inferred: float
    latency_ms_p50: Optional[float]
    latency_ms_p99: Optional[float]
    deadline_missed: int = 0
    abandoned: int = 0


@dataclass(frozen=True)
class PipelineCounters:
    """What the whole pipeline has done since the start.

    `batching` is what the configuration or the tuning file says; `tuned` is what live tuning has
    made of it, None where that is off.
    """

    cameras: Dict[str, CameraCounters]
    batches: int
    frames_inferred: int
    detections: int
    batch_fill: float
    batch_size_mean: float
    in_flight: int
    saturated_frames: int
    latency_ms_p50: Optional[float]
    latency_ms_p99: Optional[float]
    infer_ms_p50: Optional[float]
    infer_ms_p99: Optional[float]
    batching: Optional[BatchSetting] = None
    tuned: Optional[BatchSetting] = None
    tune_changes: int = 0

    @classmethod
    def zero(cls) -> PipelineCounters:
        """Nothing has happened yet."""
        return cls({}, 0, 0, 0, 0.0, 0.0, 0, 0, None, None, None, None)


@dataclass(frozen=True)
class PublisherCounters:
    """What was handed to the broker and what was not, by cause; why there is no connection."""

    connected: bool
    broker: str
    published: int
    queued: int
    dropped: Mapping[str, int]
    error: str = ""
