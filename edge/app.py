"""The composition root: makes the rooms, starts them, stops them in reverse.

Start-up goes publish -> inference -> capture, so that a gateway sees every step; shutdown goes
the other way, so that nothing accepted is lost.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

from edge import __version__
from edge.building.graph import deploy
from edge.capture import RenderFactory
from edge.clock import MS_PER_S, NS_PER_S, SystemClock
from edge.commands.refusal import Refused
from edge.condition import appliance_state
from edge.config.schema import CameraConfig, Config
from edge.control import Control, Reach, Read
from edge.engines import Engines
from edge.errands import Errands
from edge.errors import EdgeError
from edge.health.machine import read_machine
from edge.health.monitor import Monitor
from edge.inference.engine import Engine
from edge.line import Detector, Hooks, Line, LineOptions, OnResult, Stop, render_scene
from edge.notify import Supervisor
from edge.publish.outbox.age import Timekeeper
from edge.publish.outbox.entry import Limits
from edge.publish.outbox.outbox import Outbox
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
    PipelineCounters,
    PublisherCounters,
)
from edge.reporting import Reporter
from edge.running import RunningConfig
from edge.upkeep import Outlook, Upkeep

log = logging.getLogger(__name__)

# How often the main loop looks at stalls, rates and the health interval.
TICK_S = 0.25

# Everything accepted is brought out within this time, or named as abandoned.
SHUTDOWN_S = 10.0

# Of the shutdown's time, kept for the last messages however long the rest takes.
FAREWELL_S = 2.0


@dataclass(frozen=True)
class Substitutes:
    """What a benchmark puts in the place of the engine, of the synthetic cameras' pictures, and of
    the machine's own files."""

    engine: Optional[Engine] = None
    renderer: RenderFactory = render_scene
    root: Path = Path("/")


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
        self._running = RunningConfig(config, self._adopt)
        self._errands = Errands()
        self._base_dir = base_dir
        self._stop = stop
        self._on_result = on_result
        self._keep_images = keep_images
        self._substitutes = substitutes
        self._clock = SystemClock()
        self._machine = read_machine(substitutes.root)
        self._failure: Optional[EdgeError] = None
        self._started: List[Tuple[str, Stop]] = []
        self._state: Optional[Tuple[ApplianceState, str]] = None
        self._line: Optional[Line] = None
        self._graph: Optional[DeployedGraph] = None
        self._engines: Optional[Engines] = None
        self.class_names: Sequence[str] = ()
        self.device = config.device.id or self._machine.default_device_id
        session = next_session(config.device.state_dir, self._clock.unix_ms() // MS_PER_S)
        outbox = Outbox(
            config.device.state_dir / "outbox.db",
            Limits.of(config.outbox),
            Timekeeper(self._clock),
            self._fail,
        )
        self._publisher = Publisher(config.mqtt, self.device, session, outbox, self._fail)
        self._monitor = Monitor(
            config.health, config.device.state_dir, substitutes.root, self._clock, self._fail
        )
        self._reporter = Reporter(config.health, self._monitor, self._publisher, self._clock)
        outlook = Outlook(
            lambda: self._monitor.latest().numbers, lambda: self._config, substitutes.root
        )
        self._upkeep = Upkeep(outlook, self._publisher, self._clock)
        reach = Reach(
            self._running, self._errands, self._publisher, self._rebuild, self._reread, self._fail
        )
        self._read: Optional[Read] = None
        self._supervisor = Supervisor()
        self._control = Control(reach, self._clock)

    @property
    def _config(self) -> Config:
        return self._running.config

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

    def reload(self, read: Read) -> None:
        """Reads the configuration again and changes what can change while frames flow.

        Where it is wrong, or cannot be had, all goes on as it was. Called where `on_tick` is.
        """
        if self._line is not None:
            self._supervisor.reloading(self._clock.monotonic_ns())
            with contextlib.suppress(EdgeError):  # the log and the state say it
                self._running.reload(read)
            self._supervisor.ready()

    # --- the story ----------------------------------------------------------------------------

    def run(
        self,
        on_tick: Optional[Callable[[], None]] = None,
        read: Optional[Read] = None,
        supervisor: Optional[Supervisor] = None,
    ) -> None:
        """Starts, serves until told to stop, and stops; `on_tick` is called while it serves.

        `read` reads the configuration again where a command asks for that.
        """
        self._read = read
        self._supervisor = supervisor or self._supervisor
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
        self._supervisor.starting()
        # Said before the broker can hear it: `online` must not stand beside an older session's
        # state.
        mqtt = self._config.mqtt
        log.info(
            "edge %s, device %s, topics %s/%s/…, broker %s, %d cameras",
            __version__,
            self.device,
            mqtt.prefix,
            self.device,
            mqtt.broker,
            len(self._config.cameras),
        )
        self._publisher.announce_to_home_assistant(self._config.device.state_dir)
        self._introduce(None)
        self._enter(ApplianceState.BUILDING, "loading the model")
        for camera in self._config.cameras:
            self._publisher.publish_camera_status(self._first_status(camera))
        self._began("publisher", self._publisher.stop)
        self._control.start(self._began)
        self._control.tell_settings()
        self._publisher.start()
        self._reporter.start(self._began)
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
        self._running.serve(line)
        self._line = line  # before its first batch, which may tell of a smaller cap
        line.start(self._began)
        if self._engines is not None:
            self._engines.improve(self._exchange, self._serve_priority, self._fail)
            self._began("engine builder", self._engines.stop)

    def _main_loop(self, on_tick: Optional[Callable[[], None]]) -> None:
        self._errands.open()
        if self._line is not None:
            self._supervisor.ready()
        while self._line is not None and not self._stop.wait(TICK_S):
            self._errands.run()
            self._line.observe()
            if not self._stop.is_set():  # else `observe` has found that something hangs
                self._supervisor.alive(self._clock.monotonic_ns())
            trouble = self._publisher.outbox_trouble
            state, reason = appliance_state(self._line.statuses(), trouble)
            self._enter(
                state, "; ".join(words for words in (reason, self._running.notice) if words)
            )
            self._upkeep.look(self._line)
            numbers = {**self._control.metrics(), **self._upkeep.numbers()}
            interval_s = self._config.health.interval_s
            self._reporter.report_when_due(self._line, interval_s, numbers)
            if on_tick is not None:
                on_tick()

    def _shutdown(self) -> None:
        deadline_ns = self._clock.monotonic_ns() + int(SHUTDOWN_S * NS_PER_S)
        self._errands.close()
        self._supervisor.stopping()
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

    def _adopt(self) -> None:
        self._control.tell_settings()
        self._introduce(self._graph, self._line)

    def _exchange(self, engine: Engine) -> None:
        if self._line is not None:
            self._line.exchange(engine)
            self._introduce(self._graph, self._line)

    def _serve_priority(self, engine: Engine) -> None:
        if self._line is not None:
            self._line.serve_priority(engine)

    def _engine_status(self, status: EngineStatus) -> None:
        self._supervisor.starting()  # it may take longer than anybody would wait for a sign
        self._publisher.publish_engine(status)
        if status.serving is None and status.progress is not None:
            progress = status.progress
            reason = f"{progress.phase.value} the {progress.precision.value} engine"
            self._enter(ApplianceState.BUILDING, reason)

    def _reread(self) -> Config:
        if self._read is None:
            raise Refused("there is no configuration file to read again")
        return self._read()

    def _rebuild(self) -> str:
        if self._engines is None:
            raise Refused("the engine is not one that is built here")
        return self._engines.rebuild()

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
        self._supervisor.status(f"{state.value}: {reason}" if reason else state.value)
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
        expected = self._config.postprocess.classes or ()
        self._publisher.publish_info(Appliance(host, cameras, graph, engine, target, expected))
