"""What the pipeline and the publisher have done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Dict, Mapping, Optional

from edge.records.cameras import CameraStatus, DropCounts
from edge.records.engines import BatchSetting


@dataclass(frozen=True)
class Percentiles:
    """How long something took, in milliseconds; None each while nothing is known."""

    p50: Optional[float] = None
    p95: Optional[float] = None
    p99: Optional[float] = None


UNKNOWN = Percentiles()


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
    latency_ms_p95: Optional[float] = None


@dataclass(frozen=True)
class PipelineCounters:
    """What the whole pipeline has done since the start.

    `batching` is what the configuration or the tuning file says; `tuned` is what live tuning has
    made of it, None where that is off. `capture_to_batch_ms` is a frame's wait for its batch to
    leave, `post_ms` what followed the detector; `infer_busy` is the share of the last seconds that
    the detector was at work, 0..1.
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
    latency_ms_p95: Optional[float] = None
    infer_ms_p95: Optional[float] = None
    capture_to_batch_ms: Percentiles = UNKNOWN
    post_ms: Percentiles = UNKNOWN
    infer_busy: float = 0.0

    @classmethod
    def zero(cls) -> PipelineCounters:
        """Nothing has happened yet."""
        return cls({}, 0, 0, 0, 0.0, 0.0, 0, 0, None, None, None, None)


@dataclass(frozen=True)
class PublisherCounters:
    """What was handed to the broker and what was not, by cause; why there is no connection.

    `kept` counts what waits in the outbox; `outbox_trouble` says why its disk takes nothing;
    `outbox_fill` is its share of what it may take there, 0..1; `frames_told` counts the frames
    whose detections were handed over.
    """

    connected: bool
    broker: str
    published: int
    queued: int
    dropped: Mapping[str, int]
    error: str = ""
    kept: int = 0
    outbox_trouble: str = ""
    outbox_fill: float = 0.0
    frames_told: int = 0


class HealthSource(str, Enum):
    """Who told most of what is known of the machine, the best first."""

    JTOP = "jtop"
    TEGRASTATS = "tegrastats"
    NVML = "nvml"
    SYSFS = "sysfs"
    PSUTIL = "psutil"


@dataclass(frozen=True)
class MachineReading:
    """What the machine's sensors said last: flat numbers with their unit in the key.

    What is unknown is absent; `health_age_ms` among the numbers is how old what `source` said is.
    `reason` says in words why no better source does; empty where there is none better.
    """

    source: HealthSource
    numbers: Mapping[str, float]
    reason: str = ""
