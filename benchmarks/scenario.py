"""The cameras of the simulation: twenty that differ in size, rate, jitter and manners."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Iterator, List, Sequence, Tuple

from benchmarks.simulation import EngineCost, SimulatedCamera
from edge.clock import NS_PER_S

SIZES_WH = ((1280, 720), (1920, 1080), (2560, 1440), (3840, 2160))
RATES_FPS = (5.0, 8.0, 10.0, 12.5, 15.0, 20.0, 25.0, 30.0)
SLOWEST_FPS, FASTEST_FPS = min(RATES_FPS), max(RATES_FPS)
PRIORITY_FPS = 15.0
STEP_JITTER = 0.1

# Network cameras hold frames back around their I-frames, then send them at once.
PAUSE_S = 0.5
PAUSE_EVERY_S = 4.0
BURST_GAP_S = 0.001


@dataclass(frozen=True)
class Manners:
    """How a camera departs from an even rate."""

    jitter: float  # standard deviation, as a share of the period
    has_pauses: bool


def cameras(shared_fps: Sequence[float], seconds: float, seed: int) -> List[SimulatedCamera]:
    """One priority camera and one shared camera for each rate."""
    made = [_camera("gate", PRIORITY_FPS, seconds, (seed, 0), is_priority=True)]
    made += [
        _camera(f"cam{number:02d}", fps, seconds, (seed, number))
        for number, fps in enumerate(shared_fps, start=1)
    ]
    return made


def rates_at_load(load: float, target: int, count: int, cost: EngineCost) -> List[float]:
    """Rates between 5 and 30 that differ and make so much work for the engine, if they can."""
    mix = [RATES_FPS[number % len(RATES_FPS)] for number in range(count)]
    low, high = 0.1, 10.0
    for _ in range(40):
        factor = (low + high) / 2
        rates = [min(max(fps * factor, SLOWEST_FPS), FASTEST_FPS) for fps in mix]
        if cost.load(sum(rates), PRIORITY_FPS, target) < load:
            low = factor
        else:
            high = factor
    return rates


def stepped(
    count: int, fps: Tuple[float, float], step_s: float, seconds: float, seed: int
) -> List[SimulatedCamera]:
    """Cameras that all go from the first rate to the second at once."""
    made = []
    for number in range(count):
        rng = random.Random(f"step {seed} {number}")
        times_s = list(_even(fps[0], 0.0, step_s, STEP_JITTER, rng))
        times_s += _even(fps[1], step_s, seconds, STEP_JITTER, rng)
        made.append(_of_times(f"cam{number:02d}", SIZES_WH[number % 4], times_s, False))
    return made


def _camera(
    name: str, fps: float, seconds: float, seed: Tuple[int, int], is_priority: bool = False
) -> SimulatedCamera:
    number = seed[1]
    rng = random.Random(f"{seed[0]} {number}")
    manners = Manners(jitter=(0.02, 0.1, 0.3)[number % 3], has_pauses=number % 4 == 1)
    times_s = list(_even(fps, 0.0, seconds, manners.jitter, rng))
    if manners.has_pauses:
        times_s = _held_back(times_s, rng.uniform(0, PAUSE_EVERY_S))
    return _of_times(name, SIZES_WH[number % 4], times_s, is_priority)


def _even(
    fps: float, start_s: float, end_s: float, jitter: float, rng: random.Random
) -> Iterator[float]:
    at_s = start_s + rng.uniform(0, 1 / fps)
    while at_s < end_s:
        yield max(at_s + rng.gauss(0, jitter / fps), start_s)
        at_s += 1 / fps


def _held_back(times_s: Sequence[float], first_pause_s: float) -> List[float]:
    """The times with what fell into a pause moved to its end, in a burst."""
    moved: List[float] = []
    in_burst = 0
    for at_s in sorted(times_s):
        into_s = (at_s - first_pause_s) % PAUSE_EVERY_S
        if into_s >= PAUSE_S:
            in_burst = 0
            moved.append(at_s)
            continue
        moved.append(at_s - into_s + PAUSE_S + in_burst * BURST_GAP_S)
        in_burst += 1
    return moved


def _of_times(
    name: str, size_wh: Tuple[int, int], times_s: Sequence[float], is_priority: bool
) -> SimulatedCamera:
    arrivals_ns = [int(at_s * NS_PER_S) for at_s in sorted(times_s)]
    return SimulatedCamera(name, size_wh, arrivals_ns, is_priority)
