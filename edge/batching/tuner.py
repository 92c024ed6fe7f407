"""Which target and window suit the present load: pure decisions, time comes in as a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional

from edge.clock import MS_PER_S, NS_PER_S
from edge.records import BatchSetting

# A batch may hold as many frames as the engine needs to take at once to bear this many times the
# arrivals: cameras send in bursts.
_HEADROOM = 2.0

# Of the throughput of the largest batch, how much is enough: the rest costs more time than it
# brings.
_KNEE = 0.97

# The window makes batches large enough to keep the engine's busy share at this; an engine that
# has time to spare is not waited for.
_COMFORTABLE = 0.9

# Above this share the engine is full, whatever the arithmetic says: priority frames and a
# throttled clock are not in it.
_FULL = 0.95

# More load is answered at once, less after it has lasted: going back and forth costs frames.
_DWELL_UP_NS = NS_PER_S
_DWELL_DOWN_NS = 5 * NS_PER_S
_DOWN_MARGIN = 1.3
_WINDOW_STEP = 0.25
_WINDOW_STEP_MS = 1.0


@dataclass(frozen=True)
class Load:
    """What the lanes and the engine have done of late.

    `arrival_fps` counts the frames of all shared cameras, `utilization` is the share of its time
    that the engine worked, `infer_ms_by_batch` its typical time by batch size.
    """

    arrival_fps: float
    utilization: float
    infer_ms_by_batch: Mapping[int, float]


@dataclass(frozen=True)
class Cost:
    """The engine's time for n frames as base_ms + frame_ms * n."""

    base_ms: float
    frame_ms: float

    @classmethod
    def fit(cls, infer_ms_by_batch: Mapping[int, float]) -> Cost:
        """The least-squares line, neither part negative.

        One size alone says nothing about the others: the hopeful reading, that more frames cost
        no more, is the one that gets tried and so corrected.
        """
        count = len(infer_ms_by_batch)
        mean_n = sum(infer_ms_by_batch) / count
        mean_ms = sum(infer_ms_by_batch.values()) / count
        spread = sum((n - mean_n) ** 2 for n in infer_ms_by_batch)
        if not spread:
            return cls(mean_ms, 0.0)
        joint = sum((n - mean_n) * (ms - mean_ms) for n, ms in infer_ms_by_batch.items())
        frame_ms = min(max(joint / spread, 0.0), mean_ms / mean_n)
        return cls(mean_ms - frame_ms * mean_n, frame_ms)

    def throughput_fps(self, batch: int) -> float:
        """Frames per second in back-to-back batches of this size."""
        return batch * MS_PER_S / max(self.base_ms + self.frame_ms * batch, 1e-6)

    def smallest_batch(self, fps: float, largest: int) -> int:
        """The smallest batch that carries so many frames per second; the largest if none does."""
        sizes = range(1, largest)
        return next((n for n in sizes if self.throughput_fps(n) >= fps), largest)


class Tuner:
    """Moves target and window within `bounds`: as much batching as the load needs, no more.

    Starts at the bounds. More load is followed after a second, less after five.
    """

    def __init__(self, bounds: BatchSetting) -> None:
        self._bounds = bounds
        self._setting = bounds
        self._changed_ns: Optional[int] = None

    @property
    def bounds(self) -> BatchSetting:
        """As much batching as there may be."""
        return self._bounds

    def advise(self, now_ns: int, load: Load) -> Optional[BatchSetting]:
        """A setting to change to, or None to stay."""
        if self._changed_ns is None:
            self._changed_ns = now_ns
        if not load.infer_ms_by_batch or load.arrival_fps <= 0:
            return None
        wanted = self._next(load, now_ns - self._changed_ns)
        if wanted is not None:
            self._setting, self._changed_ns = wanted, now_ns
        return wanted

    def _next(self, load: Load, dwelt_ns: int) -> Optional[BatchSetting]:
        cost = Cost.fit(load.infer_ms_by_batch)
        demand_fps = self._demand_fps(load, cost)
        wanted = self._setting_for(demand_fps, cost)
        if self._is_more(wanted):
            if len(load.infer_ms_by_batch) == 1 and load.utilization < _COMFORTABLE:
                return None  # larger batches would only be tried, and nobody needs them
            wider = BatchSetting(max(wanted.target, self._setting.target), wanted.window_ms)
            return wider if dwelt_ns >= _DWELL_UP_NS else None
        # A smaller target must do for somewhat more load, too.
        spare = self._setting_for(demand_fps * _DOWN_MARGIN, cost)
        narrower = BatchSetting(max(wanted.target, spare.target), wanted.window_ms)
        has_lasted = dwelt_ns >= _DWELL_DOWN_NS
        is_less = self._is_less(narrower) and not self._is_more(narrower)
        return narrower if is_less and has_lasted else None

    def _demand_fps(self, load: Load, cost: Cost) -> float:
        if load.utilization < _FULL:
            return load.arrival_fps
        return max(load.arrival_fps, cost.throughput_fps(self._setting.target))

    def _setting_for(self, fps: float, cost: Cost) -> BatchSetting:
        largest = self._bounds.target
        enough_fps = min(_HEADROOM * fps, _KNEE * cost.throughput_fps(largest))
        target = cost.smallest_batch(enough_fps, largest)
        comfortable = cost.smallest_batch(fps / _COMFORTABLE, target)
        window_ms = (comfortable - 1) * MS_PER_S / fps
        return BatchSetting(target, min(round(window_ms, 1), self._bounds.window_ms))

    def _is_more(self, wanted: BatchSetting) -> bool:
        """Tells whether `wanted` batches noticeably more than now."""
        return wanted.target > self._setting.target or (
            wanted.window_ms > self._window_ms_after_step(1)
        )

    def _is_less(self, wanted: BatchSetting) -> bool:
        return wanted.target < self._setting.target or (
            wanted.window_ms < self._window_ms_after_step(-1)
        )

    def _window_ms_after_step(self, sign: int) -> float:
        window_ms = self._setting.window_ms
        return window_ms + sign * max(_WINDOW_STEP * window_ms, _WINDOW_STEP_MS)
