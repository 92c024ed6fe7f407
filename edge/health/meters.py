"""Counts what the pipeline does, cheaply enough for the frame path."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Callable, Mapping, Optional

from edge.clock import NS_PER_MS, NS_PER_S
from edge.health.latency import RecentLatencies, percentiles
from edge.health.rates import RateMeter
from edge.records import (
    BatchResult,
    CameraCounters,
    CameraStatus,
    DropCounts,
    FrameResult,
    Lane,
    Percentiles,
    PipelineCounters,
)


@dataclass(frozen=True)
class CameraReading:
    """What a camera's reader and mailbox say of themselves."""

    status: CameraStatus
    frames_read: int
    reconnects: int
    dropped: DropCounts
    abandoned: int = 0


@dataclass
class _CameraMeter:
    deadline_ms: Optional[float]
    frames: int = 0
    detections: int = 0
    deadline_missed: int = 0
    latency: RecentLatencies = field(default_factory=RecentLatencies)
    read_rate: RateMeter = field(default_factory=RateMeter)
    inferred_rate: RateMeter = field(default_factory=RateMeter)

    def copied(self) -> _Copied:
        """The numbers as they stand."""
        return _Copied(
            self.frames,
            self.detections,
            self.deadline_missed,
            self.read_rate.per_second(),
            self.inferred_rate.per_second(),
        )


@dataclass(frozen=True)
class _Copied:
    frames: int
    detections: int
    deadline_missed: int
    fps_read: float
    fps_inferred: float


class PipelineMeter:
    """Totals since the start, percentiles and rates of the last seconds; safe from any thread.

    `batch_fill` is the share of the rows that each batch's target offered which carried a frame;
    priority frames, which travel alone, do not count in it. `deadlines_ms` names the cameras that
    have one.
    """

    def __init__(
        self,
        cameras: Mapping[str, Callable[[], CameraReading]],
        deadlines_ms: Mapping[str, Optional[float]],
    ) -> None:
        self._readings = dict(cameras)
        self._lock = threading.Lock()
        self._cameras = {name: _CameraMeter(deadlines_ms.get(name)) for name in cameras}
        self._batches = 0
        self._rows_offered = 0
        self._shared_frames = 0
        self._infer, self._wait, self._post = (RecentLatencies() for _ in range(3))
        self._busy = RateMeter()
        # Percentiles have a lock of their own: the frame path must not wait for them.
        self._looking = threading.Lock()

    def admit(
        self, camera: str, reading: Callable[[], CameraReading], deadline_ms: Optional[float]
    ) -> None:
        """Counts a camera from here on; one that is counted keeps its totals.

        Called where `observe` is.
        """
        with self._lock:
            meter = self._cameras.setdefault(camera, _CameraMeter(deadline_ms))
            meter.deadline_ms = deadline_ms
        self._readings[camera] = reading

    def batch_done(self, result: BatchResult, target: int) -> None:
        """Notes a batch that came out of the pipeline, and the size that would have filled it."""
        size = len(result.batch.items)
        with self._lock:
            self._batches += 1
            if result.batch.lane is Lane.BATCH:
                # Live tuning may have lowered the target since the batch left.
                self._rows_offered += max(size, target)
                self._shared_frames += size
            self._infer.add((result.done_ns - result.started_ns) / NS_PER_MS)

    def frame_done(self, result: FrameResult) -> None:
        """Notes a frame whose detections were handed over."""
        latency_ms = (result.finished_ns - result.info.captured_ns) / NS_PER_MS
        with self._lock:
            camera = self._cameras[result.info.camera]
            camera.frames += 1
            camera.detections += len(result.detections)
            if camera.deadline_ms is not None and latency_ms > camera.deadline_ms:
                camera.deadline_missed += 1
            camera.latency.add(latency_ms)
            self._wait.add((result.closed_ns - result.info.captured_ns) / NS_PER_MS)
            self._post.add((result.finished_ns - result.inferred_ns) / NS_PER_MS)

    def observe(self, now_ns: int, busy_ns: int = 0) -> None:
        """Samples the totals the rates are made of; called a few times a second.

        `busy_ns` is how long the engine has worked since the start.
        """
        for name, reading in self._readings.items():
            frames_read = reading().frames_read
            with self._lock:
                camera = self._cameras[name]
                camera.read_rate.observe(now_ns, frames_read)
                camera.inferred_rate.observe(now_ns, camera.frames)
        with self._looking:
            self._busy.observe(now_ns, busy_ns)
            cameras = (camera.latency for camera in self._cameras.values())
            for latencies in (self._infer, self._wait, self._post, *cameras):
                latencies.look(now_ns)

    def counters(self, in_flight: int, saturated_frames: int) -> PipelineCounters:
        """Everything counted so far."""
        readings = {name: reading() for name, reading in self._readings.items()}
        with self._lock:
            meters = {name: meter.copied() for name, meter in self._cameras.items()}
            latencies = {name: meter.latency for name, meter in self._cameras.items()}
            batches = self._batches
            fill = self._shared_frames / self._rows_offered if self._rows_offered else 0.0
        with self._looking:
            busy = min(self._busy.per_second() / NS_PER_S, 1.0)
            by_camera = {name: percentiles([each]) for name, each in latencies.items()}
            latency_ms = percentiles(latencies.values())
            infer_ms, wait_ms, post_ms = (
                percentiles([stage]) for stage in (self._infer, self._wait, self._post)
            )
        frames = sum(meter.frames for meter in meters.values())
        return PipelineCounters(
            cameras={
                name: _camera_counters(meters[name], by_camera[name], readings[name])
                for name in meters
            },
            batches=batches,
            frames_inferred=frames,
            detections=sum(meter.detections for meter in meters.values()),
            batch_fill=fill,
            batch_size_mean=frames / batches if batches else 0.0,
            in_flight=in_flight,
            saturated_frames=saturated_frames,
            latency_ms_p50=latency_ms.p50,
            latency_ms_p95=latency_ms.p95,
            latency_ms_p99=latency_ms.p99,
            infer_ms_p50=infer_ms.p50,
            infer_ms_p95=infer_ms.p95,
            infer_ms_p99=infer_ms.p99,
            capture_to_batch_ms=wait_ms,
            post_ms=post_ms,
            infer_busy=busy,
        )


def _camera_counters(
    meter: _Copied, latency_ms: Percentiles, reading: CameraReading
) -> CameraCounters:
    return CameraCounters(
        status=reading.status,
        frames_read=reading.frames_read,
        frames_inferred=meter.frames,
        detections=meter.detections,
        reconnects=reading.reconnects,
        dropped=reading.dropped,
        fps_read=meter.fps_read,
        fps_inferred=meter.fps_inferred,
        latency_ms_p50=latency_ms.p50,
        latency_ms_p95=latency_ms.p95,
        latency_ms_p99=latency_ms.p99,
        deadline_missed=meter.deadline_missed,
        abandoned=reading.abandoned,
    )
