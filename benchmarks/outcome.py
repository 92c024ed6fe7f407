"""What a simulated run amounts to, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Sequence

from benchmarks.simulation import Dispatch, Simulation
from benchmarks.timing import percentile
from edge.clock import NS_PER_MS, NS_PER_S
from edge.records import Lane

DEADLINE_MS = 150.0
"""A result later than this after its frame's arrival is a missed deadline."""


@dataclass(frozen=True)
class Outcome:
    """A run's figures between its warm-up and its end; waits are arrival to dispatch."""

    policy: str
    throughput_fps: float
    offered_fps: float
    fill: float
    batch_mean: float
    p50_wait_ms: float
    p99_wait_ms: float
    p50_latency_ms: float
    p99_latency_ms: float
    deadline_missed: int
    drops: Dict[str, int]
    jain: float
    starvation_max_s: float
    priority_p50_ms: Optional[float]
    priority_p99_ms: Optional[float]

    def as_json(self) -> Dict[str, Any]:
        """For programs; rounded, as a simulation has no millionths."""
        return {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }


def jain(shares: Sequence[float]) -> float:
    """Jain's fairness index: 1 where all have the same share, 1/n where one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def measure(name: str, simulation: Simulation, from_ns: int, until_ns: int) -> Outcome:
    """Sums up what was dispatched between the two times."""
    prompt = {camera.name for camera in simulation.cameras if camera.is_priority}
    counted = [d for d in simulation.dispatches if from_ns <= d.closed_ns < until_ns]
    shared = [d for d in counted if d.camera not in prompt]
    waits_ms = [(d.closed_ns - d.arrived_ns) / NS_PER_MS for d in shared]
    latencies_ms = [(d.done_ns - d.arrived_ns) / NS_PER_MS for d in shared]
    priority_ms = [(d.done_ns - d.arrived_ns) / NS_PER_MS for d in counted if d.camera in prompt]
    sizes = [
        size
        for closed_ns, lane, size in simulation.batch_sizes
        if lane is Lane.BATCH and from_ns <= closed_ns < until_ns
    ]
    seconds = (until_ns - from_ns) / NS_PER_S
    offered = _offered(simulation, from_ns, until_ns)
    return Outcome(
        policy=name,
        throughput_fps=len(counted) / seconds,
        offered_fps=sum(offered.values()) / seconds,
        fill=sum(sizes) / (len(sizes) * simulation.setup.config.target),
        batch_mean=sum(sizes) / len(sizes),
        p50_wait_ms=percentile(waits_ms, 50),
        p99_wait_ms=percentile(waits_ms, 99),
        p50_latency_ms=percentile(latencies_ms, 50),
        p99_latency_ms=percentile(latencies_ms, 99),
        deadline_missed=sum(ms > DEADLINE_MS for ms in latencies_ms),
        drops={cause.value: count for cause, count in simulation.drops.items()},
        jain=_fairness(shared, {k: n for k, n in offered.items() if k not in prompt}),
        starvation_max_s=_longest_gap_s(shared, from_ns, until_ns),
        priority_p50_ms=percentile(priority_ms, 50) if priority_ms else None,
        priority_p99_ms=percentile(priority_ms, 99) if priority_ms else None,
    )


def _offered(simulation: Simulation, from_ns: int, until_ns: int) -> Dict[str, int]:
    return {
        camera.name: sum(from_ns <= at_ns < until_ns for at_ns in camera.arrivals_ns)
        for camera in simulation.cameras
    }


def _fairness(shared: Sequence[Dispatch], offered: Dict[str, int]) -> float:
    inferred = Counter(dispatch.camera for dispatch in shared)
    return jain([inferred[name] / count for name, count in offered.items()])


def _longest_gap_s(shared: Sequence[Dispatch], from_ns: int, until_ns: int) -> float:
    times: Dict[str, List[int]] = {}
    for dispatch in shared:
        times.setdefault(dispatch.camera, [from_ns]).append(dispatch.closed_ns)
    gaps_ns = [
        later - earlier
        for seen in times.values()
        for earlier, later in zip(seen, [*seen[1:], until_ns])
    ]
    return max(gaps_ns) / NS_PER_S
