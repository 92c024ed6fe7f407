"""Looks after the appliance while it serves: raises alerts, and lets the governor shed load.

Part of the composition root, with `app.py`. Belongs to the main loop.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from edge.clock import NS_PER_S, Clock, is_clock_synced
from edge.config.schema import CameraConfig, Config
from edge.errors import EdgeError
from edge.health.alert_rules import Situation, hottest, observe
from edge.health.alerts import AlertBook
from edge.health.governor import Governor, Targets, Vitals
from edge.health.ladder import GovernedCamera, Load
from edge.health.machine import read_machine
from edge.health.trip_points import read_throttle_c
from edge.line import Line
from edge.publish.publisher import Publisher
from edge.records import (
    UNRESTRAINED,
    AlertSeverity,
    CameraCounters,
    CameraState,
    CameraStatus,
    GovernorChange,
    GovernorStatus,
    PipelineCounters,
    StepKind,
)

log = logging.getLogger(__name__)

_INTERVAL_NS = NS_PER_S

# Below where the kernel begins to throttle. In the worst case of benchmarks/governor.py, all
# cameras at once in air of 60 °C, the silicon gets 1.9 °C above the target before the steps show.
_HEADROOM_C = 5.0

_UNITS = {StepKind.FPS: "frames/s", StepKind.WINDOW: "ms window", StepKind.PAUSE: "frames/s"}


@dataclass(frozen=True)
class Outlook:
    """What is looked at: the machine's newest numbers, the configuration in use, and the files of
    the machine under `root`.
    """

    machine: Callable[[], Mapping[str, float]]
    config: Callable[[], Config]
    root: Path = Path("/")


class Upkeep:
    """Once a second; `numbers` are for the health message."""

    def __init__(self, outlook: Outlook, publisher: Publisher, clock: Clock) -> None:
        self._outlook = outlook
        self._publisher = publisher
        self._clock = clock
        self._throttle_c = read_throttle_c(outlook.root)
        self._is_jetson = read_machine(outlook.root).module is not None
        self._alerts = AlertBook()
        config = outlook.config().governor
        self._governor = Governor(config, self._targets())
        self._told: Optional[GovernorStatus] = None
        self._applied = UNRESTRAINED
        self._complaint = ""
        self._next_ns = 0

    def look(self, line: Line) -> None:
        """Looks, if it is time, and acts on `line`; called a few times a second."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + _INTERVAL_NS
        counters, machine = line.counters(), self._outlook.machine()
        self._govern(now_ns, counters, machine)
        self._apply(line)
        self._alert(now_ns, line.statuses(), counters.latency_ms_p95, machine)

    def numbers(self) -> Dict[str, float]:
        """What stands, as flat numbers."""
        return {
            "alerts": len(self._alerts.standing),
            "governor_steps": len(self._governor.status.steps),
            "governor_changes_total": self._governor.changes,
        }

    # --- the governor -------------------------------------------------------------------------

    def _govern(
        self, now_ns: int, counters: PipelineCounters, machine: Mapping[str, float]
    ) -> None:
        config = self._outlook.config()
        self._governor.configure(config.governor, self._targets())
        sensor = hottest(machine)
        temp_c = None if sensor is None else sensor[1]
        cameras = [governed(camera, counters.cameras) for camera in config.cameras]
        vitals = Vitals(temp_c, counters.latency_ms_p95)
        if self._governor.decide(now_ns, vitals, Load(cameras, config.batching.max_wait_ms)):
            _log_change(self._governor.status.change)
        status = self._governor.status
        if status != self._told:
            self._told = status
            self._publisher.publish_governor(status)

    def _apply(self, line: Line) -> None:
        restraints = self._governor.restraints
        if restraints == self._applied:
            return
        try:
            line.restrain(restraints)
        except EdgeError as error:  # tried again with the next look
            if str(error) != self._complaint:
                log.error("the governor's step cannot be carried out: %s", error)
            self._complaint = str(error)
            return
        self._applied, self._complaint = restraints, ""

    def _targets(self) -> Targets:
        config = self._outlook.config().governor
        temp_c = config.temp_c
        if temp_c is None and self._is_jetson and self._throttle_c is not None:
            temp_c = self._throttle_c - _HEADROOM_C
        return Targets(temp_c, config.latency_ms)

    # --- alerts -------------------------------------------------------------------------------

    def _alert(
        self,
        now_ns: int,
        cameras: Sequence[CameraStatus],
        latency_ms: Optional[float],
        machine: Mapping[str, float],
    ) -> None:
        config = self._outlook.config()
        situation = Situation(
            numbers=machine,
            cameras=cameras,
            throttle_c=self._throttle_c,
            latency_ms=latency_ms,
            latency_target_ms=config.governor.latency_ms,
            outbox_fill=self._publisher.counters().outbox_fill,
            is_clock_synced=is_clock_synced(),
            is_governor_exhausted=self._governor.status.is_exhausted,
        )
        unix_ms = self._clock.unix_ms()
        news = self._alerts.look(now_ns, unix_ms, observe(config.health.alerts, situation))
        for alert in news.raised:
            is_critical = alert.severity is AlertSeverity.CRITICAL
            level = logging.ERROR if is_critical else logging.WARNING
            log.log(level, "alert %s: %s", alert.id, alert.reason)
            self._publisher.raise_alert(alert)
        for alert_id in news.cleared:
            log.info("alert %s is over", alert_id)
            self._publisher.clear_alert(alert_id)


def governed(camera: CameraConfig, counters: Mapping[str, CameraCounters]) -> GovernedCamera:
    """A camera as the governor sees it: with the frames it delivers, and its cap lets through."""
    known = counters.get(camera.name)
    fps = 0.0
    if known is not None and known.status.state is CameraState.ONLINE:
        caps: List[float] = [] if camera.fps is None else [camera.fps]
        fps = min([known.fps_read, *caps])
    return GovernedCamera(
        camera.name, fps, camera.importance, camera.priority, camera.max_staleness_ms
    )


def _log_change(change: Optional[GovernorChange]) -> None:
    if change is None:
        return
    step = change.step
    first, then = (step.after, step.before) if change.is_undone else (step.before, step.after)
    log.log(
        logging.INFO if change.is_undone else logging.WARNING,
        "governor: %s from %g to %g %s: %s",
        f"camera {step.camera}" if step.camera else "batches",
        first,
        then,
        _UNITS[step.kind],
        change.reason,
    )
