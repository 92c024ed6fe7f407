"""Counts what the pipeline does, cheaply enough for the frame path."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Callable, Mapping

from edge.clock import NS_PER_MS
from edge.health.rates import LatencyWindow, RateMeter
from edge.records import (
    BatchResult,
    CameraCounters,
    CameraStatus,
    DropCounts,
    FrameResult,
    PipelineCounters,
)

_LATENCY_SAMPLES = 2048


@dataclass(frozen=True)
class CameraReading:
    """What a camera's reader and mailbox say of themselves."""

    status: CameraStatus
    frames_read: int
    reconnects: int
    dropped: DropCounts


@dataclass
class _CameraMeter:
    frames: int = 0
    detections: int = 0
    latency: LatencyWindow = field(default_factory=lambda: LatencyWindow(_LATENCY_SAMPLES))
    read_rate: RateMeter = field(default_factory=RateMeter)
    inferred_rate: RateMeter = field(default_factory=RateMeter)


class PipelineMeter:
    """Totals since the start and percentiles over the last frames; safe from any thread.

    `batch_fill` is the share of the rows offered by `target` that carried a frame.
    """

    def __init__(self, cameras: Mapping[str, Callable[[], CameraReading]], target: int) -> None:
        self._readings = cameras
        self._target = target
        self._lock = threading.Lock()
        self._cameras = {name: _CameraMeter() for name in cameras}
        self._batches = 0
        self._latency = LatencyWindow(_LATENCY_SAMPLES)
        self._infer = LatencyWindow(_LATENCY_SAMPLES)

    def batch_done(self, result: BatchResult) -> None:
        """Notes a batch that came out of the pipeline."""
        with self._lock:
            self._batches += 1
            self._infer.add((result.done_ns - result.started_ns) / NS_PER_MS)

    def frame_done(self, result: FrameResult) -> None:
        """Notes a frame whose detections were handed over."""
        latency_ms = (result.finished_ns - result.info.captured_ns) / NS_PER_MS
        with self._lock:
            camera = self._cameras[result.info.camera]
            camera.frames += 1
            camera.detections += len(result.detections)
            camera.latency.add(latency_ms)
            self._latency.add(latency_ms)

    def observe(self, now_ns: int) -> None:
        """Samples the totals the rates are made of; called a few times a second."""
        for name, reading in self._readings.items():
            frames_read = reading().frames_read
            with self._lock:
                camera = self._cameras[name]
                camera.read_rate.observe(now_ns, frames_read)
                camera.inferred_rate.observe(now_ns, camera.frames)

    def counters(self, in_flight: int, saturated_frames: int) -> PipelineCounters:
        """Everything counted so far."""
        readings = {name: reading() for name, reading in self._readings.items()}
        with self._lock:
            frames = sum(camera.frames for camera in self._cameras.values())
            return PipelineCounters(
                cameras={
                    name: _camera_counters(self._cameras[name], reading)
                    for name, reading in readings.items()
                },
                batches=self._batches,
                frames_inferred=frames,
                detections=sum(camera.detections for camera in self._cameras.values()),
                batch_fill=frames / (self._batches * self._target) if self._batches else 0.0,
                batch_size_mean=frames / self._batches if self._batches else 0.0,
                in_flight=in_flight,
                saturated_frames=saturated_frames,
                latency_ms_p50=self._latency.percentile(50),
                latency_ms_p99=self._latency.percentile(99),
                infer_ms_p50=self._infer.percentile(50),
                infer_ms_p99=self._infer.percentile(99),
            )


def _camera_counters(meter: _CameraMeter, reading: CameraReading) -> CameraCounters:
    return CameraCounters(
        status=reading.status,
        frames_read=reading.frames_read,
        frames_inferred=meter.frames,
        detections=meter.detections,
        reconnects=reading.reconnects,
        dropped=reading.dropped,
        fps_read=meter.read_rate.per_second(),
        fps_inferred=meter.inferred_rate.per_second(),
        latency_ms_p50=meter.latency.percentile(50),
        latency_ms_p99=meter.latency.percentile(99),
    )
