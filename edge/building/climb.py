"""Measures an engine at growing batch sizes."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterator, List, Optional, Protocol, Tuple, Union

import numpy as np

from edge.building.gauges import BYTES_PER_MIB, Gauges, LoadGauge
from edge.building.tune import LADDER, DeviceTiming, Rung, median_stages, timing
from edge.building.ways import DeviceLap, Ways
from edge.clock import NS_PER_S
from edge.errors import EngineOutOfMemory
from edge.geometry import Image
from edge.inference.engine import Engine
from edge.records import StageTimes


class FrameMemory(Protocol):
    """Where frames lie that an engine reads."""

    def allocate(self, shape: Tuple[int, int, int, int]) -> Image:
        """Makes memory uint8 of this shape."""

    def release(self, rows: Image) -> None:
        """Frees what `allocate` gave, once nobody reads it any more."""


class Pageable:
    """Ordinary memory, for backends that compute on the host."""

    def allocate(self, shape: Tuple[int, int, int, int]) -> Image:
        """Memory without a content."""
        return np.empty(shape, np.uint8)

    def release(self, rows: Image) -> None:
        """It ends by itself."""


# The sizes are measured in turn, this often: whatever slows the machine for a while, its heat
# for one, then slows all of them alike.
_LAPS = 5

# Of a size's time in a lap: as the daemon runs it, one after the other, and computing alone.
_WAYS_OF_A_DEVICE = 3

# Sensors look back over up to a second: a load has to last before it can be read.
_STEADY_S = 2.5
_STEADY_SHARE = 1 / 8  # of the time that is asked for, at most
_SETTLING_SHARE = 0.4

# The allocator takes and returns pages on its own account: less than this is no row's doing.
_RSS_NOISE_MIB = 1.0

# Left to the rest of the machine: where memory runs out, Linux kills instead of refusing.
_RESERVE_MIB = 64.0


@dataclass(frozen=True)
class End:
    """Every lap is done: the sizes that fit, and where memory ended, empty if it did not."""

    sizes: Tuple[int, ...]
    out_of_memory: str = ""


Finding = Union[Rung, End]


@dataclass(frozen=True)
class Rig:
    """What is measured, and by what; batches above `cap` run in parts, as they do in the daemon.

    `load` is None where nothing tells of it.
    """

    engine: Engine
    cap: int
    gauges: Gauges
    memory: FrameMemory = field(default_factory=Pageable)
    load: Optional[LoadGauge] = None


@dataclass
class _Samples:
    """What is known of a size so far; `row_mb` is what each row cost that the size below lacks."""

    rss_mb: float
    row_mb: float
    durations_ns: List[int] = field(default_factory=list)
    periods_ns: List[float] = field(default_factory=list)
    beside: List[DeviceLap] = field(default_factory=list)
    cpu_ns: int = 0
    cores_ns: int = 0
    load: Dict[str, float] = field(default_factory=dict)


class Climb:
    """Runs an engine up the ladder five times, for about `seconds` in all.

    Where the load can be read, each size then runs for some more seconds in which it is.
    `is_stopped` is asked between batches.
    """

    def __init__(self, rig: Rig, seconds: float, is_stopped: Callable[[], bool]) -> None:
        self._rig = rig
        self._gauges = rig.gauges
        self._is_stopped = is_stopped
        self._ways = Ways(rig.engine, rig.cap, rig.gauges.monotonic_ns, is_stopped)
        ways = _WAYS_OF_A_DEVICE if self._ways.has_device else 1
        self._share_ns = int(seconds * NS_PER_S / len(LADDER) / _LAPS / ways)
        self._steady_ns = int(min(_STEADY_S, _STEADY_SHARE * seconds) * NS_PER_S)
        self._samples: Dict[int, _Samples] = {}
        self._rss_below_mb = rig.gauges.rss_mb()
        self._frames: Optional[Image] = None

    def findings(self) -> Iterator[Finding]:
        """Each size's rung, anew whenever more is known of it, then the end.

        A size that does not fit ends the ladder below it. Where stopped there is no end.
        """
        end = End(LADDER)
        for batch, visit in self._visits():
            if batch not in end.sizes:
                continue
            try:
                visit(batch)
            except (EngineOutOfMemory, MemoryError) as error:
                reason = str(error) or "no room for the frames"
                fitting = tuple(size for size in end.sizes if size < batch)
                end = End(fitting, f"out of memory at {batch} frames: {reason}")
                continue
            if self._is_stopped():
                return
            yield self._rung(batch)
        self._free_rows()
        yield end

    def _visits(self) -> Iterator[Tuple[int, Callable[[int], None]]]:
        for batch in LADDER * _LAPS:
            yield batch, self._time
        if self._rig.load is not None:
            for batch in LADDER:
                yield batch, self._weigh

    def _time(self, batch: int) -> None:
        if batch not in self._samples:
            self._check_memory(batch)
        frames = self._first_rows(batch)
        if batch not in self._samples:
            self._samples[batch] = self._first(frames)
        samples, gauges = self._samples[batch], self._gauges
        beside = self._ways.beside(frames, self._share_ns)
        started_ns, cpu_ns = gauges.monotonic_ns(), gauges.cpu_ns()
        lap = self._ways.as_daemon(frames, self._share_ns)
        samples.cpu_ns += gauges.cpu_ns() - cpu_ns
        samples.cores_ns += (gauges.monotonic_ns() - started_ns) * gauges.cores
        samples.durations_ns += lap.latencies_ns
        samples.periods_ns.append(lap.period_ns)
        if beside is not None:
            samples.beside.append(beside)

    def _weigh(self, batch: int) -> None:
        """Reads the load that a size is once it has lasted."""
        assert self._rig.load is not None  # else it is not called
        frames = self._first_rows(batch)
        self._ways.as_daemon(frames, int(_SETTLING_SHARE * self._steady_ns))
        started_ns = self._gauges.monotonic_ns()
        lap = self._ways.as_daemon(frames, int((1 - _SETTLING_SHARE) * self._steady_ns))
        load = dict(self._rig.load.mean(started_ns, self._gauges.monotonic_ns()))
        if load.get("power_w", 0.0) > 0:
            fps = batch * NS_PER_S / lap.period_ns
            load["frames_per_joule"] = fps / load["power_w"]
        self._samples[batch].load = load

    def _first(self, frames: Image) -> _Samples:
        self._ways.infer(frames)  # allocates, and picks kernels
        rss_mb = self._gauges.rss_mb()
        growth_mb, rows = rss_mb - self._rss_below_mb, len(frames) - max(self._samples, default=0)
        self._rss_below_mb = rss_mb
        return _Samples(rss_mb, 0.0 if abs(growth_mb) < _RSS_NOISE_MIB else growth_mb / rows)

    def _first_rows(self, batch: int) -> Image:
        """Frames to run; noise, as a device computes a plain picture with less power."""
        if self._frames is None or len(self._frames) < batch:
            self._free_rows()  # the smaller ones go before the larger ones come
            width, height = self._rig.engine.input_wh
            frames = self._rig.memory.allocate((batch, height, width, 3))
            noise = np.random.default_rng(0)
            for row in frames:
                row[...] = noise.integers(0, 256, row.shape, np.uint8)
            self._frames = frames
        return self._frames[:batch]

    def _free_rows(self) -> None:
        frames, self._frames = self._frames, None
        if frames is not None:
            self._rig.memory.release(frames)

    def _rung(self, batch: int) -> Rung:
        samples = self._samples[batch]
        has_device = bool(samples.beside)
        return Rung(
            batch=batch,
            calls=math.ceil(batch / self._rig.cap),
            timing=timing(batch, samples.durations_ns, samples.periods_ns if has_device else None),
            cpu_utilization=min(samples.cpu_ns / samples.cores_ns, 1.0),
            rss_mb=samples.rss_mb,
            rss_mb_per_row=samples.row_mb,
            device=_device_timing(batch, samples) if has_device else None,
            load=samples.load,
        )

    def _check_memory(self, batch: int) -> None:
        width, height = self._rig.engine.input_wh
        cap = self._rig.cap
        frames_mb = batch * width * height * 3 / BYTES_PER_MIB
        # No call takes more than the cap, so above it only the frames need more.
        new_rows = min(batch, cap) - min(max(self._samples, default=0), cap)
        row_mb = max([0.0, *(samples.row_mb for samples in self._samples.values())])
        needed_mb = frames_mb + new_rows * row_mb
        available_mb = self._gauges.available_mb()
        if needed_mb + _RESERVE_MIB > available_mb:
            raise EngineOutOfMemory(
                f"about {needed_mb:.0f} MiB needed of {available_mb:.0f} MiB available, "
                f"{_RESERVE_MIB:.0f} of which are left to the machine"
            )


def _device_timing(batch: int, samples: _Samples) -> DeviceTiming:
    laps = samples.beside
    serial_ns = [lap.serial.period_ns for lap in laps]
    latencies_ns = [ns for lap in laps for ns in lap.serial.latencies_ns]
    compute_ns = [lap.compute_ns for lap in laps]
    stages: List[StageTimes] = [stage for lap in laps for stage in lap.stages]
    return DeviceTiming(
        serial=timing(batch, latencies_ns, serial_ns),
        compute_alone_fps=batch * NS_PER_S / statistics.median(compute_ns),
        overlap_over_serial=_ratio(serial_ns, samples.periods_ns),
        overlap_over_compute=_ratio(compute_ns, samples.periods_ns),
        stages=median_stages(batch, stages),
    )


def _ratio(theirs_ns: List[float], ours_ns: List[float]) -> float:
    """How often ours is done while theirs is once; laps are compared one by one."""
    return statistics.median(theirs / ours for theirs, ours in zip(theirs_ns, ours_ns))
