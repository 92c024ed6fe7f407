"""The road of a frame, wired: readers -> batcher -> pipeline -> detections.

Part of the composition root, with `app.py`: knows the rooms, and no more than how they fit.
"""

from __future__ import annotations

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Set, Tuple

import cv2

from edge.batching.batcher import Batcher
from edge.batching.drawing import Drawer
from edge.batching.lane_queue import LaneQueue
from edge.batching.priority_lane import PriorityLane
from edge.batching.ring import Allocate, SlotRing, allocate_pageable
from edge.batching.shared_lane import SharedLane
from edge.bounds import BatchBounds
from edge.capture import Mailbox, Reader, RenderFactory, source_factory
from edge.capture.status import OnStatus
from edge.clock import Clock
from edge.config.combinations import idle_keys
from edge.config.schema import CameraConfig, Config
from edge.geometry import Image
from edge.health.meters import PipelineMeter
from edge.inference.engine import Engine
from edge.inference.lanes import Lanes
from edge.inference.seat import EngineSeat
from edge.liveness import Liveness
from edge.postprocess.postprocess import Postprocessor
from edge.records import (
    BatchResult,
    CameraStatus,
    DeployedGraph,
    DropCause,
    EngineInfo,
    Frame,
    FrameInfo,
    FrameResult,
    PipelineCounters,
    Preprocessing,
    Restraints,
    StageTimes,
)
from edge.roster import Roster, Surroundings
from edge.seating import Limits, Seating
from edge.slots import PRIORITY_SPARE_SLOTS, SPARE_SLOTS, depth_of, effective_target, with_target
from edge.threads import OnFailure

OnResult = Callable[[FrameResult], None]
"""Gets every frame's detections, one at a time, on a thread of the lanes; must return soon."""

Stop = Callable[[float], bool]
"""Ends a part within so many seconds; False if it is still running then."""


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hooks:
    """Whom the line tells what happens; `on_shrink` gets the batch cap after memory ran out."""

    on_result: OnResult
    on_status: Callable[[CameraStatus], None]
    on_failure: OnFailure
    on_shrink: Callable[[int], None]


def render_scene(seed: int, size_wh: Tuple[int, int]) -> Callable[[int], Image]:
    """Makes the renderer of a synthetic camera."""
    # Imported only where a synthetic camera asks for it.
    from edge.demo.scene import Scene, SceneSpec

    scene = Scene(SceneSpec(seed=seed, size_wh=size_wh))
    return lambda index: scene.frame(index)[0]


@dataclass(frozen=True)
class Detector:
    """A deployed graph, the engine that runs it, and what makes the memory it reads frames from."""

    graph: DeployedGraph
    engine: Engine
    allocate: Allocate = allocate_pageable


@dataclass(frozen=True)
class LineOptions:
    """`module` is the Jetson's name, None elsewhere; `keep_images` attaches source frames to
    results; `renderer` draws what synthetic cameras show."""

    module: Optional[str] = None
    keep_images: bool = False
    renderer: RenderFactory = render_scene


class Line:
    """The road of a frame, wired: readers -> batcher -> pipeline -> detections.

    Everything is made here and started in `start`, which names each part with what stops it.
    """

    def __init__(
        self,
        config: Config,
        base_dir: Path,
        detector: Detector,
        clock: Clock,
        hooks: Hooks,
        options: LineOptions,
    ) -> None:
        self._clock = clock
        self._hooks = hooks
        graph = detector.graph
        self._class_names = graph.class_names
        self._postprocessor = Postprocessor(config.postprocess, graph.class_names, config.cameras)
        self._saturated_before = 0
        self._options = options
        self._allocate = detector.allocate
        self._input_wh = graph.preprocessing.input_wh
        limits = Limits(config.engine.max_batch, options.module, graph.row_bytes)
        self._engines = Seating(detector.engine, limits, hooks.on_shrink)
        target = self.batch_target = effective_target(
            config, graph, detector.engine.info, self.in_flight, options.module
        )
        log.info("a batch is full at %d frames (%s)", target.frames, target.source.value)
        self._warned: Set[str] = set()
        self._warn_of_idle_keys(config)
        self._base_dir = base_dir
        config = self._config = with_target(config, target)
        self._roster = Roster(config.cameras, self._surroundings(), clock)
        self._meter = PipelineMeter(
            self._roster.readings(),
            {camera.name: camera.deadline_ms for camera in config.cameras},
        )
        self._bounds = BatchBounds(config)
        self._batcher = self._make_batcher(graph.preprocessing, options.keep_images)
        self._is_batching = False
        self._priority_burst = config.batching.priority_burst
        self._lanes = Lanes(
            self._engines.shared,
            LaneQueue(self._priority_burst),
            self._deliver,
            clock,
            hooks.on_failure,
            depth=depth_of(detector.engine.in_flight),
        )
        self._liveness = Liveness(
            config.engine.stall_s,
            self._roster,
            self._lanes,
            lambda: self.engine_info.device,
            hooks.on_failure,
        )

    @property
    def engine_info(self) -> EngineInfo:
        """What serves, with the batch it is allowed at present."""
        return self._engines.info

    @property
    def in_flight(self) -> int:
        """Batches the engine works on at once."""
        return self._engines.shared.in_flight

    @property
    def priority_engine_info(self) -> Optional[EngineInfo]:
        """What serves the priority cameras alone; None while they share the one for all."""
        return self._engines.priority_info

    @property
    def stage_times(self) -> Sequence[StageTimes]:
        """What the last sampled calls of the shared engine took on a GPU; empty on a CPU."""
        return self._engines.shared.engine.stage_times

    def start(self, began: Callable[[str, Stop], None]) -> None:
        """Starts inference, then the batcher, then the cameras."""
        began("engine", self._close_engine)
        self._lanes.start(self._wake, self._count_stale)
        began("pipeline", self._stop_pipeline)
        self._batcher.start(self._lanes, self._hooks.on_failure)
        self._is_batching = True
        began("batcher", self._stop_batcher)
        began("cameras", self._roster.stop)
        self._roster.start()

    @property
    def has_ended(self) -> bool:
        """True where nobody uses the engine, or the memory its frames lie in, any more."""
        return self._lanes.has_ended and not self._is_batching

    def exchange(self, engine: Engine) -> None:
        """Lets another engine of the same graph serve from the next batch on; no frame is lost.

        It is this line's to close, also once the line has ended.
        """
        self._engines.exchange(engine)

    def serve_priority(self, engine: Engine) -> None:
        """Lets another engine of the same graph serve nobody but the priority cameras from here on.

        The next one takes its place, as with `exchange`; no frame is lost.
        """

        def open_lane(seat: EngineSeat) -> None:
            self._lanes.open_priority(seat, LaneQueue(self._priority_burst))

        self._engines.serve_priority(engine, open_lane)

    def apply(self, config: Config) -> None:
        """Changes what can change while frames flow: cameras, postprocess, batching.max_wait_ms.

        Cameras that stay as they are do not notice. Where it raises (ConfigError, EngineError: no
        memory for the frames of a priority camera) nothing has changed. Called where `observe` is.
        """
        config = with_target(config, self.batch_target)
        postprocessor = Postprocessor(config.postprocess, self._class_names, config.cameras)
        self._roster.change(config.cameras)
        if (config.postprocess, config.cameras) != (self._config.postprocess, self._config.cameras):
            self._saturated_before += self._postprocessor.saturated_frames
            self._postprocessor = postprocessor
        readings = self._roster.readings()
        for camera in config.cameras:
            self._meter.admit(camera.name, readings[camera.name], camera.deadline_ms)
        self._config = config
        self._bounds.configure(config)
        self._warn_of_idle_keys(config)

    def restrain(self, restraints: Restraints) -> None:
        """Holds the cameras and the batch window to these from here on, also over `apply`.

        Where it raises, as `apply` does, the cameras that were to come or go have not. Called where
        `observe` is.
        """
        self._bounds.govern(restraints.window_ms)
        self._roster.restrain(restraints)

    def observe(self) -> None:
        """Looks for cameras that stalled and samples the rates; called several times a second."""
        now_ns = self._clock.monotonic_ns()
        if self._roster.look(now_ns):
            self._bounds.begin_anew()
        self._liveness.look(now_ns)
        self._meter.observe(now_ns, self._lanes.busy_ns)
        self._bounds.observe(now_ns, self._roster.received_shared, self._lanes.busy_ns)

    def counters(self) -> PipelineCounters:
        """What went down the road since the start, also of cameras that were removed."""
        saturated = self._saturated_before + self._postprocessor.saturated_frames
        return self._bounds.counted(self._meter.counters(self._lanes.in_flight, saturated))

    def statuses(self) -> List[CameraStatus]:
        """The status now of every camera in the configuration."""
        return self._roster.statuses()

    def show_next(self, camera: str, look: Callable[[Frame], object]) -> None:
        """Shows a present camera's next frame to `look`, on a thread that must not wait.

        Called where `observe` is.
        """
        self._roster.show_next(camera, look)

    def _warn_of_idle_keys(self, config: Config) -> None:
        idle = list(idle_keys(config, self.batch_target.frames))
        for words in idle:
            if words not in self._warned:
                log.warning("%s", words)
        self._warned = set(idle)

    def _make_batcher(self, preprocessing: Preprocessing, keep_images: bool) -> Batcher:
        batching = self._config.batching
        slots = depth_of(self.in_flight) + SPARE_SLOTS
        # The pools are all the parallelism there is: OpenCV's own threads beneath it would cost a
        # third more CPU per frame and gain nothing.
        cv2.setNumThreads(1)

        def drawer(name: str) -> Drawer:
            pool = ThreadPoolExecutor(batching.letterbox_threads, thread_name_prefix=name)
            return Drawer(preprocessing, pool, self._wake, keep_images=keep_images)

        batch_ids = itertools.count(1)
        shared = SharedLane(
            self._bounds.policy,
            self._roster.shared_feeds,
            drawer("letterbox"),
            SlotRing(slots, batching.target, self._input_wh, self._allocate),
            batch_ids,
            self._clock,
        )
        # Threads of its own: a priority frame is not to be drawn after a burst of others.
        priority_drawer = drawer("letterbox-priority")
        priority = PriorityLane(self._roster.reserved, priority_drawer, batch_ids, self._clock)
        return Batcher(priority, shared, self._clock)

    def _surroundings(self) -> Surroundings:
        hooks = self._hooks

        def make_reader(camera: CameraConfig, mailbox: Mailbox, on_status: OnStatus) -> Reader:
            render = self._options.renderer
            sources = source_factory(camera, self._base_dir, render, self._input_wh)
            return Reader(camera, sources, mailbox, self._clock, on_status, hooks.on_failure)

        def make_ring() -> SlotRing:
            slots = self.in_flight + PRIORITY_SPARE_SLOTS
            return SlotRing(slots, 1, self._input_wh, self._allocate)

        return Surroundings(
            make_reader,
            make_ring,
            self._wake,
            hooks.on_status,
            lambda shared, reserved: self._batcher.set_feeds(shared, reserved),
            hooks.on_failure,
        )

    def _wake(self) -> None:
        self._batcher.wake()

    def _deliver(self, batch: BatchResult) -> None:
        untold = [item.info.camera for item in batch.batch.items]
        try:
            for result in self._postprocessor.process(batch, self._clock):
                self._hooks.on_result(result)
                self._meter.frame_done(result)
                self._roster.frame_done(result.info.camera)
                self._liveness.frame_told()
                untold.remove(result.info.camera)
                # A priority frame need not stand behind all of a large batch.
                self._lanes.give_way()
        finally:  # whoever fails here stops the app, but takes no frame out of the books
            for camera in untold:
                self._roster.count_drop(camera, DropCause.ABORTED)
        self._meter.batch_done(batch, self._bounds.policy.setting.target)
        self._bounds.batch_done(batch)

    def _count_stale(self, info: FrameInfo) -> None:
        self._roster.count_drop(info.camera, DropCause.STALE)

    def _stop_batcher(self, timeout_s: float) -> bool:
        ended = self._batcher.stop(timeout_s)
        self._is_batching = not ended
        self._roster.close()
        return ended

    def _stop_pipeline(self, timeout_s: float) -> bool:
        ended = self._lanes.stop(timeout_s)
        for batch in self._lanes.abandoned:
            for item in batch.items:
                self._roster.count_drop(item.info.camera, DropCause.ABORTED)
        return ended

    def _close_engine(self, timeout_s: float) -> bool:
        # Never under a batch that still runs: the process ends with it.
        if self._lanes.has_ended:
            self._engines.close()
        return self._lanes.has_ended
