"""What is watched for alerts, from the numbers of the health message and the cameras' statuses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator, Mapping, Optional, Sequence, Tuple

from edge.config.alerts import AlertsConfig, MemoryAlert
from edge.health.alerts import Observation, Rule
from edge.records import AlertSeverity, CameraState, CameraStatus, PictureState

_TEMPERATURE = re.compile(r"^temp_(.+)_c$")

# Below the throttling point: the governor's target is lower, so that this one tells it has failed.
_MARGIN_C = 2.0
_THROTTLE_UNKNOWN_C = 97.0
_BAND_C = 5.0
_LATENCY_BAND = 0.8

_DOWN = (CameraState.OFFLINE, CameraState.STALLED)
_WORTHLESS = (PictureState.FROZEN, PictureState.COVERED)

# By the health message's key: what it means where it is 1.
_THROTTLING = {
    "throttled": "the machine slows itself down for the heat: cool it, or ask less of it",
    "over_current": "the machine slows itself down for the current it draws: check its supply",
}


@dataclass(frozen=True)
class Situation:
    """What alerts are made of.

    `numbers` are those of the health message. `latency_ms` is what 19 of 20 results took of late,
    `latency_target_ms` the governor's. Of what is None nothing is known, or wanted.
    """

    numbers: Mapping[str, float]
    cameras: Sequence[CameraStatus]
    throttle_c: Optional[float] = None
    latency_ms: Optional[float] = None
    latency_target_ms: Optional[float] = None
    outbox_fill: Optional[float] = None
    is_clock_synced: Optional[bool] = None
    is_governor_exhausted: bool = False


def observe(config: AlertsConfig, situation: Situation) -> Iterator[Observation]:
    """Everything that is watched, with what it is now."""
    yield from _temperature(config, situation)
    yield from _throttling(config, situation)
    yield from _space(config, situation.numbers)
    yield from _cameras(config, situation.cameras)
    yield from _latency(config, situation)
    yield from _outbox(config, situation.outbox_fill)
    yield from _clock(config, situation.is_clock_synced)
    reason = "the temperature or the latency is above its target, and nothing is left to shed"
    yield _flag("governor", 60.0, reason, situation.is_governor_exhausted)


def hottest(numbers: Mapping[str, float]) -> Optional[Tuple[str, float]]:
    """The hottest sensor's name and its degrees Celsius; None where there is none."""
    matches = (_TEMPERATURE.match(key) for key in numbers)
    found = [(numbers[match.string], match.group(1)) for match in matches if match is not None]
    if not found:
        return None
    celsius, name = max(found)
    return name, celsius


def _temperature(config: AlertsConfig, situation: Situation) -> Iterator[Observation]:
    alert = config.temperature
    if alert is None:
        return
    throttle_c = situation.throttle_c
    raise_c = alert.raise_c
    if raise_c is None:
        raise_c = (_THROTTLE_UNKNOWN_C if throttle_c is None else throttle_c) - _MARGIN_C
    clear_c = raise_c - _BAND_C if alert.clear_c is None else alert.clear_c
    rule = Rule("temperature", AlertSeverity.CRITICAL, raise_c, clear_c, alert.hold_s)
    sensor = hottest(situation.numbers)
    if sensor is None:
        yield Observation(rule, None, "")
        return
    name, celsius = sensor
    slows = "" if throttle_c is None else f"; the machine slows itself down at {throttle_c:.1f} °C"
    yield Observation(rule, celsius, f"{name} is at {celsius:.1f} °C{slows}")


def _throttling(config: AlertsConfig, situation: Situation) -> Iterator[Observation]:
    if config.throttling is not None:
        for key, reason in _THROTTLING.items():
            value = situation.numbers.get(key)
            yield _flag(key, config.throttling.hold_s, reason, None if value is None else value > 0)


def _space(config: AlertsConfig, numbers: Mapping[str, float]) -> Iterator[Observation]:
    total_mb, used_mb = numbers.get("ram_total_mb"), numbers.get("ram_used_mb")
    memory_mb = None if total_mb is None or used_mb is None else total_mb - used_mb
    if config.memory is not None:
        yield _shortage("memory", config.memory, memory_mb, "of memory are left")
    if config.disk is not None:
        left_mb = numbers.get("disk_free_mb")
        yield _shortage("disk", config.disk, left_mb, "are left on the disk of device.state_dir")


def _shortage(
    rule_id: str, alert: MemoryAlert, left_mb: Optional[float], words: str
) -> Observation:
    severity = AlertSeverity.CRITICAL if rule_id == "memory" else AlertSeverity.WARNING
    rule = Rule(rule_id, severity, alert.raise_below_mb, alert.clear_above_mb, alert.hold_s)
    return Observation(rule, left_mb, "" if left_mb is None else f"{left_mb:.0f} MiB {words}")


def _cameras(config: AlertsConfig, cameras: Sequence[CameraStatus]) -> Iterator[Observation]:
    if config.cameras is None:
        return
    for status in cameras:
        is_bad = status.state in _DOWN or status.picture in _WORTHLESS
        # A camera that starts has neither failed nor recovered.
        value = None if status.state is CameraState.STARTING else is_bad
        what = status.picture if status.picture in _WORTHLESS else status.state
        words = f"camera {status.camera} is {what.value if what else ''}: {status.reason}"
        yield _flag(f"camera_{status.camera}", config.cameras.hold_s, words, value)


def _latency(config: AlertsConfig, situation: Situation) -> Iterator[Observation]:
    alert = config.latency
    if alert is None:
        return
    raise_ms = situation.latency_target_ms if alert.raise_ms is None else alert.raise_ms
    if raise_ms is None:
        return
    clear_ms = _LATENCY_BAND * raise_ms if alert.clear_ms is None else alert.clear_ms
    rule = Rule("latency", AlertSeverity.WARNING, raise_ms, clear_ms, alert.hold_s)
    latency_ms = situation.latency_ms
    words = "" if latency_ms is None else f"1 of 20 results comes later than {latency_ms:.0f} ms"
    yield Observation(rule, latency_ms, words)


def _outbox(config: AlertsConfig, fill: Optional[float]) -> Iterator[Observation]:
    alert = config.outbox
    if alert is None:
        return
    rule = Rule("outbox", AlertSeverity.WARNING, alert.raise_pct, alert.clear_pct, alert.hold_s)
    if fill is None:
        yield Observation(rule, None, "")
        return
    words = "the broker does not take what it keeps, and when it is full the oldest is dropped"
    yield Observation(rule, 100 * fill, f"the outbox is {100 * fill:.0f} % full: {words}")


def _clock(config: AlertsConfig, is_synced: Optional[bool]) -> Iterator[Observation]:
    if config.clock is not None:
        reason = "no time daemon has set the clock: time stamps cannot be believed"
        is_bad = None if is_synced is None else not is_synced
        yield _flag("clock", config.clock.hold_s, reason, is_bad)


def _flag(rule_id: str, hold_s: float, reason: str, is_bad: Optional[bool]) -> Observation:
    rule = Rule(rule_id, AlertSeverity.WARNING, 1.0, 0.0, hold_s)
    return Observation(rule, None if is_bad is None else float(is_bad), reason)
