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
from edge.batching.batcher import Batcher
from edge.batching.ring import SlotRing
from edge.building.graph import deploy
from edge.capture import Mailbox, Reader, open_source
from edge.clock import MS_PER_S, NS_PER_S, Clock, SystemClock
from edge.config.schema import CameraConfig, Config
from edge.errors import EdgeError
from edge.geometry import Image
from edge.health.host import HostSampler
from edge.health.machine import read_machine
from edge.health.meters import CameraReading, PipelineMeter
from edge.health.report import health
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.inference.pipeline import Pipeline
from edge.postprocess.postprocess import Postprocessor
from edge.publish.payload import Appliance, ApplianceState, HostPart
from edge.publish.publisher import Publisher
from edge.publish.session import next_session
from edge.records import (
    BatchResult,
    CameraState,
    CameraStatus,
    DeployedGraph,
    DropCause,
    EngineInfo,
    FrameResult,
    PipelineCounters,
    PublisherCounters,
    Slot,
)
from edge.threads import OnFailure

log = logging.getLogger(__name__)

# How often the main loop looks at stalls, rates and the health interval.
TICK_S = 0.25

# Everything accepted is brought out within this time, or named as abandoned.
SHUTDOWN_S = 10.0

# One batch runs while the next is bound (late binding): more depth would only add age.
PIPELINE_DEPTH = 1
# Besides the batches in the pipeline: one slot being filled, one being read out.
SPARE_SLOTS = 2

_NOT_DELIVERING = (CameraState.OFFLINE, CameraState.STALLED)

OnResult = Callable[[FrameResult], None]
"""Gets every frame's detections, on the completion thread; must return soon."""

Stop = Callable[[float], bool]
"""Ends a part within so many seconds; False if it is still running then."""


@dataclass(frozen=True)
class Hooks:
    """Whom the line tells what happens."""

    on_result: OnResult
    on_status: Callable[[CameraStatus], None]
    on_failure: OnFailure


class Line:
    """The road of a frame, wired: readers -> batcher -> pipeline -> detections.

    Everything is made here and started in `start`, which names each part with what stops it.
    """

    def __init__(
        self,
        config: Config,
        base_dir: Path,
        graph: DeployedGraph,
        clock: Clock,
        hooks: Hooks,
        *,
        keep_images: bool,
    ) -> None:
        self._clock = clock
        self._hooks = hooks
        self._postprocessor = Postprocessor(config.postprocess, graph.class_names)
        self._engine = OnnxRuntimeEngine(graph, config.engine)
        self.engine_info = self._engine.info
        self._mailboxes = {c.name: Mailbox(c.name, self._wake) for c in config.cameras}
        self._readers = {c.name: self._reader(c, base_dir) for c in config.cameras}
        self._meter = PipelineMeter(
            {name: self._reading(name) for name in self._readers}, config.batching.target
        )
        preprocessing = graph.preprocessing
        self._ring = SlotRing(
            PIPELINE_DEPTH + SPARE_SLOTS, config.batching.target, preprocessing.input_wh
        )
        self._batcher = Batcher(
            config.batching,
            preprocessing,
            list(self._mailboxes.values()),
            self._ring,
            clock,
            keep_images=keep_images,
        )
        self._pipeline = Pipeline(
            self._engine, self._deliver, clock, hooks.on_failure, depth=PIPELINE_DEPTH
        )

    def start(self, began: Callable[[str, Stop], None]) -> None:
        """Starts inference, then the batcher, then the cameras."""
        began("engine", self._close_engine)
        self._pipeline.start(self._release, self._wake)
        began("pipeline", self._stop_pipeline)
        self._batcher.start(self._pipeline, self._hooks.on_failure)
        began("batcher", self._batcher.stop)
        began("cameras", self._stop_readers)
        for reader in self._readers.values():
            reader.start()

    def observe(self) -> None:
        """Looks for cameras that stalled and samples the rates; called several times a second."""
        now_ns = self._clock.monotonic_ns()
        for reader in self._readers.values():
            reader.check_stall(now_ns)
        self._meter.observe(now_ns)

    def counters(self) -> PipelineCounters:
        """What went down the road since the start."""
        return self._meter.counters(self._pipeline.in_flight, self._postprocessor.saturated_frames)

    def trouble(self) -> str:
        """The cameras that do not deliver, in words; empty if all do."""
        states = [reader.status for reader in self._readers.values()]
        return "; ".join(
            f"camera {status.camera} {status.state.value}: {status.reason}"
            for status in states
            if status.state in _NOT_DELIVERING
        )

    def _reader(self, camera: CameraConfig, base_dir: Path) -> Reader:
        source = open_source(camera, base_dir, render_scene)
        hooks = self._hooks
        mailbox = self._mailboxes[camera.name]
        return Reader(camera, source, mailbox, self._clock, hooks.on_status, hooks.on_failure)

    def _reading(self, name: str) -> Callable[[], CameraReading]:
        reader, mailbox = self._readers[name], self._mailboxes[name]
        return lambda: CameraReading(
            reader.status, reader.frames_read, reader.reconnects, mailbox.dropped
        )

    def _wake(self) -> None:
        self._batcher.wake()

    def _release(self, slot: Slot) -> None:
        self._ring.release(slot)
        self._batcher.wake()

    def _deliver(self, batch: BatchResult) -> None:
        for result in self._postprocessor.process(batch, self._clock):
            self._hooks.on_result(result)
            self._meter.frame_done(result)
        self._meter.batch_done(batch)

    def _stop_readers(self, timeout_s: float) -> bool:
        deadline_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        for reader in self._readers.values():
            reader.stop()
        ended = [
            reader.join((deadline_ns - self._clock.monotonic_ns()) / NS_PER_S)
            for reader in self._readers.values()
        ]
        return all(ended)

    def _stop_pipeline(self, timeout_s: float) -> bool:
        ended = self._pipeline.stop(timeout_s)
        for batch in self._pipeline.abandoned:
            for item in batch.items:
                self._mailboxes[item.info.camera].count_drop(DropCause.ABORTED)
        return ended

    def _close_engine(self, timeout_s: float) -> bool:
        self._engine.close()
        return True


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
    ) -> None:
        self._config = config
        self._base_dir = base_dir
        self._stop = stop
        self._on_result = on_result
        self._keep_images = keep_images
        self._clock = SystemClock()
        self._machine = read_machine()
        self._host = HostSampler(config.device.state_dir)
        self._failure: Optional[EdgeError] = None
        self._started: List[Tuple[str, Stop]] = []
        self._state: Optional[Tuple[ApplianceState, str]] = None
        self._next_report_ns = 0
        self._line: Optional[Line] = None
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
        self._publisher.start()
        self._began("publisher", self._publisher.stop)
        self._introduce(None)
        self._enter(ApplianceState.BUILDING, "loading the model")
        graph = deploy(self._config.model.path, self._config.model)
        if self._stop.is_set():
            return
        hooks = Hooks(self._tell, self._publisher.publish_camera_status, self._fail)
        line = Line(
            self._config,
            self._base_dir,
            graph,
            self._clock,
            hooks,
            keep_images=self._keep_images,
        )
        self.class_names = graph.class_names
        self._introduce(graph, line.engine_info)
        line.start(self._began)
        self._line = line

    def _main_loop(self, on_tick: Optional[Callable[[], None]]) -> None:
        while self._line is not None and not self._stop.wait(TICK_S):
            self._line.observe()
            trouble = self._line.trouble()
            self._enter(ApplianceState.DEGRADED if trouble else ApplianceState.READY, trouble)
            self._report_when_due(self._line)
            if on_tick is not None:
                on_tick()

    def _shutdown(self) -> None:
        deadline_ns = self._clock.monotonic_ns() + int(SHUTDOWN_S * NS_PER_S)
        self._enter(ApplianceState.STOPPING, str(self._failure or ""))
        while self._started:
            name, stop = self._started.pop()
            left_s = (deadline_ns - self._clock.monotonic_ns()) / NS_PER_S
            if not stop(max(left_s, 0.0)):
                log.error("%s did not end in time and is abandoned", name)

    # --- its steps ----------------------------------------------------------------------------

    def _began(self, name: str, stop: Stop) -> None:
        self._started.append((name, stop))

    def _fail(self, name: str, error: BaseException) -> None:
        if self._failure is None:
            self._failure = (
                error if isinstance(error, EdgeError) else EdgeError(f"{name} died: {error!r}")
            )
        self._stop.set()

    def _tell(self, result: FrameResult) -> None:
        self._publisher.publish_detections(result)
        if self._on_result is not None:
            self._on_result(result)

    def _enter(self, state: ApplianceState, reason: str) -> None:
        if self._state == (state, reason):
            return
        self._state = (state, reason)
        log.info("state %s%s", state.value, f": {reason}" if reason else "")
        self._publisher.publish_state(state, reason)

    def _introduce(
        self, graph: Optional[DeployedGraph], engine: Optional[EngineInfo] = None
    ) -> None:
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
        self._publisher.publish_info(Appliance(host, cameras, graph, engine))

    def _report_when_due(self, line: Line) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._next_report_ns:
            return
        self._next_report_ns = now_ns + int(self._config.health.interval_s * NS_PER_S)
        counters = line.counters()
        for camera in counters.cameras.values():
            self._publisher.publish_camera_stats(camera)
        self._publisher.publish_health(
            health(counters, self._publisher.counters(), self._host.sample())
        )


def render_scene(seed: int, size_wh: Tuple[int, int]) -> Callable[[int], Image]:
    """Makes the renderer of a synthetic camera."""
    # Imported only where a synthetic camera asks for it.
    from edge.demo.scene import Scene, SceneSpec

    scene = Scene(SceneSpec(seed=seed, size_wh=size_wh))
    return lambda index: scene.frame(index)[0]
