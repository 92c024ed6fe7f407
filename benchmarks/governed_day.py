"""A day of cameras on a module in a hot cabinet, under the real governor or without one."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Sequence

from benchmarks.simulation import EngineCost
from benchmarks.thermal_model import USUAL, Cooling, Module
from edge.clock import MS_PER_S, NS_PER_S
from edge.config.governor import GovernorConfig
from edge.health.governor import Governor, Targets, Vitals
from edge.health.ladder import GovernedCamera, Load
from edge.records import GovernorChange, Restraints

DAY_S = 86_400
_HOUR_S = 3600
_TICK_S = 1.0
_LARGEST_BATCH = 8
_DRAW_MS = 1.5
_FULL = 0.97

PRIORITY = "gate"


@dataclass(frozen=True)
class Site:
    """What a day brings: the air in the cabinet, and what a camera sends, by the second."""

    air_c: Callable[[float], float]
    camera_fps: Callable[[float], float]
    cameras: int = 8
    cooling: Cooling = USUAL
    start_s: int = 0
    length_s: int = DAY_S
    seed: int = 1


def summer_air_c(second: float) -> float:
    """22 °C before sunrise, 46 at three in the afternoon, and sun on the door from one to four."""
    hour = second / _HOUR_S
    swing = 34.0 + 12.0 * math.cos((hour - 15.0) / 24.0 * 2 * math.pi)
    sun = 4.0 / (1 + math.exp(-(hour - 13.2) * 12)) / (1 + math.exp((hour - 16.0) * 12))
    return swing + sun


def working_day_fps(second: float) -> float:
    """30 frames a second from six to ten, 12 in the dark, and a quarter hour's break every two."""
    hour = second / _HOUR_S
    if not 6 <= hour < 22:
        return 12.0
    return 15.0 if hour % 2 < 0.25 else 30.0


@dataclass(frozen=True)
class Engine:
    """Frames a second that are inferred, the busy share of the GPU, and a late result's latency."""

    inferred_fps: float
    busy: float
    latency_ms: float


def serve(arrivals_fps: float, window_ms: float, clock: float) -> Engine:
    """What the batcher and the engine make of it, as a flow.

    A batch holds what comes within the window, or, if that is more, what comes while its
    predecessor runs. A frame waits for the window, or for the running batch.
    """
    cost = EngineCost()
    if arrivals_fps <= 0:
        return Engine(0.0, 0.0, 0.0)
    by_window = 1 + arrivals_fps * window_ms / MS_PER_S
    for size in range(1, _LARGEST_BATCH + 1):
        infer_ms = cost.infer_ms(size) / clock
        busy = arrivals_fps / size * infer_ms / MS_PER_S
        if busy <= _FULL and size >= min(by_window, _LARGEST_BATCH):
            waited_ms = max(window_ms, busy * infer_ms)
            return Engine(arrivals_fps, busy, _DRAW_MS + waited_ms + infer_ms)
    infer_ms = cost.infer_ms(_LARGEST_BATCH) / clock
    return Engine(_LARGEST_BATCH / infer_ms * MS_PER_S, 1.0, _DRAW_MS + 2 * infer_ms)


@dataclass
class Day:
    """What became of it."""

    throttled_s: float = 0.0
    hottest_c: float = 0.0
    inferred: float = 0.0
    priority_frames: float = 0.0
    late_s: float = 0.0
    latencies_ms: List[float] = field(default_factory=list)
    changes: List[GovernorChange] = field(default_factory=list)
    changed_s: List[float] = field(default_factory=list)
    exhausted_s: float = 0.0
    deepest: int = 0
    depth_at_end: int = 0

    def latency_ms(self, share: float) -> float:
        """What so much of the time a result did not take longer than."""
        return sorted(self.latencies_ms)[int(share * (len(self.latencies_ms) - 1))]

    def changes_after(self, second: float) -> int:
        """How many there were from then on."""
        return sum(at_s >= second for at_s in self.changed_s)

    def turns_after(self, second: float) -> int:
        """How often from then on it gave back what it had shed, or the other way round."""
        pairs = zip(self.changes, self.changes[1:], self.changed_s[1:])
        return sum(
            before.is_undone != after.is_undone and at_s >= second for before, after, at_s in pairs
        )

    def relapses(self, within_s: float = 1800.0) -> int:
        """How often something was given back only to be taken again soon."""
        pairs = zip(self.changes, self.changes[1:], self.changed_s, self.changed_s[1:])
        return sum(
            before.is_undone and not after.is_undone and then_s - at_s < within_s
            for before, after, at_s, then_s in pairs
        )


class Play:
    """One day, second by second; without targets nothing is governed."""

    def __init__(self, site: Site, targets: Optional[Targets], window_ms: float = 10.0) -> None:
        self._site = site
        self._targets = targets or Targets()
        self._window_ms = window_ms
        self._config = GovernorConfig(enabled=targets is not None)
        self._governor = Governor(self._config, self._targets)
        self._module = Module(site.air_c(site.start_s), site.cooling)
        self._noise = random.Random(site.seed)
        self._names = [PRIORITY, *(f"camera{n}" for n in range(1, site.cameras))]
        self.day = Day()

    def run(self) -> Day:
        """Plays it to its end."""
        for tick in range(int(self._site.length_s / _TICK_S)):
            self._tick(self._site.start_s + tick * _TICK_S)
        self.day.depth_at_end = len(self._governor.status.steps)
        return self.day

    def _tick(self, second: float) -> None:
        restraints = self._governor.restraints
        sent_fps = self._site.camera_fps(second)
        fps = _passed_fps(self._names, sent_fps, restraints)
        window_ms = self._window_ms if restraints.window_ms is None else restraints.window_ms
        engine = serve(sum(fps.values()), window_ms, self._module.clock)
        decoded_fps = sent_fps * (len(self._names) - len(restraints.paused))
        power_w = self._module.power_w(decoded_fps, engine.busy)
        self._module.step(power_w, self._site.air_c(second), _TICK_S)
        self._note(engine, fps[PRIORITY])
        self._govern(second, sent_fps, engine.latency_ms)

    def _govern(self, second: float, sent_fps: float, latency_ms: float) -> None:
        # Sensors of a Jetson read in steps of half a degree.
        felt_c = round((self._module.die_c + self._noise.gauss(0, 0.3)) * 2) / 2
        load = Load(_cameras(self._names, sent_fps), self._window_ms)
        vitals = Vitals(felt_c, latency_ms * self._noise.uniform(0.97, 1.03))
        if self._governor.decide(int(second * NS_PER_S), vitals, load):
            change = self._governor.status.change
            if change is not None:
                self.day.changes.append(change)
                self.day.changed_s.append(second)
        self.day.exhausted_s += _TICK_S * self._governor.status.is_exhausted
        self.day.deepest = max(self.day.deepest, len(self._governor.status.steps))

    def _note(self, engine: Engine, priority_fps: float) -> None:
        day, target_ms = self.day, self._targets.latency_ms
        day.throttled_s += _TICK_S * self._module.is_throttled
        day.hottest_c = max(day.hottest_c, self._module.die_c)
        day.inferred += engine.inferred_fps * _TICK_S
        day.priority_frames += priority_fps * _TICK_S
        day.latencies_ms.append(engine.latency_ms)
        day.late_s += _TICK_S * (target_ms is not None and engine.latency_ms > target_ms)


def _passed_fps(names: Sequence[str], sent_fps: float, restraints: Restraints) -> Dict[str, float]:
    limits = {name: restraints.fps.get(name, sent_fps) for name in names}
    return {
        name: 0.0 if name in restraints.paused else min(sent_fps, limit)
        for name, limit in limits.items()
    }


def _cameras(names: Sequence[str], fps: float) -> List[GovernedCamera]:
    # The last quarter of them matters least.
    unimportant = names[-len(names) // 4 :]
    return [
        GovernedCamera(name, fps, 1 if name in unimportant else 5, priority=name == PRIORITY)
        for name in names
    ]
