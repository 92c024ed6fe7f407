"""From counters to flat numbers: what the health message carries.

Keys end in their unit; `_total` counts since the start; what is unknown is absent.
"""

from __future__ import annotations

import math
from typing import Dict, Iterable, Mapping, Optional

from edge.records import (
    CameraCounters,
    CameraState,
    DropCause,
    Percentiles,
    PipelineCounters,
    PublisherCounters,
)

Numbers = Dict[str, float]


def health(
    pipeline: PipelineCounters,
    publisher: PublisherCounters,
    host: Mapping[str, float],
) -> Numbers:
    """The device's health message as a flat mapping of finite numbers."""
    return {
        **_known(host),
        **_pipeline(pipeline),
        **_cameras(pipeline.cameras.values()),
        **_publisher(publisher),
    }


def camera_numbers(camera: CameraCounters) -> Numbers:
    """One camera's counters as flat numbers."""
    return _known(
        {
            "online": int(camera.status.state is CameraState.ONLINE),
            "read_fps": camera.fps_read,
            "infer_fps": camera.fps_inferred,
            "frames_read_total": camera.frames_read,
            "frames_inferred_total": camera.frames_inferred,
            "detections_total": camera.detections,
            "reconnects_total": camera.reconnects,
            "deadline_missed_total": camera.deadline_missed,
            "abandoned_total": camera.abandoned,
            "latency_ms_p50": camera.latency_ms_p50,
            "latency_ms_p95": camera.latency_ms_p95,
            "latency_ms_p99": camera.latency_ms_p99,
            **_dropped([camera]),
        }
    )


def _pipeline(pipeline: PipelineCounters) -> Numbers:
    return _known(
        {
            "batches_total": pipeline.batches,
            "batch_avg": pipeline.batch_size_mean,
            "batch_fill": pipeline.batch_fill,
            "queue_depth": pipeline.in_flight,
            "infer_busy_pct": 100 * pipeline.infer_busy,
            "infer_ms_p50": pipeline.infer_ms_p50,
            "infer_ms_p95": pipeline.infer_ms_p95,
            "infer_ms_p99": pipeline.infer_ms_p99,
            "latency_ms_p50": pipeline.latency_ms_p50,
            "latency_ms_p95": pipeline.latency_ms_p95,
            "latency_ms_p99": pipeline.latency_ms_p99,
            **_percentiles("capture_to_batch_ms", pipeline.capture_to_batch_ms),
            **_percentiles("post_ms", pipeline.post_ms),
            "frames_inferred_total": pipeline.frames_inferred,
            "detections_total": pipeline.detections,
            "saturated_frames_total": pipeline.saturated_frames,
            **_batching(pipeline),
        }
    )


def _percentiles(name: str, of: Percentiles) -> Dict[str, Optional[float]]:
    return {f"{name}_p50": of.p50, f"{name}_p95": of.p95, f"{name}_p99": of.p99}


def _batching(pipeline: PipelineCounters) -> Numbers:
    numbers: Numbers = {}
    if pipeline.batching is not None:
        numbers["batch_target"] = pipeline.batching.target
        numbers["batch_window_ms"] = pipeline.batching.window_ms
    if pipeline.tuned is not None:
        numbers["tuned_target"] = pipeline.tuned.target
        numbers["tuned_window_ms"] = pipeline.tuned.window_ms
        numbers["tune_changes_total"] = pipeline.tune_changes
    return numbers


def _cameras(counters: Iterable[CameraCounters]) -> Numbers:
    cameras = list(counters)
    return _known(
        {
            "cameras": len(cameras),
            "cameras_online": sum(c.status.state is CameraState.ONLINE for c in cameras),
            "read_fps": math.fsum(c.fps_read for c in cameras),
            "infer_fps": math.fsum(c.fps_inferred for c in cameras),
            "deadline_missed_total": sum(c.deadline_missed for c in cameras),
            "frames_read_total": sum(c.frames_read for c in cameras),
            "reconnects_total": sum(c.reconnects for c in cameras),
            **_dropped(cameras),
        }
    )


def _dropped(cameras: Iterable[CameraCounters]) -> Numbers:
    # Every cause is listed even at 0, so that a gateway sees a counter rise, not appear.
    by_cause = {cause: 0 for cause in DropCause}
    for camera in cameras:
        for cause, count in camera.dropped.items():
            by_cause[cause] += count
    return {
        "frames_dropped_total": sum(by_cause.values()),
        **{f"frames_dropped_{cause.value}_total": n for cause, n in by_cause.items()},
    }


def _publisher(publisher: PublisherCounters) -> Numbers:
    return {
        "mqtt_connected": int(publisher.connected),
        "mqtt_published_total": publisher.published,
        "mqtt_queued": publisher.queued,
        "mqtt_spool_msgs": publisher.kept,
        "mqtt_dropped_total": sum(publisher.dropped.values()),
        **{f"mqtt_dropped_{cause}_total": n for cause, n in sorted(publisher.dropped.items())},
    }


def _known(numbers: Mapping[str, Optional[float]]) -> Numbers:
    # JSON has no NaN or infinity; a gateway's parser would refuse the whole message.
    return {
        key: number
        for key, number in numbers.items()
        if number is not None and math.isfinite(number)
    }
