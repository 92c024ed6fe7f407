"""An engine on a GPU, driven as the daemon drives it, and in plainer ways beside."""

from __future__ import annotations

import time
from typing import Callable, Dict, List, NamedTuple, Protocol, Sequence, Tuple

from benchmarks.pictures import pictures
from benchmarks.timing import percentile
from edge.building.laps import Collect, FramesOf, Moments, exactly, overlapped, serially
from edge.building.ways import OnDevice
from edge.clock import NS_PER_MS
from edge.geometry import Image
from edge.inference.engine import Engine
from edge.inference.overlap import TIMED_EVERY_S
from edge.records import StageTimes

Allocate = Callable[[Tuple[int, int, int, int]], Image]
"""The toolchain's: memory that its engines read frames from without another copy."""

# One computes, one goes up, one is being drawn.
_SLOTS = 3
_TIMED_BATCHES = 7


class MeasurableEngine(Engine, OnDevice, Protocol):
    """An engine on a GPU, with what is there for measurements only."""


class HostTimes(NamedTuple):
    """Milliseconds of the host for one batch, and of the batch from its launch to its result."""

    launch_ms: float
    wait_ms: float
    latency_ms: float

    @classmethod
    def of(cls, moments: Moments) -> HostTimes:
        """What lay between the moments of a batch, which two threads may have taken."""
        launch_ns = moments.launched_ns - moments.began_ns
        wait_ns = moments.done_ns - moments.waiting_ns
        return cls(*(ns / NS_PER_MS for ns in (launch_ns, wait_ns, moments.latency_ns)))


class Streams:
    """The ways to run batches of pictures; each returns when all its batches are done.

    `times` holds the host's for each batch, by the way it went.
    """

    def __init__(self, engine: MeasurableEngine, allocate: Allocate, largest: int) -> None:
        self._engine = engine
        self.largest = min(largest, engine.info.max_batch)
        width, height = engine.input_wh
        self.frames = pictures(self.largest, engine.input_wh)
        self._slots = [allocate((self.largest, height, width, 3)) for _ in range(_SLOTS)]
        for slot in self._slots:
            slot[...] = self.frames
        self.times: Dict[str, List[HostTimes]] = {"serial": [], "overlapped": [], "detected": []}
        self.prime(self.largest)

    def prime(self, batch: int) -> None:
        """Leaves pictures where `compute` reads, in all of the engine's own memory."""
        for _ in range(self._engine.in_flight):
            # From ordinary memory: an engine that reads slots in place has this copied, too.
            self._engine.infer(self.frames[:batch])

    def compute(self, batch: int, batches: int) -> None:
        """No copies."""
        self._engine.compute_alone(batch, batches)

    def serial(self, batch: int, batches: int) -> None:
        """One batch after the other."""
        launch, frames_of = self._engine.launch, self._frames_of(batch)
        self._note("serial", serially(launch, frames_of, exactly(batches), time.perf_counter_ns))

    def overlapped(self, batch: int, batches: int) -> None:
        """As the daemon does: this thread launches, another waits."""
        self._overlap("overlapped", batch, batches, len)

    def detected(self, batch: int, batches: int, collect: Collect) -> None:
        """The same, and the thread that waits does `collect` with what it got."""
        self._overlap("detected", batch, batches, collect)

    def stages(self, batch: int) -> StageTimes:
        """Medians of what the stages of such a batch take on the GPU, one batch at a time."""
        self._engine.time_every(0.0)
        launch, frames_of = self._engine.launch, self._frames_of(batch)
        serially(launch, frames_of, exactly(_TIMED_BATCHES), time.perf_counter_ns)
        self._engine.time_every(TIMED_EVERY_S)
        samples = self._engine.stage_times[-_TIMED_BATCHES:]
        return StageTimes(
            batch,
            percentile([one.upload_ms for one in samples], 50),
            percentile([one.compute_ms for one in samples], 50),
            percentile([one.download_ms for one in samples], 50),
        )

    def host_times(self) -> Dict[str, HostTimes]:
        """Medians by way since the last call."""
        medians = {
            way: HostTimes(*(percentile(values, 50) for values in zip(*times)))
            for way, times in self.times.items()
            if times
        }
        for times in self.times.values():
            times.clear()
        return medians

    def _overlap(self, way: str, batch: int, batches: int, collect: Collect) -> None:
        engine, frames_of = self._engine, self._frames_of(batch)
        clock = time.perf_counter_ns
        self._note(way, overlapped(engine, frames_of, exactly(batches), clock, collect))

    def _note(self, way: str, lap: Sequence[Moments]) -> None:
        self.times[way] += map(HostTimes.of, lap)

    def _frames_of(self, batch: int) -> FramesOf:
        def frames_of(number: int) -> Image:
            return self._slots[number % _SLOTS][:batch]

        return frames_of
