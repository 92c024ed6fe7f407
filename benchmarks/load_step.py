"""The step of load: all cameras go from 5 to 30 frames a second, and live tuning must follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional

from benchmarks.outcome import Outcome, measure
from benchmarks.scenario import stepped
from benchmarks.simulation import EngineCost, Setup, Simulation
from edge.batching.tuner import Tuner
from edge.batching.tuning import LiveTuning
from edge.clock import NS_PER_S
from edge.config.schema import BatchingConfig

CAMERAS = 20
BEFORE_FPS, AFTER_FPS = 5.0, 30.0
GRACE_S = 10.0
"""So long after the step the tuner must have followed."""

TARGETS = (1, 2, 4, 8, 16, 32)
WINDOWS_MS = (0, 5, 10, 20, 50)
TUNED = "tuned"


@dataclass(frozen=True)
class Phases:
    """One policy before the step, and from `GRACE_S` after it on."""

    before: Outcome
    after: Outcome


@dataclass(frozen=True)
class Timing:
    """Simulated seconds: the step, and the end; and whether only a few settings are played."""

    step_s: float
    end_s: float
    is_quick: bool = False


def play_step(cost: EngineCost, timing: Timing, seed: int) -> Dict[str, Phases]:
    """Every fixed setting, then the tuner with the largest of them as its bounds."""
    # From the largest: the quick choice must hold it, too.
    every = 3 if timing.is_quick else 1
    played = {
        f"fixed {target} x {window_ms} ms": _play(target, window_ms, cost, timing, seed)
        for target in TARGETS[::-every]
        for window_ms in WINDOWS_MS[::every]
    }
    most, longest_ms = max(TARGETS), max(WINDOWS_MS)
    played[TUNED] = _play(most, longest_ms, cost, timing, seed, name=TUNED)
    return played


def best_fixed(played: Dict[str, Phases]) -> Phases:
    """The fixed setting with the most throughput after the step; of equals the quicker one."""
    fixed = [phases for name, phases in played.items() if name != TUNED]
    most_fps = max(phases.after.throughput_fps for phases in fixed)
    # Half a percent is a few frames at the edges of the measurement.
    best = [phases for phases in fixed if phases.after.throughput_fps >= 0.995 * most_fps]
    return min(best, key=lambda phases: phases.after.p99_latency_ms)


def _play(
    target: int,
    window_ms: float,
    cost: EngineCost,
    timing: Timing,
    seed: int,
    name: Optional[str] = None,
) -> Phases:
    seen = stepped(CAMERAS, (BEFORE_FPS, AFTER_FPS), timing.step_s, timing.end_s, seed)
    config = BatchingConfig(target=target, max_wait_ms=window_ms, tune=name is not None)
    simulation = Simulation(Setup(config), seen, cost)
    end_ns = int(timing.end_s * NS_PER_S)
    if config.tune:
        tuning = LiveTuning(simulation.policy, Tuner(simulation.policy.setting))
        simulation.on_batch = tuning.batch_done
        simulation.run(end_ns, tuning.observe)
    else:
        simulation.run(end_ns)
    name = name or f"fixed {target} x {window_ms} ms"
    step_ns = int(timing.step_s * NS_PER_S)
    return Phases(
        measure(name, simulation, step_ns // 2, step_ns),
        measure(name, simulation, step_ns + int(GRACE_S * NS_PER_S), end_ns),
    )
