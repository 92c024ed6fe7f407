"""That the simulated days run and say what they promise, and that their physics are physics."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from benchmarks.governed_day import Play, Site, serve, summer_air_c, working_day_fps
from benchmarks.thermal_model import (
    FULL_W,
    RESISTANCE_K_PER_W,
    THROTTLE_C,
    USUAL,
    Cooling,
    Module,
)
from edge.health.governor import Targets
from tests.benchmarks.commands import run_quickly

BARS = {
    "throttled_s_governed": "<= 0",
    "hottest_c_governed": "<= 90",
    "priority_over_fixed": ">= 1",
    "oscillation_steady": "<= 0",
    "relapses_steady": "<= 0",
    "overload_late_s_governed": "<= 600",
    "overload_relapses": "<= 0",
    "overload_left": "<= 0",
}


@pytest.fixture(scope="module")
def result() -> Dict[str, Any]:
    return run_quickly("governor")


# Nothing in it is measured: the same figures come out on every machine.
def test_what_the_governor_promises_it_keeps(result: Dict[str, Any]) -> None:
    assert {key: entry["bar"] for key, entry in result["bars"].items()} == BARS
    assert {key: entry["verdict"] for key, entry in result["bars"].items()} == dict.fromkeys(
        BARS, "PASS"
    )


def test_a_fixed_configuration_throttles_on_the_same_day(result: Dict[str, Any]) -> None:
    assert result["throttled_s_fixed"] > 1000
    assert result["latency_ms_p95_fixed"] > result["latency_ms_p95_governed"]
    assert 0.5 < result["inferred_over_fixed"] < 1


def test_each_step_of_the_day_is_told(result: Dict[str, Any]) -> None:
    lines = result["steps"]["governed"]
    assert len(lines) == result["changes"]
    assert "shed fps camera7 30 to 15: the hottest sensor is at 85.0 °C" in lines[0]
    assert not any("gate" in line for line in lines)


def settled(power_w: float, cooling: Cooling = USUAL) -> Module:
    module = Module(20.0, cooling)
    for _ in range(4 * 3600):
        module.step(power_w, 20.0, 1.0)
    return module


@pytest.mark.parametrize("resistance", [0.5, 1.0])
def test_in_the_end_it_gets_rid_of_all_its_heat(resistance: float) -> None:
    module = settled(10.0, Cooling(resistance))
    assert module.die_c == pytest.approx(20 + 10 * RESISTANCE_K_PER_W * resistance, abs=0.01)
    assert 20 < module.sink_c < module.die_c


def test_a_larger_sink_is_slower_and_ends_where_a_smaller_one_does() -> None:
    small, large = Module(20.0, Cooling(1.0, 0.5)), Module(20.0, Cooling(1.0, 2.0))
    for _ in range(120):
        small.step(10.0, 20.0, 1.0)
        large.step(10.0, 20.0, 1.0)
    assert small.sink_c > large.sink_c
    assert settled(10.0, Cooling(1.0, 2.0)).die_c == pytest.approx(
        settled(10.0, Cooling(1.0, 0.5)).die_c, abs=0.1
    )


def test_too_hot_it_slows_down_and_recovers() -> None:
    module = settled(30.0)
    assert module.die_c > THROTTLE_C
    assert module.clock == pytest.approx(1 / 3)
    assert module.power_w(240, 1.0) < FULL_W
    for _ in range(3600):
        module.step(1.0, 20.0, 1.0)
    assert not module.is_throttled


def test_full_load_draws_what_the_data_sheet_says() -> None:
    assert Module(20.0, USUAL).power_w(240, 1.0) == pytest.approx(FULL_W)


@pytest.mark.parametrize(
    ("arrivals_fps", "clock", "inferred_fps", "is_full"),
    [
        pytest.param(0, 1.0, 0.0, False, id="nothing"),
        pytest.param(240, 1.0, 240.0, False, id="as usual"),
        pytest.param(240, 0.5, 8 * 500 / 23.6, True, id="throttled"),
        pytest.param(500, 1.0, 8 * 1000 / 23.6, True, id="too many cameras"),
    ],
)
def test_what_the_engine_takes(
    arrivals_fps: float, clock: float, inferred_fps: float, is_full: bool
) -> None:
    engine = serve(arrivals_fps, 10.0, clock)
    assert engine.inferred_fps == pytest.approx(inferred_fps)
    assert (engine.busy == 1.0) == is_full


def test_larger_batches_keep_the_engine_less_busy() -> None:
    assert serve(150, 40.0, 1.0).busy < serve(150, 10.0, 1.0).busy


def test_a_cold_day_sheds_nothing() -> None:
    site = Site(lambda second: summer_air_c(second) - 25, working_day_fps, length_s=7200)
    assert Play(site, Targets(temp_c=85.0)).run().changes == []
