"""The composition root: makes the rooms, starts them, stops them in reverse.

Start-up goes publish -> inference -> capture, so that a gateway sees every step; shutdown goes
the other way, so that nothing accepted is lost.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

from edge import __version__
from edge.building.graph import deploy
from edge.capture import RenderFactory
from edge.clock import MS_PER_S, NS_PER_S, SystemClock
from edge.config.schema import CameraConfig, Config
from edge.engines import Engines, needs_priority_engine
from edge.errors import EdgeError
from edge.health.host import HostSampler
from edge.health.machine import read_machine
from edge.health.report import health
from edge.inference.engine import Engine
from edge.line import Detector, Hooks, Line, LineOptions, OnResult, Stop, render_scene
from edge.publish.payload import Appliance, ApplianceState, HostPart
from edge.publish.publisher import Publisher
from edge.publish.session import next_session
from edge.records import (
    CameraState,
    CameraStatus,
    DeployedGraph,
    EngineInfo,
    EngineStatus,
    FrameResult,
    PictureState,
    PipelineCounters,
    PublisherCounters,
)
from edge.reload import Change, compare

log = logging.getLogger(__name__)

# How often the main loop looks at stalls, rates and the health interval.
TICK_S = 0.25

# Everything accepted is brought out within this time, or named as abandoned.
SHUTDOWN_S = 10.0

# Of the shutdown's time, kept for the last messages however long the rest takes.
FAREWELL_S = 2.0

_NOT_DELIVERING = (CameraState.OFFLINE, CameraState.STALLED)
# Black is no trouble: a room at night is.
_WORTHLESS = (PictureState.FROZEN, PictureState.COVERED)


@dataclass(frozen=True)
class Substitutes:
    """What a benchmark puts in the place of the engine and of the synthetic cameras' pictures."""

    engine: Optional[Engine] = None
    renderer: RenderFactory = render_scene


NO_SUBSTITUTES = Substitutes()


class App:
    """The daemon: `run` returns when `stop` is set and raises what made it fail.

    `keep_images` attaches the source frames to what `on_result` gets.
    """

    def __init__(
        self,
        config: Config,
        base_dir: Path,
        stop: threading.Event,
        *,
        on_result: Optional[OnResult] = None,
        keep_images: bool = False,
        substitutes: Substitutes = NO_SUBSTITUTES,
    ) -> None:
        self._config = config
        self._base_dir = base_dir
        self._stop = stop
        self._on_result = on_result
        self._keep_images = keep_images
        self._substitutes = substitutes
        self._clock = SystemClock()
        self._machine = read_machine()
        self._host = HostSampler(config.device.state_dir)
        self._failure: Optional[EdgeError] = None
        self._started: List[Tuple[str, Stop]] = []
        self._state: Optional[Tuple[ApplianceState, str]] = None
        # What the last reading of the file left to be said, for as long as it is so.
        self._notice = ""
        self._next_report_ns = 0
        self._line: Optional[Line] = None
        self._graph: Optional[DeployedGraph] = None
        self._engines: Optional[Engines] = None
        self.class_names: Sequence[str] = ()
        self.device = config.device.id or self._machine.default_device_id
        session = next_session(config.device.state_dir, self._clock.unix_ms() // MS_PER_S)
        self._publisher = Publisher(config.mqtt, self.device, session, self._clock, self._fail)

    @property
    def engine_info(self) -> Optional[EngineInfo]:
        """What serves; None until something does."""
        return self._line.engine_info if self._line else None

    def counters(self) -> PipelineCounters:
        """What the pipeline did since the start."""
        return self._line.counters() if self._line else PipelineCounters.zero()

    def publisher_counters(self) -> PublisherCounters:
        """What was handed to the broker."""
        return self._publisher.counters()

    def reload(self, read: Callable[[], Config]) -> None:
        """Reads the configuration again and changes what can change while frames flow.

        Where it is wrong, or cannot be had, all goes on as it was. Called where `on_tick` is.
        """
        line = self._line
        if line is None:
            return
        try:
            change = compare(self._config, read())
            line.apply(change.config)
        except EdgeError as error:
            faults = str(error).splitlines()
            for fault in faults:
                log.error("%s", fault)
            log.error("the configuration is not changed: all goes on as it was")
            more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
            self._notice = f"new configuration refused: {faults[0]}{more}"
            return
        self._adopt(change, line)

    # --- the story ----------------------------------------------------------------------------

    def run(self, on_tick: Optional[Callable[[], None]] = None) -> None:
        """Starts, serves until told to stop, and stops; `on_tick` is called while it serves."""
        try:
            self._startup()
            self._main_loop(on_tick)
        except EdgeError as error:
            self._failure = error
        finally:
            self._shutdown()
        if self._failure is not None:
            raise self._failure

    def _startup(self) -> None:
        # Said before the broker can hear it: `online` must not stand beside an older session's
        # state.
        mqtt = self._config.mqtt
        log.info(
            "edge %s, device %s, topics %s/%s/…, broker %s:%d, %d cameras",
            __version__,
            self.device,
            mqtt.prefix,
            self.device,
            mqtt.host,
            mqtt.port,
            len(self._config.cameras),
        )
        self._introduce(None)
        self._enter(ApplianceState.BUILDING, "loading the model")
        for camera in self._config.cameras:
            self._publisher.publish_camera_status(self._first_status(camera))
        self._publisher.start()
        self._began("publisher", self._publisher.stop)
        graph = deploy(self._config.model.path, self._config.model)
        engine = self._first_engine(graph)
        if engine is None:
            return
        hooks = Hooks(
            self._tell, self._publisher.publish_camera_status, self._fail, self._engine_shrunk
        )
        line = Line(
            self._config,
            self._base_dir,
            self._detector(graph, engine),
            self._clock,
            hooks,
            LineOptions(self._machine.module, self._keep_images, self._substitutes.renderer),
        )
        self.class_names = graph.class_names
        self._graph = graph
        self._introduce(graph, line)
        self._line = line  # before its first batch, which may tell of a smaller cap
        line.start(self._began)
        if self._engines is not None:
            self._engines.improve(self._exchange, self._serve_priority, self._fail)
            self._began("engine builder", self._engines.stop)

    def _main_loop(self, on_tick: Optional[Callable[[], None]]) -> None:
        while self._line is not None and not self._stop.wait(TICK_S):
            self._line.observe()
            state, reason = appliance_state(self._line.statuses())
            self._enter(state, "; ".join(words for words in (reason, self._notice) if words))
            self._report_when_due(self._line)
            if on_tick is not None:
                on_tick()

    def _shutdown(self) -> None:
        deadline_ns = self._clock.monotonic_ns() + int(SHUTDOWN_S * NS_PER_S)
        self._enter(ApplianceState.STOPPING, str(self._failure or ""))
        while self._started:
            name, stop = self._started.pop()
            left_s = (deadline_ns - self._clock.monotonic_ns()) / NS_PER_S
            if self._started:  # the publisher is the last
                left_s -= FAREWELL_S
            if not stop(max(left_s, 0.0)):
                log.warning("%s: not everything could be ended or delivered", name)
        self._log_totals()

    # --- its steps ----------------------------------------------------------------------------

    def _first_engine(self, graph: DeployedGraph) -> Optional[Engine]:
        """What serves first; it may take minutes to build. None where told to stop meanwhile."""
        if self._substitutes.engine is not None:
            return self._substitutes.engine
        self._engines = Engines(
            self._config, graph, self._machine.module, self._engine_status, self._clock, self._stop
        )
        self._began("backend", self._close_backend)
        return self._engines.first()

    def _close_backend(self, timeout_s: float) -> bool:
        # Never under a device that hangs: what is freed there waits for it, for ever.
        is_idle = self._line is None or self._line.has_ended
        return is_idle and self._engines is not None and self._engines.close(timeout_s)

    def _detector(self, graph: DeployedGraph, engine: Engine) -> Detector:
        if self._engines is None:
            return Detector(graph, engine)
        return Detector(graph, engine, self._engines.allocate)

    def _adopt(self, change: Change, line: Line) -> None:
        before, self._config = self._config, change.config
        log.info("configuration read again: %s", change.words or "nothing changes")
        restart = ", ".join(change.restart_keys)
        self._notice = f"a restart is needed for {restart}" if restart else ""
        if restart:
            log.warning("needs a restart, and stays as it was: %s", restart)
        needs = [needs_priority_engine(config, line.in_flight) for config in (before, self._config)]
        if needs == [False, True] and line.priority_engine_info is None:
            log.warning("priority frames share the engine: one of their own needs a restart")
        self._introduce(self._graph, line)

    def _exchange(self, engine: Engine) -> None:
        if self._line is not None:
            self._line.exchange(engine)
            self._introduce(self._graph, self._line)

    def _serve_priority(self, engine: Engine) -> None:
        if self._line is not None:
            self._line.serve_priority(engine)

    def _engine_status(self, status: EngineStatus) -> None:
        self._publisher.publish_engine(status)
        if status.serving is None and status.progress is not None:
            progress = status.progress
            reason = f"{progress.phase.value} the {progress.precision.value} engine"
            self._enter(ApplianceState.BUILDING, reason)

    def _began(self, name: str, stop: Stop) -> None:
        self._started.append((name, stop))

    def _fail(self, name: str, error: BaseException) -> None:
        if self._failure is None and not self._stop.is_set():
            self._failure = (
                error if isinstance(error, EdgeError) else EdgeError(f"{name} died: {error!r}")
            )
        self._stop.set()

    def _tell(self, result: FrameResult) -> None:
        self._publisher.publish_detections(result)
        if self._on_result is not None:
            self._on_result(result)

    def _first_status(self, camera: CameraConfig) -> CameraStatus:
        state = CameraState.STARTING if camera.enabled else CameraState.DISABLED
        return CameraStatus(camera.name, state, self._clock.unix_ms())

    def _log_totals(self) -> None:
        counters, published = self.counters(), self.publisher_counters()
        dropped = [
            f"{name} {count} {cause.value}"
            for name, camera in counters.cameras.items()
            for cause, count in camera.dropped.items()
            if count
        ]
        lost = [f"{count} {cause}" for cause, count in published.dropped.items() if count]
        log.info(
            "stopped after %d frames in %d batches, %d messages; frames dropped: %s; "
            "messages lost: %s",
            counters.frames_inferred,
            counters.batches,
            published.published,
            ", ".join(dropped) or "none",
            ", ".join(lost) or "none",
        )

    def _engine_shrunk(self, cap: int) -> None:
        if self._line is not None:
            self._introduce(self._graph, self._line)

    def _enter(self, state: ApplianceState, reason: str) -> None:
        if self._state == (state, reason):
            return
        self._state = (state, reason)
        level = logging.WARNING if state is ApplianceState.DEGRADED else logging.INFO
        log.log(level, "state %s%s", state.value, f": {reason}" if reason else "")
        self._publisher.publish_state(state, reason)

    def _introduce(self, graph: Optional[DeployedGraph], line: Optional[Line] = None) -> None:
        machine = self._machine
        host = HostPart(
            app_version=__version__,
            python=machine.python,
            platform=machine.platform,
            module=machine.module,
            l4t=machine.l4t,
            boot_id=machine.boot_id,
        )
        cameras = [camera.name for camera in self._config.cameras]
        engine, target = (line.engine_info, line.batch_target) if line else (None, None)
        self._publisher.publish_info(Appliance(host, cameras, graph, engine, target))

    def _report_when_due(self, line: Line) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._next_report_ns:
            return
        self._next_report_ns = now_ns + int(self._config.health.interval_s * NS_PER_S)
        counters = line.counters()
        present = [status.camera for status in line.statuses()]
        for camera in present:
            self._publisher.publish_camera_stats(counters.cameras[camera])
        # The totals are also those of cameras that were removed.
        readings = health(counters, self._publisher.counters(), self._host.sample())
        self._publisher.publish_health({**readings, "cameras": len(present)})


def appliance_state(cameras: Sequence[CameraStatus]) -> Tuple[ApplianceState, str]:
    """What the cameras make of the appliance: ready only if one delivers and none has trouble."""
    trouble = [words for words in map(_trouble, cameras) if words]
    states = {status.state for status in cameras}
    if trouble:
        return ApplianceState.DEGRADED, "; ".join(trouble)
    if CameraState.ONLINE in states:
        return ApplianceState.READY, ""
    if CameraState.STARTING in states:
        return ApplianceState.BUILDING, "waiting for the first frame"
    return ApplianceState.DEGRADED, "no camera delivers: all are disabled or have ended"


def _trouble(status: CameraStatus) -> str:
    if status.state in _NOT_DELIVERING:
        return f"camera {status.camera} {status.state.value}: {status.reason}"
    if status.picture in _WORTHLESS:
        return f"camera {status.camera}: {status.reason}"
    return ""
