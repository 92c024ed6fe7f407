"""The ways to run batches on an engine: as the daemon does, one after the other, without copies."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import (
    Callable,
    List,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    runtime_checkable,
)

from edge.errors import EngineError, EngineOutOfMemory
from edge.geometry import Image
from edge.inference.chunks import ChunkedEngine
from edge.inference.engine import Engine, Launcher, Pending
from edge.inference.overlap import SAMPLED
from edge.records import StageTimes
from edge.threads import SupervisedThread

# Overlapped batches of one lap at least: from the first that is done to the last.
_LEAST_OVERLAPPED = 4

# After a change of size a device first queues kernel by kernel, then records what repeats.
_SETTLED = 12
_TIMED = 4
_SETTLING_SHARE = 0.25

# Queued before anybody waits: enough to measure by, few enough to be stopped soon.
_MOST_COMPUTED = 500

# A batch that takes longer never ends.
_PATIENCE_S = 600.0

MonotonicNs = Callable[[], int]
IsEnough = Callable[[int], bool]
"""Asked before each batch, with how many there were."""


@runtime_checkable
class OnDevice(Protocol):
    """What an engine on a device can do for measurements."""

    def compute_alone(self, rows: int, batches: int) -> None:
        """Runs batches of `rows` without any copies and waits for them."""

    def time_every(self, batches: int) -> None:
        """Times the stages of one of so many batches from now on."""


class Lap(NamedTuple):
    """How long each batch of a lap took, and the time from one result to the next, in ns."""

    latencies_ns: List[int]
    period_ns: float


class DeviceLap(NamedTuple):
    """A lap in the ways a device has besides; `compute_ns` is a batch's time without copies."""

    serial: Lap
    compute_ns: float
    stages: List[StageTimes]


class Ways:
    """Runs batches on an engine; those above `cap` in parts, as in the daemon.

    `is_stopped` is asked between batches, of which there is at least one.
    """

    def __init__(
        self, engine: Engine, cap: int, monotonic_ns: MonotonicNs, is_stopped: Callable[[], bool]
    ) -> None:
        self._engine = engine
        self._cap = cap
        self._monotonic_ns = monotonic_ns
        self._is_stopped = is_stopped
        self._device = _device_of(engine)

    @property
    def has_device(self) -> bool:
        """True where there are other ways than the daemon's."""
        return self._device is not None

    def infer(self, frames: Image) -> None:
        """Runs one batch; EngineOutOfMemory also where it went through in smaller parts only."""
        # A new one each time: one that ran out of memory runs smaller sizes in parts, too.
        chunked = self._chunked()
        chunked.infer(frames)
        _check(chunked)

    def as_daemon(self, frames: Image, share_ns: int) -> Lap:
        """Runs batches for `share_ns` as the daemon does: overlapped, where the engine can."""
        if self._device is None:
            return self._one_by_one(lambda: self.infer(frames), self._until(share_ns, 1))
        chunked = self._chunked()
        overlap = _Overlap(chunked, self._monotonic_ns)
        lap = overlap.run(frames, self._until(share_ns, _LEAST_OVERLAPPED))
        _check(chunked)
        return lap

    def beside(self, frames: Image, share_ns: int) -> Optional[DeviceLap]:
        """The same batches in a device's other ways; None where there is none."""
        device, engine = self._device, self._engine
        if device is None:
            return None
        settling_ns = int(share_ns * _SETTLING_SHARE)
        self._serially(frames, self._until(settling_ns, 1, _SETTLED))
        device.time_every(1)  # events with times cost the GPU: not in what is judged
        before = len(self._serially(frames, self._until(settling_ns, 1, _TIMED)).latencies_ns)
        device.time_every(SAMPLED)
        calls = before * -(-len(frames) // self._cap)
        stages = list(engine.stage_times)[-calls:]
        serial = self._serially(frames, self._until(share_ns, 1))
        batches = min(len(serial.latencies_ns), _MOST_COMPUTED)
        return DeviceLap(serial, self._compute(device, len(frames), batches), stages)

    def _serially(self, frames: Image, is_enough: IsEnough) -> Lap:
        def one() -> None:
            for start in range(0, len(frames), self._cap):
                self._engine.launch(frames[start : start + self._cap]).wait()

        return self._one_by_one(one, is_enough)

    def _one_by_one(self, one: Callable[[], None], is_enough: IsEnough) -> Lap:
        latencies_ns: List[int] = []
        while not is_enough(len(latencies_ns)):
            started_ns = self._monotonic_ns()
            one()
            latencies_ns.append(self._monotonic_ns() - started_ns)
        return Lap(latencies_ns, sum(latencies_ns) / len(latencies_ns))

    def _compute(self, device: OnDevice, rows: int, batches: int) -> float:
        whole, rest = divmod(rows, self._cap)
        started_ns = self._monotonic_ns()
        if whole:
            device.compute_alone(self._cap, whole * batches)
        if rest:
            device.compute_alone(rest, batches)
        return (self._monotonic_ns() - started_ns) / batches

    def _until(self, share_ns: int, least: int, most: Optional[int] = None) -> IsEnough:
        end_ns = self._monotonic_ns() + share_ns

        def is_enough(count: int) -> bool:
            if count < least:
                return False
            is_over = self._monotonic_ns() >= end_ns or self._is_stopped()
            return is_over or (most is not None and count >= most)

        return is_enough

    def _chunked(self) -> ChunkedEngine:
        return ChunkedEngine(self._engine, self._cap, lambda _: None)


class _Overlap:
    """Launches batches in the caller's thread while another waits for them."""

    def __init__(self, launcher: Launcher, monotonic_ns: MonotonicNs) -> None:
        self._launcher = launcher
        self._monotonic_ns = monotonic_ns
        # Not the engine's own limit: where a batch fails, that may never have room again.
        self._room = threading.Semaphore(launcher.in_flight)
        self._out: SimpleQueue[Optional[Tuple[int, Pending]]] = SimpleQueue()
        self._latencies_ns: List[int] = []
        self._done_ns: List[int] = []
        self._error: Optional[BaseException] = None

    def run(self, frames: Image, is_enough: IsEnough) -> Lap:
        """Runs until it is enough and all are done; raises what a batch failed with."""
        thread = SupervisedThread("collecting", self._collect, lambda _, error: self._fail(error))
        thread.start()
        try:
            self._launch(frames, is_enough)
        finally:
            self._out.put(None)
            has_ended = thread.join(_PATIENCE_S)
        if self._error is not None:
            raise self._error
        if not has_ended:
            raise EngineError(f"no result for {_PATIENCE_S:g} s: the device hangs")
        return Lap(self._latencies_ns, _period_ns(self._latencies_ns, self._done_ns))

    def _launch(self, frames: Image, is_enough: IsEnough) -> None:
        launched = 0
        while not is_enough(launched):
            has_room = self._room.acquire(timeout=_PATIENCE_S)
            if self._error is not None:
                return
            if not has_room:
                raise EngineError(f"no result for {_PATIENCE_S:g} s: the device hangs")
            started_ns = self._monotonic_ns()
            self._out.put((started_ns, self._launcher.launch(frames)))
            launched += 1

    def _collect(self) -> None:
        for started_ns, pending in iter(self._out.get, None):
            try:
                pending.wait()
            except (EngineError, MemoryError) as error:
                self._fail(error)
            done_ns = self._monotonic_ns()
            self._latencies_ns.append(done_ns - started_ns)
            self._done_ns.append(done_ns)
            self._room.release()

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._room.release()


def _device_of(engine: Engine) -> Optional[OnDevice]:
    return engine if engine.in_flight > 1 and isinstance(engine, OnDevice) else None


def _check(chunked: ChunkedEngine) -> None:
    if chunked.shrinks:
        raise EngineOutOfMemory(f"only {chunked.cap} fit into one call")


def _period_ns(latencies_ns: Sequence[int], done_ns: Sequence[int]) -> float:
    """Between the first result and the last: before it nothing overlaps."""
    if len(done_ns) < 2:
        return float(latencies_ns[0])
    return (done_ns[-1] - done_ns[0]) / (len(done_ns) - 1)
