"""The ways to run batches on an engine: as the daemon does, one after the other, without copies."""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Optional, Protocol, Sequence, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edge.building.laps import IsEnough, Moments, MonotonicNs, overlapped, serially
from edge.errors import EngineOutOfMemory
from edge.geometry import Image
from edge.inference.chunks import ChunkedEngine
from edge.inference.engine import Done, Engine, Pending
from edge.inference.overlap import TIMED_EVERY_S
from edge.records import StageTimes

# Overlapped batches of one lap at least: from the first that is done to the last.
_LEAST_OVERLAPPED = 4

# After a change of size a device first queues kernel by kernel, then records what repeats.
_SETTLED = 12
_TIMED = 4
_SETTLING_SHARE = 0.25

# Queued before anybody waits: enough to measure by, few enough to be stopped soon.
_MOST_COMPUTED = 500


@runtime_checkable
class OnDevice(Protocol):
    """What an engine on a device can do for measurements."""

    def compute_alone(self, rows: int, batches: int) -> None:
        """Runs batches of `rows` without any copies and waits for them."""

    def time_every(self, seconds: float) -> None:
        """Times the stages of a batch so often from now on; 0 times those of each."""


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

    def infer(self, frames: Image) -> NDArray[np.float32]:
        """Runs one batch; EngineOutOfMemory also where it went through in smaller parts only."""
        # A new one each time: one that ran out of memory runs smaller sizes in parts, too.
        chunked = self._chunked()
        detections = chunked.infer(frames)
        _check(chunked)
        return detections

    def as_daemon(self, frames: Image, share_ns: int) -> Lap:
        """Runs batches for `share_ns` as the daemon does: overlapped, where the engine can."""
        if self._device is None:
            return self._serially(self._whole, frames, self._until(share_ns, 1))
        chunked = self._chunked()
        is_enough = self._until(share_ns, _LEAST_OVERLAPPED)
        lap = overlapped(chunked, lambda number: frames, is_enough, self._monotonic_ns)
        _check(chunked)
        return Lap([moments.latency_ns for moments in lap], _period_ns(lap))

    def beside(self, frames: Image, share_ns: int) -> Optional[DeviceLap]:
        """The same batches in a device's other ways; None where there is none."""
        device, engine = self._device, self._engine
        if device is None:
            return None
        settling_ns = int(share_ns * _SETTLING_SHARE)
        self._serially(self._in_turn, frames, self._until(settling_ns, 1, _SETTLED))
        device.time_every(0.0)  # events with times cost the GPU: not in what is judged
        timed = self._serially(self._in_turn, frames, self._until(settling_ns, 1, _TIMED))
        device.time_every(TIMED_EVERY_S)
        calls = len(timed.latencies_ns) * -(-len(frames) // self._cap)
        stages = list(engine.stage_times)[-calls:]
        serial = self._serially(self._in_turn, frames, self._until(share_ns, 1))
        batches = min(len(serial.latencies_ns), _MOST_COMPUTED)
        return DeviceLap(serial, self._compute(device, len(frames), batches), stages)

    def _serially(
        self, launch: Callable[[Image], Pending], frames: Image, is_enough: IsEnough
    ) -> Lap:
        lap = serially(launch, lambda number: frames, is_enough, self._monotonic_ns)
        latencies_ns = [moments.latency_ns for moments in lap]
        return Lap(latencies_ns, sum(latencies_ns) / len(latencies_ns))

    def _whole(self, frames: Image) -> Pending:
        return Done(self.infer(frames))

    def _in_turn(self, frames: Image) -> Pending:
        """Launches a batch's calls, each when the one before is done."""
        *before, last = range(0, len(frames), self._cap)
        for start in before:
            self._engine.launch(frames[start : start + self._cap]).wait()
        return self._engine.launch(frames[last:])

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


def _device_of(engine: Engine) -> Optional[OnDevice]:
    return engine if engine.in_flight > 1 and isinstance(engine, OnDevice) else None


def _check(chunked: ChunkedEngine) -> None:
    if chunked.shrinks:
        raise EngineOutOfMemory(f"only {chunked.cap} fit into one call")


def _period_ns(lap: Sequence[Moments]) -> float:
    """Between the first result and the last: before it nothing overlaps."""
    if len(lap) < 2:
        return float(lap[0].latency_ns)
    return (lap[-1].done_ns - lap[0].done_ns) / (len(lap) - 1)
