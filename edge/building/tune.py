"""Measures an engine at growing batch sizes and finds where more frames at once gain nothing."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from edge.building.gauges import BYTES_PER_MIB, Gauges
from edge.clock import MS_PER_S, NS_PER_MS, NS_PER_S
from edge.errors import EngineOutOfMemory
from edge.geometry import Image
from edge.inference.chunks import ChunkedEngine
from edge.inference.engine import Engine

LADDER = (1, 2, 4, 8, 16, 32, 64)
"""Frames of one batch; the last is the largest batch a config can ask for."""

# Beyond this share of the best throughput a larger batch buys latency and memory for nothing.
_GOOD_ENOUGH = 0.95
# Noise may excuse no more than this, or a disturbed measurement would make any batch good enough.
_LARGEST_ALLOWANCE = 0.05

# The sizes are measured in turn, this often: whatever slows the machine for a while, its heat
# for one, then slows all of them alike.
_LAPS = 5

# The grey of a letterbox: any picture costs a network the same.
_GREY = 114

# The allocator takes and returns pages on its own account: less than this is no row's doing.
_RSS_NOISE_MIB = 1.0

# Left to the rest of the machine: where memory runs out, Linux kills instead of refusing.
_RESERVE_MIB = 64.0

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
class Rung:
    """What was measured at one batch size.

    `calls` to the engine make one batch; `cpu_utilization` is the share of this process' cores
    that was busy, 0..1; `rss_mb` is MiB after the rung, `rss_mb_per_row` its growth since the
    rung before per added frame, 0 where that is within the allocator's noise.
    """

    batch: int
    calls: int
    timing: Timing
    cpu_utilization: float
    rss_mb: float
    rss_mb_per_row: float

    def row(self) -> Dict[str, Any]:
        """All of it as one flat row of a JSON table."""
        columns = asdict(self)
        columns.update(columns.pop("timing"))
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


def timing(batch: int, durations_ns: Sequence[int]) -> Timing:
    """Sums up how long batches took.

    Throughput is by the median, which a few disturbed batches do not move.
    """
    ordered_ms = sorted(ns / NS_PER_MS for ns in durations_ns)
    median_ms = statistics.median(ordered_ms)
    return Timing(
        repeats=len(ordered_ms),
        latency_ms_p50=median_ms,
        latency_ms_p99=ordered_ms[math.ceil(0.99 * len(ordered_ms)) - 1],
        throughput_fps=batch * MS_PER_S / median_ms,
        noise=_standard_error(ordered_ms) / median_ms,
    )


def _standard_error(values: Sequence[float]) -> float:
    """Of the median, from the quartiles, which outliers do not move either."""
    if len(values) < 2:
        return 0.0
    lower, _, upper = statistics.quantiles(values, n=4)
    # For a normal distribution: 1.253 sigma / sqrt(n), and the quartiles are 1.349 sigma apart.
    return 0.929 * (upper - lower) / math.sqrt(len(values))


# --- measuring -------------------------------------------------------------------------------


@dataclass(frozen=True)
class End:
    """Every lap is done: the sizes that fit, and where memory ended, empty if it did not."""

    sizes: Tuple[int, ...]
    out_of_memory: str = ""


Finding = Union[Rung, End]


@dataclass
class _Samples:
    """What is known of a size so far; `row_mb` is what each row cost that the size below lacks."""

    rss_mb: float
    row_mb: float
    durations_ns: List[int] = field(default_factory=list)
    cpu_ns: int = 0
    cores_ns: int = 0


class Climb:
    """Runs an engine up the ladder five times, for about `seconds` in all.

    Batches above `cap` run in parts, as they do in the daemon. `is_stopped` is asked between
    batches.
    """

    def __init__(
        self,
        engine: Engine,
        cap: int,
        seconds: float,
        is_stopped: Callable[[], bool],
        gauges: Gauges,
    ) -> None:
        self._engine = engine
        self._cap = cap
        self._share_ns = int(seconds * NS_PER_S / len(LADDER) / _LAPS)
        self._is_stopped = is_stopped
        self._gauges = gauges
        self._samples: Dict[int, _Samples] = {}
        self._rss_below_mb = gauges.rss_mb()

    def findings(self) -> Iterator[Finding]:
        """Each size's rung, anew whenever more is known of it, then the end.

        A size that does not fit ends the ladder below it. Where stopped there is no end.
        """
        end = End(LADDER)
        for batch in LADDER * _LAPS:
            if batch not in end.sizes:
                continue
            try:
                self._visit(batch)
            except (EngineOutOfMemory, MemoryError) as error:
                reason = str(error) or "no room for the frames"
                fitting = tuple(size for size in end.sizes if size < batch)
                end = End(fitting, f"out of memory at {batch} frames: {reason}")
                continue
            if self._is_stopped():
                return
            yield self._rung(batch)
        yield end

    def _visit(self, batch: int) -> None:
        if batch not in self._samples:
            self._check_memory(batch)
        width, height = self._engine.input_wh
        frames = np.full((batch, height, width, 3), _GREY, np.uint8)
        if batch not in self._samples:
            self._samples[batch] = self._first(frames)
        samples, gauges = self._samples[batch], self._gauges
        started_ns, cpu_ns = gauges.monotonic_ns(), gauges.cpu_ns()
        samples.durations_ns += self._repeat(frames)
        samples.cpu_ns += gauges.cpu_ns() - cpu_ns
        samples.cores_ns += (gauges.monotonic_ns() - started_ns) * gauges.cores

    def _first(self, frames: Image) -> _Samples:
        self._infer(frames)  # allocates, and picks kernels
        rss_mb = self._gauges.rss_mb()
        growth_mb, rows = rss_mb - self._rss_below_mb, len(frames) - max(self._samples, default=0)
        self._rss_below_mb = rss_mb
        return _Samples(rss_mb, 0.0 if abs(growth_mb) < _RSS_NOISE_MIB else growth_mb / rows)

    def _repeat(self, frames: Image) -> List[int]:
        durations_ns: List[int] = []
        while not durations_ns or (sum(durations_ns) < self._share_ns and not self._is_stopped()):
            started_ns = self._gauges.monotonic_ns()
            self._infer(frames)
            durations_ns.append(self._gauges.monotonic_ns() - started_ns)
        return durations_ns

    def _infer(self, frames: Image) -> None:
        # A new one each time: one that ran out of memory runs smaller sizes in parts, too.
        chunked = ChunkedEngine(self._engine, self._cap, lambda _: None)
        chunked.infer(frames)
        if chunked.shrinks:
            raise EngineOutOfMemory(f"only {chunked.cap} fit into one call")

    def _rung(self, batch: int) -> Rung:
        samples = self._samples[batch]
        return Rung(
            batch=batch,
            calls=math.ceil(batch / self._cap),
            timing=timing(batch, samples.durations_ns),
            cpu_utilization=min(samples.cpu_ns / samples.cores_ns, 1.0),
            rss_mb=samples.rss_mb,
            rss_mb_per_row=samples.row_mb,
        )

    def _check_memory(self, batch: int) -> None:
        width, height = self._engine.input_wh
        frames_mb = batch * width * height * 3 / BYTES_PER_MIB
        # No call takes more than the cap, so above it only the frames need more.
        new_rows = min(batch, self._cap) - min(max(self._samples, default=0), self._cap)
        row_mb = max([0.0, *(samples.row_mb for samples in self._samples.values())])
        needed_mb = frames_mb + new_rows * row_mb
        available_mb = self._gauges.available_mb()
        if needed_mb + _RESERVE_MIB > available_mb:
            raise EngineOutOfMemory(
                f"about {needed_mb:.0f} MiB needed of {available_mb:.0f} MiB available, "
                f"{_RESERVE_MIB:.0f} of which are left to the machine"
            )
