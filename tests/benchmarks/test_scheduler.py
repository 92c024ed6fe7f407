"""That the simulation runs and says what it promises, and that its figures are what they claim."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest

from benchmarks.outcome import jain, measure
from benchmarks.scenario import PRIORITY_FPS, cameras, rates_at_load
from benchmarks.simulation import EngineCost, Setup, SimulatedCamera, Simulation
from edge.clock import NS_PER_MS, NS_PER_S
from edge.config.schema import BatchingConfig
from edge.records import DropCause, Lane
from tests.benchmarks.commands import run_quickly

COST = EngineCost(base_ms=6.0, frame_ms=2.0, draw_ms=1.0)
KEYS = (
    "fill_auto_over_best_fixed",
    "p99_wait_ms",
    "p99_wait_bound_ms",
    "jain",
    "starvation_max_s",
    "priority_p50_ms",
    "priority_p99_ms",
    "tuned_over_best_fixed_after_step",
)


@pytest.fixture(scope="module")
def result() -> Dict[str, Any]:
    return run_quickly("scheduler")


def test_the_promised_keys_are_there(result: Dict[str, Any]) -> None:
    assert [key for key in KEYS if not isinstance(result.get(key), float)] == []
    for key in ("fill_auto_over_best_fixed", "p99_wait_ms", "tuned_over_best_fixed_after_step"):
        assert result["bars"][key]["verdict"] in ("PASS", "MISS")


def test_every_policy_is_played_at_every_load(result: Dict[str, Any]) -> None:
    assert list(result["runs"]) == ["below", "near", "above"]
    for outcomes in result["runs"].values():
        names = {outcome["policy"] for outcome in outcomes}
        assert {"auto 10 ms", "auto 50 ms", "batch-1 round robin", "wait for all"} <= names
        for outcome in outcomes:
            assert 0 < outcome["throughput_fps"] <= 1.2 * outcome["offered_fps"]
            assert 0 < outcome["fill"] <= 1
            assert 0 < outcome["jain"] <= 1
    assert {phases["after"]["policy"] for phases in result["step"]} >= {"tuned", "fixed 32 x 0 ms"}


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        pytest.param([0.5, 0.5, 0.5], 1.0, id="equal"),
        pytest.param([1.0, 0.0, 0.0, 0.0], 0.25, id="one has everything"),
        pytest.param([1.0, 0.5], 0.9, id="unequal"),
        pytest.param([0.0, 0.0], 0.0, id="nobody has anything"),
    ],
)
def test_jain(shares: List[float], expected: float) -> None:
    assert jain(shares) == pytest.approx(expected)


def arriving(name: str, *at_ms: float, is_priority: bool = False) -> SimulatedCamera:
    times_ns = [int(ms * NS_PER_MS) for ms in at_ms]
    return SimulatedCamera(name, (1280, 720), times_ns, is_priority)


def simulated(*seen: SimulatedCamera, target: int = 4, max_wait_ms: float = 10) -> Simulation:
    config = BatchingConfig(target=target, max_wait_ms=max_wait_ms)
    simulation = Simulation(Setup(config), seen, COST)
    simulation.run(NS_PER_S)
    return simulation


def road_ms(simulation: Simulation) -> Dict[str, List[float]]:
    """When each camera's frames were sent to the engine and done."""
    road: Dict[str, List[float]] = {}
    for d in simulation.dispatches:
        road.setdefault(d.camera, []).extend([d.closed_ns / NS_PER_MS, d.done_ns / NS_PER_MS])
    return road


def test_a_lone_camera_is_drawn_and_inferred_at_once() -> None:
    # 1 ms to draw it, 6 + 2 to infer it.
    assert road_ms(simulated(arriving("a", 100))) == {"a": [100, 109]}


def test_two_cameras_share_a_batch_once_both_are_known() -> None:
    simulation = simulated(arriving("a", 100, 200), arriving("b", 105, 205))
    # At first nobody knows of b: a leaves alone, and b waits 10 ms for a.
    assert road_ms(simulation) == {"a": [100, 109, 205, 216], "b": [115, 123, 205, 216]}


def test_priority_overtakes_and_what_runs_is_waited_for() -> None:
    gate = arriving("gate", 102, is_priority=True)
    simulation = simulated(arriving("a", 100), gate)
    assert road_ms(simulation) == {"a": [100, 109], "gate": [102, 117]}
    lanes = {d.camera: d.lane for d in simulation.dispatches}
    assert lanes == {"a": Lane.BATCH, "gate": Lane.PRIORITY}


def test_a_busy_engine_gets_the_newest_frame_and_the_other_is_counted() -> None:
    simulation = simulated(arriving("a", 100, 103, 106))
    assert road_ms(simulation) == {"a": [100, 109, 109, 117]}
    assert simulation.drops == {DropCause.SUPERSEDED: 1}


def test_every_frame_is_inferred_or_counted() -> None:
    seen = cameras(rates_at_load(1.5, 8, 19, COST), seconds=3, seed=7)
    simulation = Simulation(Setup(BatchingConfig(target=8)), seen, COST)
    simulation.run(4 * NS_PER_S)
    offered = sum(len(camera.arrivals_ns) for camera in seen)
    assert offered == len(simulation.dispatches) + sum(simulation.drops.values())
    outcome = measure("ours", simulation, 0, 4 * NS_PER_S)
    assert outcome.throughput_fps == pytest.approx(len(simulation.dispatches) / 4)
    assert outcome.fill > 0.9


@pytest.mark.parametrize("load", [0.6, 0.95, 1.5])
def test_a_scenario_is_as_heavy_as_asked_and_the_same_every_time(load: float) -> None:
    rates = rates_at_load(load, 8, 19, EngineCost())
    assert EngineCost().load(sum(rates), PRIORITY_FPS, 8) == pytest.approx(load, abs=0.01)
    assert min(rates) >= 5
    assert max(rates) <= 30
    assert cameras(rates, 5, seed=1) == cameras(rates, 5, seed=1)
    assert cameras(rates, 5, seed=1) != cameras(rates, 5, seed=2)


def test_pauses_end_in_bursts() -> None:
    paused = cameras([30.0], 20, seed=1)[1]
    gaps_ms = [
        (later - earlier) / NS_PER_MS
        for earlier, later in zip(paused.arrivals_ns, paused.arrivals_ns[1:])
    ]
    assert sum(gap > 400 for gap in gaps_ms) >= 4
    assert sum(gap <= 1.1 for gap in gaps_ms) >= 40
