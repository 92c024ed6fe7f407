"""How the appliance does, told at intervals: to the broker, and to Prometheus where it asks.

Part of the composition root, with `app.py`.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Callable, Dict, Mapping, Optional

from edge import __version__
from edge.clock import NS_PER_S, Clock
from edge.config.schema import HealthConfig
from edge.errors import ProbeError
from edge.health.exposition import Exposition
from edge.health.monitor import Monitor
from edge.health.rates import RateMeter
from edge.health.report import camera_numbers, health
from edge.line import Line, Stop
from edge.publish.metrics import METRICS
from edge.publish.publisher import Publisher
from edge.records import EngineInfo, MachineReading, PipelineCounters

log = logging.getLogger(__name__)


class Reporter:
    """Tells what the monitor, the line and the publisher count; belongs to the main loop."""

    def __init__(
        self, config: HealthConfig, monitor: Monitor, publisher: Publisher, clock: Clock
    ) -> None:
        self._config = config
        self._monitor = monitor
        self._publisher = publisher
        self._clock = clock
        self._published, self._frames_told = RateMeter(), RateMeter()
        self._next_ns = 0
        self._exposition: Optional[Exposition] = None

    def start(self, began: Callable[[str, Stop], None]) -> None:
        """Begins to watch the machine, and to answer Prometheus."""
        self._monitor.start()
        began("health", self._monitor.stop)
        port = self._config.prometheus_port
        if port is None:
            return
        exposition = Exposition(METRICS)
        try:
            exposition.start(self._config.prometheus_host, port)
        except ProbeError as error:  # no reason to let the cameras go
            log.error("%s", error)
            return
        self._exposition = exposition
        began("Prometheus port", exposition.stop)

    def report_when_due(self, line: Line, interval_s: float, more: Mapping[str, float]) -> None:
        """Tells it all, with `more` numbers of the device, once in each interval."""
        now_ns = self._clock.monotonic_ns()
        publisher = self._publisher.counters()
        self._published.observe(now_ns, publisher.published)
        self._frames_told.observe(now_ns, publisher.frames_told)
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + int(interval_s * NS_PER_S)
        counters = line.counters()
        present = [status.camera for status in line.statuses()]
        for camera in present:
            self._publisher.publish_camera_stats(counters.cameras[camera])
        self._publisher.publish_outbox()
        machine = self._monitor.latest()
        numbers = {
            **health(counters, publisher, machine.numbers),
            # The totals are also those of cameras that were removed.
            "cameras": len(present),
            "mqtt_published_per_s": self._published.per_second(),
            "publish_fps": self._frames_told.per_second(),
            **more,
        }
        reading = dataclasses.replace(machine, numbers=numbers)
        self._publisher.publish_health(reading)
        if self._exposition is not None:
            self._expose(self._exposition, reading, counters, line.engine_info)

    def _expose(
        self,
        exposition: Exposition,
        reading: MachineReading,
        counters: PipelineCounters,
        engine: EngineInfo,
    ) -> None:
        cameras = {name: camera_numbers(camera) for name, camera in counters.cameras.items()}
        facts: Dict[str, str] = {
            "version": __version__,
            "source": reading.source.value,
            "backend": engine.backend,
            "precision": engine.precision,
            "engine_device": engine.device,
        }
        exposition.show(reading.numbers, cameras, facts)
