"""An engine on a GPU, driven as the daemon drives it, and in plainer ways beside."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import Callable, Dict, List, NamedTuple, Optional, Protocol, Tuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.pictures import pictures
from benchmarks.timing import percentile
from edge.errors import EngineError
from edge.geometry import Image
from edge.inference.engine import Engine, Pending
from edge.inference.overlap import SAMPLED
from edge.records import StageTimes
from edge.threads import SupervisedThread

Allocate = Callable[[Tuple[int, int, int, int]], Image]
"""The toolchain's: memory that its engines read frames from without another copy."""

Collect = Callable[[NDArray[np.float32]], object]
"""What is done with a batch's detections [n, K, 6], in the thread that waited for them."""

# One computes, one goes up, one is being drawn.
_SLOTS = 3
_TIMED_BATCHES = 7
_LONGEST_S = 120.0


class MeasurableEngine(Engine, Protocol):
    """An engine on a GPU, with what is there for measurements only."""

    def compute_alone(self, rows: int, batches: int) -> None:
        """Runs batches of `rows` from memory that is on the device, and waits for them."""

    def time_every(self, batches: int) -> None:
        """Times the stages of one of so many batches from now on."""


class HostTimes(NamedTuple):
    """Milliseconds of the host for one batch, and of the batch from its launch to its result."""

    launch_ms: float
    wait_ms: float
    latency_ms: float

    @classmethod
    def between(cls, began: float, launched: float, waiting: float, ended: float) -> HostTimes:
        """Of four moments in seconds; two threads may have taken them."""
        return cls(1e3 * (launched - began), 1e3 * (ended - waiting), 1e3 * (ended - began))


class _Out(NamedTuple):
    began: float
    launched: float
    pending: Pending


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
        for number in range(batches):
            began = time.perf_counter()
            pending = self._engine.launch(self._slot(batch, number))
            launched = time.perf_counter()
            pending.wait()
            self._note("serial", _Out(began, launched, pending), launched)

    def overlapped(self, batch: int, batches: int) -> None:
        """As the daemon does: this thread launches, another waits."""
        self._overlap("overlapped", batch, batches, len)

    def detected(self, batch: int, batches: int, collect: Collect) -> None:
        """The same, and the thread that waits does `collect` with what it got."""
        self._overlap("detected", batch, batches, collect)

    def stages(self, batch: int) -> StageTimes:
        """Medians of what the stages of such a batch take on the GPU, one batch at a time."""
        self._engine.time_every(1)
        for number in range(_TIMED_BATCHES):
            self._engine.launch(self._slot(batch, number)).wait()
        self._engine.time_every(SAMPLED)
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
        lap = _Lap(self._engine.in_flight)

        def take() -> None:
            for one in iter(lap.out.get, None):
                waiting = time.perf_counter()
                detections = one.pending.wait()
                self._note(way, one, waiting)
                lap.make_room()
                collect(detections)

        thread = SupervisedThread("collect", take, lap.fail)
        thread.start()
        try:
            for number in range(batches):
                lap.wait_for_room()
                began = time.perf_counter()
                pending = self._engine.launch(self._slot(batch, number))
                lap.out.put(_Out(began, time.perf_counter(), pending))
        finally:
            lap.out.put(None)
            has_ended = thread.join(_LONGEST_S)
        if not has_ended:
            raise EngineError(f"no result for {_LONGEST_S:g} s: the device hangs")
        lap.wait_for_room()

    def _note(self, way: str, out: _Out, waiting: float) -> None:
        ended = time.perf_counter()
        self.times[way].append(HostTimes.between(out.began, out.launched, waiting, ended))

    def _slot(self, batch: int, number: int) -> Image:
        return self._slots[number % _SLOTS][:batch]


class _Lap:
    """Batches on their way between two threads, as many as the engine works on at once."""

    def __init__(self, in_flight: int) -> None:
        self.out: SimpleQueue[Optional[_Out]] = SimpleQueue()
        # Not the engine's own limit: where a batch fails, that may never have room again.
        self._room = threading.Semaphore(in_flight)
        self._error: Optional[BaseException] = None

    def wait_for_room(self) -> None:
        """Waits until a batch may be launched; raises what ended the other thread."""
        self._room.acquire()
        if self._error is not None:
            raise self._error

    def make_room(self) -> None:
        """Lets one more batch be launched."""
        self._room.release()

    def fail(self, name: str, error: BaseException) -> None:
        """Lets the launching thread go on, and raise."""
        self._error = error
        self.make_room()
