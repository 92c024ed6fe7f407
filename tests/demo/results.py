"""Builders of the records the demo shows."""

from __future__ import annotations

from typing import Optional

import numpy as np

from edge.geometry import Image
from edge.records import (
    BatchInfo,
    CameraCounters,
    CameraState,
    CameraStatus,
    Detections,
    DropCause,
    FrameInfo,
    FrameResult,
    Lane,
    PipelineCounters,
    PublisherCounters,
    TimestampSource,
)


def detections(count: int) -> Detections:
    boxes = np.array([[10 * n, 12 * n, 10 * n + 40, 12 * n + 30] for n in range(count)])
    return Detections(
        boxes.astype(np.float32).reshape(count, 4),
        np.linspace(0.9, 0.5, count, dtype=np.float32),
        np.arange(count, dtype=np.int64),
    )


def frame_result(
    frame_id: int, at_s: float, count: int = 1, image: Optional[Image] = None
) -> FrameResult:
    captured_ns = int(at_s * 1e9)
    info = FrameInfo("cam", frame_id, (320, 240), captured_ns, 0, TimestampSource.RECEIVE)
    batch = BatchInfo(1, 1, Lane.BATCH, 0)
    return FrameResult(info, detections(count), batch, captured_ns, captured_ns, captured_ns, image)


def pipeline_counters() -> PipelineCounters:
    online = CameraCounters(
        status=CameraStatus("belt", CameraState.ONLINE, 0),
        frames_read=100,
        frames_inferred=90,
        detections=42,
        reconnects=0,
        dropped={DropCause.SUPERSEDED: 10},
        fps_read=25.0,
        fps_inferred=22.5,
        latency_ms_p50=31.26,
        latency_ms_p99=58.0,
    )
    offline = CameraCounters(
        status=CameraStatus("dock", CameraState.OFFLINE, 0, "no such file"),
        frames_read=0,
        frames_inferred=0,
        detections=0,
        reconnects=3,
        dropped={},
        fps_read=0.0,
        fps_inferred=0.0,
        latency_ms_p50=None,
        latency_ms_p99=None,
    )
    return PipelineCounters(
        cameras={"belt": online, "dock": offline},
        batches=45,
        frames_inferred=90,
        detections=42,
        batch_fill=0.5,
        batch_size_mean=2.0,
        in_flight=1,
        saturated_frames=0,
        latency_ms_p50=31.26,
        latency_ms_p99=58.0,
        infer_ms_p50=20.0,
        infer_ms_p99=25.0,
    )


def publisher_counters() -> PublisherCounters:
    return PublisherCounters(True, "127.0.0.1:1883", 99, 0, {"offline": 2})
