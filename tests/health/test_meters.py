from __future__ import annotations

import threading
from typing import Dict, List

import numpy as np
import pytest

from edge.clock import NS_PER_MS
from edge.geometry import Letterbox
from edge.health.meters import CameraReading, PipelineMeter
from edge.records import (
    Batch,
    BatchInfo,
    BatchItem,
    BatchResult,
    CameraState,
    CameraStatus,
    Detections,
    DropCause,
    FrameInfo,
    FrameResult,
    Lane,
    Slot,
    TimestampSource,
)

LETTERBOX = Letterbox.fit((64, 64), (64, 64))


class Camera:
    """What a reader would report, set by the test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frames_read = 0

    def reading(self) -> CameraReading:
        status = CameraStatus(self.name, CameraState.ONLINE, since_unix_ms=0)
        return CameraReading(status, self.frames_read, 3, {DropCause.STALE: 4})


def info(camera: str) -> FrameInfo:
    return FrameInfo(camera, 0, (64, 64), 0, 0, TimestampSource.PTS)


def batch_result(cameras: List[str], infer_ms: float, lane: Lane = Lane.BATCH) -> BatchResult:
    slot = Slot(0, np.zeros((4, 64, 64, 3), np.uint8), lambda _: None)
    items = tuple(BatchItem(info(camera), LETTERBOX) for camera in cameras)
    batch = Batch(0, slot, items, opened_ns=0, closed_ns=0, lane=lane)
    rows = np.zeros((len(items), 10, 6), np.float32)
    infer_ns = int(infer_ms * NS_PER_MS)
    return BatchResult(batch, rows, started_ns=0, done_ns=infer_ns, busy_ns=infer_ns)


def frame_result(camera: str, latency_ms: float, objects: int) -> FrameResult:
    detections = Detections(
        np.zeros((objects, 4), np.float32),
        np.zeros(objects, np.float32),
        np.zeros(objects, np.int64),
    )
    finished_ns = int(latency_ms * NS_PER_MS)
    batch = BatchInfo(0, 1, Lane.BATCH, 0)
    return FrameResult(info(camera), detections, batch, 0, 0, finished_ns)


@pytest.fixture
def cameras() -> Dict[str, Camera]:
    return {name: Camera(name) for name in ("dock", "gate")}


@pytest.fixture
def meter(cameras: Dict[str, Camera]) -> PipelineMeter:
    readings = {name: camera.reading for name, camera in cameras.items()}
    return PipelineMeter(readings, deadlines_ms={"dock": 20.0, "gate": None})


def test_before_anything_happened(meter: PipelineMeter) -> None:
    counters = meter.counters(in_flight=0, saturated_frames=0)

    assert (counters.batches, counters.frames_inferred, counters.detections) == (0, 0, 0)
    assert (counters.batch_fill, counters.batch_size_mean) == (0.0, 0.0)
    assert (counters.latency_ms_p50, counters.infer_ms_p99) == (None, None)
    assert set(counters.cameras) == {"dock", "gate"}
    assert counters.cameras["dock"].fps_read == 0.0


def test_batches_and_frames_are_counted(meter: PipelineMeter) -> None:
    meter.batch_done(batch_result(["dock", "gate"], infer_ms=10), target=4)
    meter.batch_done(batch_result(["dock"], infer_ms=30), target=4)
    meter.frame_done(frame_result("dock", latency_ms=20, objects=3))
    meter.frame_done(frame_result("gate", latency_ms=40, objects=0))
    meter.frame_done(frame_result("dock", latency_ms=60, objects=2))

    counters = meter.counters(in_flight=1, saturated_frames=2)

    assert (counters.batches, counters.frames_inferred, counters.detections) == (2, 3, 5)
    assert counters.batch_size_mean == 1.5
    assert counters.batch_fill == 3 / 8
    assert (counters.in_flight, counters.saturated_frames) == (1, 2)
    assert counters.infer_ms_p50 == pytest.approx(10, rel=0.01)
    assert counters.infer_ms_p95 == pytest.approx(10, rel=0.01)
    assert counters.latency_ms_p50 == pytest.approx(40, rel=0.01)
    assert counters.post_ms.p50 == pytest.approx(40, rel=0.01)
    assert counters.capture_to_batch_ms.p99 == 0
    dock, gate = counters.cameras["dock"], counters.cameras["gate"]
    assert (dock.frames_inferred, dock.detections) == (2, 5)
    assert (gate.frames_inferred, gate.detections) == (1, 0)
    assert dock.latency_ms_p50 == pytest.approx(20, rel=0.01)
    assert gate.latency_ms_p95 == pytest.approx(40, rel=0.01)
    assert gate.latency_ms_p99 == pytest.approx(40, rel=0.01)


def test_rates_come_from_the_totals_of_each_camera(
    meter: PipelineMeter, cameras: Dict[str, Camera]
) -> None:
    for tick in range(21):
        cameras["dock"].frames_read = 5 * tick
        meter.observe(tick * 250 * NS_PER_MS)
        meter.frame_done(frame_result("dock", latency_ms=1, objects=0))

    counters = meter.counters(0, 0)

    assert counters.cameras["dock"].fps_read == pytest.approx(20)
    assert counters.cameras["dock"].fps_inferred == pytest.approx(4)
    assert counters.cameras["gate"].fps_read == 0.0


def test_the_engines_share_of_time_comes_from_its_total(meter: PipelineMeter) -> None:
    for tick in range(21):
        meter.observe(tick * 250 * NS_PER_MS, busy_ns=tick * 100 * NS_PER_MS)
    assert meter.counters(0, 0).infer_busy == pytest.approx(0.4)
    # A batch counts when it ends: one that began before the span makes it more than all of it.
    meter.observe(21 * 250 * NS_PER_MS, busy_ns=60_000 * NS_PER_MS)
    assert meter.counters(0, 0).infer_busy == 1.0


def test_percentiles_forget_what_is_old(meter: PipelineMeter) -> None:
    for second in range(120):
        meter.frame_done(frame_result("dock", latency_ms=500 if second < 60 else 20, objects=0))
        meter.observe(second * 1000 * NS_PER_MS)
    counters = meter.counters(0, 0)
    assert counters.latency_ms_p99 == pytest.approx(20, rel=0.01)
    assert counters.cameras["dock"].latency_ms_p99 == pytest.approx(20, rel=0.01)
    assert counters.cameras["gate"].latency_ms_p99 is None


def test_what_the_reader_says_is_passed_on(
    meter: PipelineMeter, cameras: Dict[str, Camera]
) -> None:
    cameras["gate"].frames_read = 7
    gate = meter.counters(0, 0).cameras["gate"]
    assert (gate.frames_read, gate.reconnects, gate.dropped) == (7, 3, {DropCause.STALE: 4})
    assert gate.status.camera == "gate"


def test_no_frame_is_lost_between_threads(meter: PipelineMeter) -> None:
    def finish_frames() -> None:
        for _ in range(2000):
            meter.frame_done(frame_result("dock", latency_ms=1, objects=1))

    threads = [threading.Thread(target=finish_frames) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.counters(0, 0).detections == 8000


def test_deadlines_are_counted_where_there_is_one(meter: PipelineMeter) -> None:
    for latency_ms in (19.0, 20.0, 20.001, 500.0):
        meter.frame_done(frame_result("dock", latency_ms, 0))
        meter.frame_done(frame_result("gate", latency_ms, 0))
    counters = meter.counters(0, 0)
    assert counters.cameras["dock"].deadline_missed == 2
    assert counters.cameras["gate"].deadline_missed == 0


def test_priority_frames_do_not_count_in_the_fill(meter: PipelineMeter) -> None:
    meter.batch_done(batch_result(["dock", "gate"], 1), target=4)
    for _ in range(5):
        meter.batch_done(batch_result(["dock"], 1, Lane.PRIORITY), target=4)
    counters = meter.counters(0, 0)
    assert counters.batches == 6
    assert counters.batch_fill == 0.5


def test_the_fill_is_of_the_target_that_held_for_each_batch(meter: PipelineMeter) -> None:
    meter.batch_done(batch_result(["dock"], 1), target=1)
    meter.batch_done(batch_result(["dock", "gate"], 1), target=4)
    assert meter.counters(0, 0).batch_fill == 3 / 5
    # It left before the target was lowered, and was no more than full.
    meter.batch_done(batch_result(["dock", "gate"], 1), target=1)
    assert meter.counters(0, 0).batch_fill == 5 / 7


def test_a_camera_that_comes_later_counts_and_one_that_comes_again_goes_on(
    meter: PipelineMeter, cameras: Dict[str, Camera]
) -> None:
    meter.frame_done(frame_result("dock", latency_ms=30, objects=1))
    late = Camera("late")
    meter.admit("late", late.reading, None)
    meter.admit("dock", cameras["dock"].reading, deadline_ms=50.0)
    for name in ("dock", "late"):
        meter.frame_done(frame_result(name, latency_ms=30, objects=1))
    meter.observe(0)

    counters = meter.counters(0, 0)

    assert counters.frames_inferred == 3
    assert {name: c.frames_inferred for name, c in counters.cameras.items()} == {
        "dock": 2,
        "gate": 0,
        "late": 1,
    }
    assert counters.cameras["dock"].deadline_missed == 1  # the first, when 20 ms were allowed
