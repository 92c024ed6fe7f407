from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple

import pytest

from edge.config.alerts import AlertsConfig, LatencyAlert, TemperatureAlert
from edge.health.alert_rules import Situation, hottest, observe
from edge.health.alerts import Observation
from edge.records import CameraState, CameraStatus, PictureState

WELL = Situation(
    numbers={
        "temp_cpu_c": 61.0,
        "temp_gpu_c": 60.0,
        "throttled": 0,
        "over_current": 0,
        "ram_total_mb": 7000.0,
        "ram_used_mb": 3000.0,
        "disk_free_mb": 9000.0,
    },
    cameras=[CameraStatus("gate", CameraState.ONLINE, 0, "", PictureState.OK)],
    throttle_c=90.0,
    latency_ms=40.0,
    latency_target_ms=100.0,
    outbox_fill=0.1,
    is_clock_synced=True,
)


def watched(situation: Situation, **config: Any) -> Dict[str, Observation]:
    found = list(observe(AlertsConfig(**config), situation))
    by_id = {observation.rule.id: observation for observation in found}
    assert len(by_id) == len(found)
    return by_id


def bad(situation: Situation, **config: Any) -> List[str]:
    return sorted(
        rule_id
        for rule_id, seen in watched(situation, **config).items()
        if seen.value is not None and seen.rule.is_bad(seen.value)
    )


def with_numbers(**numbers: float) -> Situation:
    return replace(WELL, numbers={**WELL.numbers, **numbers})


def with_camera(state: CameraState, picture: Optional[PictureState] = None) -> Situation:
    return replace(WELL, cameras=[CameraStatus("gate", state, 0, "because", picture)])


def test_all_is_watched_and_well() -> None:
    ids = {"temperature", "throttled", "over_current", "memory", "disk", "camera_gate", "latency"}
    assert set(watched(WELL)) == ids | {"outbox", "clock", "governor"}
    assert bad(WELL) == []
    good = [
        seen.rule.is_good(seen.value) for seen in watched(WELL).values() if seen.value is not None
    ]
    assert all(good)


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        pytest.param(with_numbers(temp_gpu_c=87.9), [], id="almost too hot"),
        pytest.param(with_numbers(temp_gpu_c=88.0), ["temperature"], id="2 below throttling"),
        pytest.param(with_numbers(throttled=1), ["throttled"], id="throttled"),
        pytest.param(with_numbers(over_current=1), ["over_current"], id="over current"),
        pytest.param(with_numbers(ram_used_mb=6699.0), [], id="enough memory"),
        pytest.param(with_numbers(ram_used_mb=6700.0), ["memory"], id="little memory"),
        pytest.param(with_numbers(disk_free_mb=501.0), [], id="enough disk"),
        pytest.param(with_numbers(disk_free_mb=500.0), ["disk"], id="little disk"),
        pytest.param(with_camera(CameraState.OFFLINE), ["camera_gate"], id="offline"),
        pytest.param(with_camera(CameraState.STALLED), ["camera_gate"], id="stalled"),
        pytest.param(with_camera(CameraState.DISABLED), [], id="disabled"),
        pytest.param(with_camera(CameraState.ENDED), [], id="ended"),
        pytest.param(with_camera(CameraState.ONLINE, PictureState.BLACK), [], id="night"),
        pytest.param(
            with_camera(CameraState.ONLINE, PictureState.FROZEN), ["camera_gate"], id="frozen"
        ),
        pytest.param(
            with_camera(CameraState.ONLINE, PictureState.COVERED), ["camera_gate"], id="covered"
        ),
        pytest.param(replace(WELL, latency_ms=99.0), [], id="quick enough"),
        pytest.param(replace(WELL, latency_ms=100.0), ["latency"], id="late"),
        pytest.param(replace(WELL, outbox_fill=0.79), [], id="outbox fills"),
        pytest.param(replace(WELL, outbox_fill=0.8), ["outbox"], id="outbox nearly full"),
        pytest.param(replace(WELL, is_clock_synced=False), ["clock"], id="clock"),
        pytest.param(replace(WELL, is_governor_exhausted=True), ["governor"], id="nothing left"),
    ],
)
def test_what_is_bad(situation: Situation, expected: List[str]) -> None:
    assert bad(situation) == expected


def test_what_is_unknown_is_neither() -> None:
    unknown = Situation(numbers={}, cameras=[], latency_target_ms=100.0)
    values = {rule_id: seen.value for rule_id, seen in watched(unknown).items()}
    assert values.pop("governor") == 0.0
    assert set(values.values()) == {None}


def test_a_camera_that_starts_is_neither() -> None:
    assert watched(with_camera(CameraState.STARTING))["camera_gate"].value is None


@pytest.mark.parametrize("name", ["temperature", "memory", "disk", "latency", "outbox", "clock"])
def test_null_switches_an_alert_off(name: str) -> None:
    assert name not in watched(WELL, **{name: None})


def test_null_switches_several_off() -> None:
    left = watched(WELL, throttling=None, cameras=None)
    assert {"throttled", "over_current", "camera_gate"}.isdisjoint(left)


@pytest.mark.parametrize(
    ("alert", "throttle_c", "expected"),
    [
        pytest.param(TemperatureAlert(), 99.0, (97.0, 92.0), id="by the kernel's trip point"),
        pytest.param(TemperatureAlert(), None, (95.0, 90.0), id="unknown"),
        pytest.param(TemperatureAlert(raise_c=80.0), 99.0, (80.0, 75.0), id="given"),
        pytest.param(TemperatureAlert(raise_c=80.0, clear_c=60.0), 99.0, (80.0, 60.0), id="both"),
    ],
)
def test_temperatures(
    alert: TemperatureAlert, throttle_c: Optional[float], expected: Tuple[float, float]
) -> None:
    rule = watched(replace(WELL, throttle_c=throttle_c), temperature=alert)["temperature"].rule
    assert (rule.raise_at, rule.clear_at) == expected


@pytest.mark.parametrize(
    ("alert", "target_ms", "expected"),
    [
        pytest.param(LatencyAlert(), 100.0, (100.0, 80.0), id="the governor's target"),
        pytest.param(LatencyAlert(raise_ms=50.0), 100.0, (50.0, 40.0), id="its own"),
        pytest.param(LatencyAlert(raise_ms=50.0, clear_ms=20.0), None, (50.0, 20.0), id="both"),
        pytest.param(LatencyAlert(), None, None, id="nobody wants any"),
    ],
)
def test_latencies(
    alert: LatencyAlert, target_ms: Optional[float], expected: Optional[Tuple[float, float]]
) -> None:
    found = watched(replace(WELL, latency_target_ms=target_ms), latency=alert).get("latency")
    assert (None if found is None else (found.rule.raise_at, found.rule.clear_at)) == expected


@pytest.mark.parametrize(
    ("situation", "rule_id", "words"),
    [
        pytest.param(
            with_numbers(temp_aux_c=91.25),
            "temperature",
            "aux is at 91.2 °C; the machine slows itself down at 90.0 °C",
            id="temperature",
        ),
        pytest.param(
            with_camera(CameraState.OFFLINE),
            "camera_gate",
            "camera gate is offline: because",
            id="1",
        ),
        pytest.param(
            with_camera(CameraState.ONLINE, PictureState.FROZEN),
            "camera_gate",
            "camera gate is frozen: because",
            id="picture",
        ),
        pytest.param(
            replace(WELL, outbox_fill=0.9), "outbox", "the outbox is 90 % full", id="outbox"
        ),
        pytest.param(
            with_numbers(disk_free_mb=12.0), "disk", "12 MiB are left on the disk", id="disk"
        ),
        pytest.param(
            replace(WELL, latency_ms=250.0),
            "latency",
            "1 of 20 results comes later than 250 ms",
            id="l",
        ),
    ],
)
def test_words(situation: Situation, rule_id: str, words: str) -> None:
    assert watched(situation)[rule_id].reason.startswith(words)


def test_the_hottest_sensor() -> None:
    assert hottest({"temp_cpu_c": 50.0, "temp_gpu_c": 51.5, "temp_x": 99.0}) == ("gpu", 51.5)
    assert hottest({"cpu_load_pct": 99.0}) is None
