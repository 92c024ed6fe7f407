from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Dict, Optional

import pytest

from edge.health.report import camera_numbers, health
from edge.records import (
    BatchSetting,
    CameraCounters,
    CameraState,
    CameraStatus,
    DropCause,
    DropCounts,
    Percentiles,
    PipelineCounters,
    PublisherCounters,
)

PUBLISHER = PublisherCounters(
    connected=True,
    broker="gw:1883",
    published=40,
    queued=2,
    dropped={"offline": 3, "backlog": 4},
    kept=5,
)


def camera(
    name: str, state: CameraState = CameraState.ONLINE, dropped: Optional[DropCounts] = None
) -> CameraCounters:
    return CameraCounters(
        status=CameraStatus(name, state, 0),
        frames_read=100,
        frames_inferred=60,
        detections=30,
        reconnects=2,
        dropped=dropped or {},
        fps_read=30.0,
        fps_inferred=12.5,
        latency_ms_p50=20.0,
        latency_ms_p99=90.0,
    )


def pipeline(*cameras: CameraCounters, latency_ms: Optional[float] = 21.5) -> PipelineCounters:
    return PipelineCounters(
        cameras={c.status.camera: c for c in cameras},
        batches=50,
        frames_inferred=120,
        detections=60,
        batch_fill=0.6,
        batch_size_mean=2.4,
        in_flight=1,
        saturated_frames=5,
        latency_ms_p50=latency_ms,
        latency_ms_p99=latency_ms,
        infer_ms_p50=8.0,
        infer_ms_p99=16.0,
        infer_ms_p95=12.0,
        latency_ms_p95=latency_ms,
        capture_to_batch_ms=Percentiles(1.0, 2.0, 3.0),
        post_ms=Percentiles(0.25, 0.5, None),
        infer_busy=0.75,
    )


def test_two_cameras_are_summed() -> None:
    cameras = (
        camera("a", dropped={DropCause.SUPERSEDED: 7}),
        camera("b", CameraState.OFFLINE, {DropCause.STALE: 1, DropCause.SUPERSEDED: 2}),
    )
    numbers = health(pipeline(*cameras), PUBLISHER, {"uptime_s": 9.0})

    assert numbers == {
        "uptime_s": 9.0,
        "batches_total": 50,
        "batch_avg": 2.4,
        "batch_fill": 0.6,
        "queue_depth": 1,
        "infer_busy_pct": 75.0,
        "infer_ms_p50": 8.0,
        "infer_ms_p95": 12.0,
        "infer_ms_p99": 16.0,
        "capture_to_batch_ms_p50": 1.0,
        "capture_to_batch_ms_p95": 2.0,
        "capture_to_batch_ms_p99": 3.0,
        "post_ms_p50": 0.25,
        "post_ms_p95": 0.5,
        "latency_ms_p50": 21.5,
        "latency_ms_p95": 21.5,
        "latency_ms_p99": 21.5,
        "frames_inferred_total": 120,
        "detections_total": 60,
        "saturated_frames_total": 5,
        "cameras": 2,
        "cameras_online": 1,
        "read_fps": 60.0,
        "infer_fps": 25.0,
        "frames_read_total": 200,
        "reconnects_total": 4,
        "deadline_missed_total": 0,
        "frames_dropped_total": 10,
        **{f"frames_dropped_{cause.value}_total": 0 for cause in DropCause},
        "frames_dropped_superseded_total": 9,
        "frames_dropped_stale_total": 1,
        "mqtt_connected": 1,
        "mqtt_published_total": 40,
        "mqtt_queued": 2,
        "mqtt_spool_msgs": 5,
        "mqtt_dropped_total": 7,
        "mqtt_dropped_backlog_total": 4,
        "mqtt_dropped_offline_total": 3,
    }


BATCHING_KEYS = {"batch_target", "batch_window_ms"}
TUNED_KEYS = {"tuned_target", "tuned_window_ms", "tune_changes_total"}


def test_the_batch_setting_is_told() -> None:
    numbers = health(replace(pipeline(), batching=BatchSetting(8, 10.0)), PUBLISHER, {})
    assert {key: numbers[key] for key in BATCHING_KEYS} == {
        "batch_target": 8,
        "batch_window_ms": 10.0,
    }
    assert not TUNED_KEYS & set(numbers)


def test_what_live_tuning_made_of_it_is_told_beside_it() -> None:
    counters = replace(
        pipeline(), batching=BatchSetting(8, 10.0), tuned=BatchSetting(3, 0.0), tune_changes=5
    )
    numbers = health(counters, PUBLISHER, {})
    assert {key: numbers[key] for key in BATCHING_KEYS | TUNED_KEYS} == {
        "batch_target": 8,
        "batch_window_ms": 10.0,
        "tuned_target": 3,
        "tuned_window_ms": 0.0,
        "tune_changes_total": 5,
    }


@pytest.mark.parametrize("state", CameraState)
def test_only_online_cameras_count_as_online(state: CameraState) -> None:
    numbers = health(pipeline(camera("a", state)), PUBLISHER, {})
    assert numbers["cameras_online"] == (state is CameraState.ONLINE)


@pytest.mark.parametrize("cause", DropCause)
def test_every_drop_is_told_by_its_cause(cause: DropCause) -> None:
    numbers = health(pipeline(camera("a", dropped={cause: 3})), PUBLISHER, {})
    assert numbers["frames_dropped_total"] == 3
    assert numbers[f"frames_dropped_{cause.value}_total"] == 3


def test_disconnected_is_0() -> None:
    numbers = health(pipeline(), replace(PUBLISHER, connected=False), {})
    assert numbers["mqtt_connected"] == 0


UNKNOWN: Dict[str, Optional[float]] = {"absent": None, "nan": math.nan, "infinite": math.inf}


@pytest.mark.parametrize("unknown", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_unknown_is_absent(unknown: Optional[float]) -> None:
    host = {} if unknown is None else {"temp_cpu_c": unknown}
    numbers = health(pipeline(latency_ms=unknown), PUBLISHER, host)

    assert "latency_ms_p50" not in numbers
    assert "temp_cpu_c" not in numbers
    json.dumps(numbers, allow_nan=False)


def test_one_cameras_numbers_are_flat_too() -> None:
    assert camera_numbers(camera("a", dropped={DropCause.STALE: 3})) == {
        "online": 1,
        "read_fps": 30.0,
        "infer_fps": 12.5,
        "frames_read_total": 100,
        "frames_inferred_total": 60,
        "detections_total": 30,
        "reconnects_total": 2,
        "deadline_missed_total": 0,
        "abandoned_total": 0,
        "latency_ms_p50": 20.0,
        "latency_ms_p99": 90.0,
        "frames_dropped_total": 3,
        **{f"frames_dropped_{cause.value}_total": 0 for cause in DropCause},
        "frames_dropped_stale_total": 3,
    }
