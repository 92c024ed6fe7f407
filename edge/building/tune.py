"""What batches of growing size took, and where more frames at once gain nothing."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from edge.clock import MS_PER_S, NS_PER_MS
from edge.records import StageTimes

LADDER = (1, 2, 4, 8, 16, 32, 64)
"""Frames of one batch; the last is the largest batch a config can ask for."""

# Beyond this share of the best throughput a larger batch buys latency and memory for nothing.
_GOOD_ENOUGH = 0.95
# Noise may excuse no more than this, or a disturbed measurement would make any batch good enough.
_LARGEST_ALLOWANCE = 0.05

_DECIMALS = 4


class Point(NamedTuple):
    """A batch size's throughput in frames per second, and its relative standard error."""

    batch: int
    fps: float
    noise: float = 0.0


@dataclass(frozen=True)
class Timing:
    """How long one batch took; `noise` is the relative standard error of the throughput."""

    repeats: int
    latency_ms_p50: float
    latency_ms_p99: float
    throughput_fps: float
    noise: float


@dataclass(frozen=True)
class DeviceTiming:
    """What the same batches took on a device in other ways than the daemon's.

    `serial` is one after the other: up, through, down; `compute_alone_fps` is without any copies.
    The ratios are the daemon's throughput over theirs, as medians of laps that did both.
    `stages` is what a batch takes on the device, None where no batch was timed.
    """

    serial: Timing
    compute_alone_fps: float
    overlap_over_serial: float
    overlap_over_compute: float
    stages: Optional[StageTimes] = None

    def columns(self) -> Dict[str, float]:
        """All of it, flat."""
        stages = self.stages
        return {
            "serial_fps": self.serial.throughput_fps,
            "serial_ms_p50": self.serial.latency_ms_p50,
            "serial_ms_p99": self.serial.latency_ms_p99,
            "compute_alone_fps": self.compute_alone_fps,
            "overlap_over_serial": self.overlap_over_serial,
            "overlap_over_compute": self.overlap_over_compute,
            **({} if stages is None else _stage_columns(stages)),
        }


@dataclass(frozen=True)
class Rung:
    """What was measured at one batch size, run as the daemon runs it.

    `calls` to the engine make one batch; `cpu_utilization` is the share of this process' cores
    that was busy, 0..1; `rss_mb` is MiB after the rung, `rss_mb_per_row` its growth since the
    rung before per added frame, 0 where that is within the allocator's noise. `device` is None
    on a CPU; `load` has `gpu_utilization` 0..1, `power_w` and `frames_per_joule` where known.
    """

    batch: int
    calls: int
    timing: Timing
    cpu_utilization: float
    rss_mb: float
    rss_mb_per_row: float
    device: Optional[DeviceTiming] = None
    load: Mapping[str, float] = field(default_factory=dict)

    def row(self) -> Dict[str, Any]:
        """All of it as one flat row of a JSON table; what is unknown is absent."""
        columns: Dict[str, Any] = {
            "batch": self.batch,
            "calls": self.calls,
            "cpu_utilization": self.cpu_utilization,
            "rss_mb": self.rss_mb,
            "rss_mb_per_row": self.rss_mb_per_row,
            **asdict(self.timing),
            **(self.device.columns() if self.device else {}),
            **self.load,
        }
        return {key: round(value, _DECIMALS) for key, value in columns.items()}

    @property
    def point(self) -> Point:
        """What the knee is found from."""
        return Point(self.batch, self.timing.throughput_fps, self.timing.noise)


def knee(points: Sequence[Point]) -> Optional[int]:
    """The smallest batch that reaches 95 % of the best throughput; None without any point.

    A point counts with its own standard error on top, up to 5 %: among sizes that the noise
    does not tell apart the smaller wins, since it costs less latency and memory.
    """
    if not points:
        return None
    enough_fps = _GOOD_ENOUGH * max(point.fps for point in points)
    return min(point.batch for point in points if _upper_fps(point) >= enough_fps)


def noise_at_knee(points: Sequence[Point]) -> float:
    """The largest relative standard error of what the knee was chosen by; 0 without any point.

    These are the best point, and the knee with every smaller size, which it went before.
    """
    best = max(points, key=lambda point: point.fps, default=None)
    chosen = knee(points)
    deciding = [p.noise for p in points if p is best or (chosen is not None and p.batch <= chosen)]
    return max(deciding, default=0.0)


def is_doubtful(points: Sequence[Point]) -> bool:
    """Tells whether the knee was chosen from differences smaller than the noise."""
    return noise_at_knee(points) > _LARGEST_ALLOWANCE


def _upper_fps(point: Point) -> float:
    return point.fps * (1 + min(point.noise, _LARGEST_ALLOWANCE))


def timing(
    batch: int, durations_ns: Sequence[int], periods_ns: Optional[Sequence[float]] = None
) -> Timing:
    """Sums up how long batches took, and how often one was done where they overlapped.

    Throughput is by the median, which a few disturbed batches do not move.
    """
    ordered_ms = sorted(ns / NS_PER_MS for ns in durations_ns)
    periods_ms = ordered_ms if periods_ns is None else [ns / NS_PER_MS for ns in periods_ns]
    period_ms = statistics.median(periods_ms)
    return Timing(
        repeats=len(ordered_ms),
        latency_ms_p50=statistics.median(ordered_ms),
        latency_ms_p99=ordered_ms[math.ceil(0.99 * len(ordered_ms)) - 1],
        throughput_fps=batch * MS_PER_S / period_ms,
        noise=_standard_error(periods_ms) / period_ms,
    )


def median_stages(batch: int, samples: Sequence[StageTimes]) -> Optional[StageTimes]:
    """The stages of a batch from those of its calls, in the order of launch; None without any.

    Only whole batches count: their calls' times are added up.
    """
    batches = list(_whole_batches(batch, samples))
    if not batches:
        return None
    upload, compute, download = (
        statistics.median(sum(getattr(call, stage) for call in calls) for calls in batches)
        for stage in ("upload_ms", "compute_ms", "download_ms")
    )
    return StageTimes(batch, upload, compute, download)


def _whole_batches(batch: int, samples: Sequence[StageTimes]) -> Iterator[List[StageTimes]]:
    calls: List[StageTimes] = []
    # From the last on: the first may have lost calls that were too long ago.
    for sample in reversed(samples):
        calls.append(sample)
        if sum(call.rows for call in calls) == batch:
            yield calls
            calls = []


def _stage_columns(stages: StageTimes) -> Dict[str, float]:
    return {
        "upload_ms": stages.upload_ms,
        "compute_ms": stages.compute_ms,
        "download_ms": stages.download_ms,
    }


def _standard_error(values: Sequence[float]) -> float:
    """Of the median, from the quartiles, which outliers do not move either."""
    if len(values) < 2:
        return 0.0
    lower, _, upper = statistics.quantiles(values, n=4)
    # For a normal distribution: 1.253 sigma / sqrt(n), and the quartiles are 1.349 sigma apart.
    return 0.929 * (upper - lower) / math.sqrt(len(values))
