"""What a demo run did, as one JSON object."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, Optional

from edge.records import EngineInfo, PipelineCounters, PublisherCounters


def summary(
    seconds: float,
    engine: Optional[EngineInfo],
    pipeline: PipelineCounters,
    publisher: PublisherCounters,
) -> Dict[str, Any]:
    """Totals since the start; latencies in milliseconds from capture to hand-over, null if none."""
    drops: Counter[str] = Counter()
    for camera in pipeline.cameras.values():
        drops.update({cause.value: count for cause, count in camera.dropped.items()})
    return {
        "seconds": round(seconds, 1),
        "engine": None if engine is None else f"{engine.backend} {engine.version}",
        "device": None if engine is None else engine.device,
        "frames": sum(camera.frames_read for camera in pipeline.cameras.values()),
        "inferred": pipeline.frames_inferred,
        "batches": pipeline.batches,
        "batch_size_mean": round(pipeline.batch_size_mean, 2),
        "batch_fill": round(pipeline.batch_fill, 3),
        "detections": pipeline.detections,
        "published": publisher.published,
        "drops": dict(drops),
        "unpublished": dict(publisher.dropped),
        "latency_ms": {
            "p50": _rounded(pipeline.latency_ms_p50),
            "p99": _rounded(pipeline.latency_ms_p99),
        },
        "infer_ms": {
            "p50": _rounded(pipeline.infer_ms_p50),
            "p99": _rounded(pipeline.infer_ms_p99),
        },
        "cameras": {
            name: {
                "state": camera.status.state.value,
                "frames": camera.frames_read,
                "inferred": camera.frames_inferred,
                "detections": camera.detections,
                "drops": {cause.value: count for cause, count in camera.dropped.items()},
                "fps": round(camera.fps_inferred, 1),
                "latency_ms_p50": _rounded(camera.latency_ms_p50),
                "latency_ms_p99": _rounded(camera.latency_ms_p99),
            }
            for name, camera in pipeline.cameras.items()
        },
        "broker": publisher.broker,
    }


def _rounded(value: Optional[float]) -> Optional[float]:
    return None if value is None else round(value, 1)
