"""The road of a frame, wired: readers -> batcher -> pipeline -> detections.

Part of the composition root, with `app.py`: knows the rooms, and no more than how they fit.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

import cv2

from edge.batching.batcher import Batcher
from edge.batching.drawing import Drawer
from edge.batching.feed import Feed
from edge.batching.lane_queue import LaneQueue
from edge.batching.policy import BatchPolicy
from edge.batching.priority_lane import PriorityLane
from edge.batching.ring import Allocate, SlotRing, allocate_pageable, within_memory
from edge.batching.shared_lane import SharedLane
from edge.batching.tuner import Tuner
from edge.batching.tuning import LiveTuning
from edge.building.tuning_file import TuningKey, batch_target
from edge.capture import Mailbox, Reader, RenderFactory, Watchdog, source_factory
from edge.clock import NS_PER_MS, NS_PER_S, Clock
from edge.config.combinations import fillable_rows, idle_keys
from edge.config.schema import CameraConfig, Config
from edge.errors import EngineError
from edge.geometry import Image
from edge.health.host import free_memory_bytes
from edge.health.meters import CameraReading, PipelineMeter
from edge.inference.chunks import ChunkedEngine, affordable_rows, batch_cap
from edge.inference.engine import Engine
from edge.inference.lanes import Lanes
from edge.inference.seat import EngineSeat
from edge.postprocess.postprocess import Postprocessor
from edge.records import (
    BatchResult,
    BatchSetting,
    BatchTarget,
    CameraStatus,
    DeployedGraph,
    DropCause,
    EngineInfo,
    FrameInfo,
    FrameResult,
    Lane,
    PipelineCounters,
    Preprocessing,
    StageTimes,
)
from edge.threads import OnFailure

# A camera whose driver holds its thread is left behind: what was accepted must still go out.
CAPTURE_STOP_S = 2.0

# Besides the batches in the pipeline: the slot being filled.
SPARE_SLOTS = 1
# Besides a priority camera's frames in the engine: one waits for it, while a newer one is drawn.
PRIORITY_SPARE_SLOTS = 2

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
        self._postprocessor = Postprocessor(config.postprocess, graph.class_names)
        self._options = options
        self._allocate = detector.allocate
        self._configured_cap = config.engine.max_batch
        self._row_bytes = graph.row_bytes
        self._input_wh = graph.preprocessing.input_wh
        self._stall_s = config.engine.stall_s
        self._seat = EngineSeat(self._chunked(detector.engine))
        self._priority_seat: Optional[EngineSeat] = None
        target = self.batch_target = effective_target(
            config, graph, self.engine_info, detector.engine.in_flight
        )
        log.info("a batch is full at %d frames (%s)", target.frames, target.source.value)
        for idle in idle_keys(config, target.frames):
            log.warning("%s", idle)
        config = _with_target(config, target)
        self._mailboxes = {c.name: Mailbox(c.name, self._wake) for c in config.cameras}
        self._readers = {c.name: self._reader(c, base_dir) for c in config.cameras}
        self._watchdog = Watchdog(self._readers.values(), hooks.on_failure)
        self._meter = PipelineMeter(
            {name: self._reading(name) for name in self._readers},
            {camera.name: camera.deadline_ms for camera in config.cameras},
        )
        self._policy = BatchPolicy(config.batching)
        self._bounds = self._policy.setting
        self._tuning = self._make_tuning(config)
        self._shared_cameras = [camera.name for camera in config.cameras if not camera.priority]
        self._batcher = self._make_batcher(config, graph.preprocessing, options.keep_images)
        self._priority_burst = config.batching.priority_burst
        self._lanes = Lanes(
            self._seat,
            LaneQueue(self._priority_burst),
            self._deliver,
            clock,
            hooks.on_failure,
            depth=depth_of(detector.engine.in_flight),
        )

    @property
    def engine_info(self) -> EngineInfo:
        """What serves, with the batch it is allowed at present."""
        return self._seat.engine.info

    @property
    def priority_engine_info(self) -> Optional[EngineInfo]:
        """What serves the priority cameras alone; None while they share the one for all."""
        return None if self._priority_seat is None else self._priority_seat.engine.info

    @property
    def stage_times(self) -> Sequence[StageTimes]:
        """What the last sampled calls of the shared engine took on a GPU; empty on a CPU."""
        return self._seat.engine.stage_times

    def start(self, began: Callable[[str, Stop], None]) -> None:
        """Starts inference, then the batcher, then the cameras."""
        began("engine", self._close_engine)
        self._lanes.start(self._wake, self._count_stale)
        began("pipeline", self._stop_pipeline)
        self._batcher.start(self._lanes, self._hooks.on_failure)
        began("batcher", self._batcher.stop)
        began("cameras", self._stop_readers)
        for reader in self._readers.values():
            reader.start()

    @property
    def has_ended(self) -> bool:
        """True where nobody uses the engine, or the memory its frames lie in, any more."""
        return self._lanes.has_ended

    def exchange(self, engine: Engine) -> None:
        """Lets another engine of the same graph serve from the next batch on; no frame is lost."""
        self._seat.exchange(self._chunked(engine)).close()

    def serve_priority(self, engine: Engine) -> None:
        """Lets another engine of the same graph serve nobody but the priority cameras from here on.

        The next one takes its place, as with `exchange`; no frame is lost.
        """
        alone = ChunkedEngine(engine, 1, self._hooks.on_shrink)
        if self._priority_seat is not None:
            self._priority_seat.exchange(alone).close()
            return
        self._priority_seat = EngineSeat(alone)
        self._lanes.open_priority(self._priority_seat, LaneQueue(self._priority_burst))

    def observe(self) -> None:
        """Looks for cameras that stalled and samples the rates; called several times a second."""
        now_ns = self._clock.monotonic_ns()
        self._watchdog.check(now_ns)
        self._check_engine(now_ns)
        self._meter.observe(now_ns)
        if self._tuning is not None:
            arrived = sum(self._mailboxes[name].received for name in self._shared_cameras)
            self._tuning.observe(now_ns, arrived, self._lanes.busy_ns)

    def counters(self) -> PipelineCounters:
        """What went down the road since the start."""
        counters = self._meter.counters(self._lanes.in_flight, self._postprocessor.saturated_frames)
        return dataclasses.replace(
            counters,
            batching=self._bounds,
            tuned=self._tuning.setting if self._tuning else None,
            tune_changes=self._tuning.changes if self._tuning else 0,
        )

    def statuses(self) -> List[CameraStatus]:
        """Every camera's status now."""
        return [reader.status for reader in self._readers.values()]

    def _check_engine(self, now_ns: int) -> None:
        """A device that hangs raises nothing: only its silence tells."""
        oldest_ns = self._lanes.oldest_ns
        if oldest_ns is not None and now_ns - oldest_ns > self._stall_s * NS_PER_S:
            error = EngineError(
                f"no result for {(now_ns - oldest_ns) / NS_PER_S:.0f} s (engine.stall_s is "
                f"{self._stall_s:g}): {self.engine_info.device} hangs"
            )
            self._hooks.on_failure("inference", error)

    def _chunked(self, engine: Engine) -> ChunkedEngine:
        cap, decided_by = batch_cap(
            engine.info.max_batch,
            self._configured_cap,
            self._options.module,
            affordable_rows(free_memory_bytes(), self._row_bytes),
        )
        log.info("up to %d frames at once, by %s", cap, decided_by)
        return ChunkedEngine(engine, cap, self._hooks.on_shrink)

    def _make_tuning(self, config: Config) -> Optional[LiveTuning]:
        if not config.batching.tune:
            return None
        # No batch is fuller than its cameras can make it.
        rows = min(self._bounds.target, max(fillable_rows(config), 1))
        most = BatchSetting(rows, self._bounds.window_ms)
        self._policy.apply(most)
        return LiveTuning(self._policy, Tuner(most))

    def _make_batcher(
        self, config: Config, preprocessing: Preprocessing, keep_images: bool
    ) -> Batcher:
        batching, input_wh = config.batching, preprocessing.input_wh
        in_flight = self._seat.in_flight
        slots = depth_of(in_flight) + SPARE_SLOTS
        priority_slots = in_flight + PRIORITY_SPARE_SLOTS
        # The pools are all the parallelism there is: OpenCV's own threads beneath it would cost a
        # third more CPU per frame and gain nothing.
        cv2.setNumThreads(1)

        def drawer(name: str) -> Drawer:
            pool = ThreadPoolExecutor(batching.letterbox_threads, thread_name_prefix=name)
            return Drawer(preprocessing, pool, self._wake, keep_images=keep_images)

        batch_ids = itertools.count(1)
        feeds = {
            camera.name: Feed(self._mailboxes[camera.name], camera.max_staleness_ms)
            for camera in config.cameras
        }
        reserved = {
            feeds[camera.name]: SlotRing(priority_slots, 1, input_wh, self._allocate)
            for camera in config.cameras
            if camera.priority
        }
        shared = SharedLane(
            self._policy,
            [feed for feed in feeds.values() if feed not in reserved],
            drawer("letterbox"),
            SlotRing(slots, batching.target, input_wh, self._allocate),
            batch_ids,
            self._clock,
        )
        # Threads of its own: a priority frame is not to be drawn after a burst of others.
        priority_drawer = drawer("letterbox-priority")
        priority = PriorityLane(reserved, priority_drawer, batch_ids, self._clock)
        return Batcher(priority, shared, self._clock)

    def _reader(self, camera: CameraConfig, base_dir: Path) -> Reader:
        sources = source_factory(camera, base_dir, self._options.renderer, self._input_wh)
        hooks = self._hooks
        mailbox = self._mailboxes[camera.name]
        return Reader(camera, sources, mailbox, self._clock, hooks.on_status, hooks.on_failure)

    def _reading(self, name: str) -> Callable[[], CameraReading]:
        reader, mailbox = self._readers[name], self._mailboxes[name]
        return lambda: CameraReading(
            reader.status,
            reader.frames_read,
            reader.reconnects,
            mailbox.dropped,
            reader.abandoned,
        )

    def _wake(self) -> None:
        self._batcher.wake()

    def _deliver(self, batch: BatchResult) -> None:
        untold = [item.info.camera for item in batch.batch.items]
        try:
            for result in self._postprocessor.process(batch, self._clock):
                self._hooks.on_result(result)
                self._meter.frame_done(result)
                untold.remove(result.info.camera)
                # A priority frame need not stand behind all of a large batch.
                self._lanes.give_way()
        finally:  # whoever fails here stops the app, but takes no frame out of the books
            for camera in untold:
                self._mailboxes[camera].count_drop(DropCause.ABORTED)
        self._meter.batch_done(batch, self._policy.setting.target)
        if self._tuning is not None and batch.batch.lane is Lane.BATCH:
            self._tuning.batch_done(len(batch.batch.items), batch.busy_ns / NS_PER_MS)

    def _count_stale(self, info: FrameInfo) -> None:
        self._mailboxes[info.camera].count_drop(DropCause.STALE)

    def _stop_readers(self, timeout_s: float) -> bool:
        deadline_ns = self._clock.monotonic_ns() + int(min(timeout_s, CAPTURE_STOP_S) * NS_PER_S)
        for reader in self._readers.values():
            reader.stop()
        ended = [
            reader.join((deadline_ns - self._clock.monotonic_ns()) / NS_PER_S)
            for reader in self._readers.values()
        ]
        return all(ended)

    def _stop_pipeline(self, timeout_s: float) -> bool:
        ended = self._lanes.stop(timeout_s)
        for batch in self._lanes.abandoned:
            for item in batch.items:
                self._mailboxes[item.info.camera].count_drop(DropCause.ABORTED)
        return ended

    def _close_engine(self, timeout_s: float) -> bool:
        # Never under a batch that still runs: the process ends with it.
        if self._lanes.has_ended:
            self._seat.engine.close()
            if self._priority_seat is not None:
                self._priority_seat.engine.close()
        return True


def depth_of(in_flight: int) -> int:
    """Batches in the pipeline: those the engine works on, and one whose results are handed on.

    An engine that works on one at a time takes the next as soon as it is done; until then it is
    bound late, as more depth would only add age.
    """
    return 1 if in_flight == 1 else in_flight + 1


def effective_target(
    config: Config, graph: DeployedGraph, engine: EngineInfo, in_flight: int
) -> BatchTarget:
    """The size at which batches leave, and who decided it; `engine` with the cap it is given."""
    key = TuningKey.of(graph, engine)
    wanted = batch_target(config.batching, config.device.state_dir, key)
    input_wh = graph.preprocessing.input_wh
    return within_memory(wanted, depth_of(in_flight) + SPARE_SLOTS, input_wh, free_memory_bytes())


def _with_target(config: Config, target: BatchTarget) -> Config:
    batching = config.batching.model_copy(update={"target": target.frames})
    return config.model_copy(update={"batching": batching})
