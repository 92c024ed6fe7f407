"""The real line on synthetic cameras for a few seconds, without a broker."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from edge.clock import NS_PER_MS, NS_PER_S, SystemClock
from edge.config.schema import CameraConfig, Config
from edge.errors import EdgeError, EngineHangs
from edge.geometry import Image
from edge.health.rates import percentiles
from edge.line import Detector, Hooks, Line, LineOptions, Stop, render_scene
from edge.records import DropCause, FrameResult, PipelineCounters

SIZE_WH = (1280, 720)
"""What the cameras show, in pixels."""

# More than the engine takes, so that the line is what limits; no camera is faster than the last.
_OVERLOAD = 2.0
_SLOWEST_FPS, _FASTEST_FPS = 30.0, 240.0

# Drawing costs more than inference on some machines: few pictures, drawn small, go round.
_SCENES = 4
_PICTURES = 4
_DRAWN_SMALLER = 2

_TICK_S = 0.25
_WARM_UP_SHARE = 0.2
_STOP_S = 10.0
_DECIMALS = 3
_P50_P99 = (50, 99)

STAGES = ("capture_to_batch", "infer", "post", "total")
"""From capture to a closed batch, to its detections, to what is told; and all of it."""


class Latency(NamedTuple):
    """Milliseconds that half of the frames, and 99 of 100, did not exceed."""

    p50_ms: float
    p99_ms: float


MeanLoad = Callable[[int, int], Mapping[str, float]]
"""The machine's load between two monotonic times."""


def no_load(start_ns: int, end_ns: int) -> Mapping[str, float]:
    """Where nothing tells of it."""
    return {}


@dataclass(frozen=True)
class TrialResult:
    """What came through; rates are frames per second, `stages` is empty where nothing did.

    `dropped` counts by cause; `load` has `gpu_utilization` 0..1, `power_w` and
    `frames_per_joule` where known.
    """

    cameras: int
    seconds: float
    frames: int
    fps: float
    offered_fps: float
    batch_size_mean: float
    dropped: Mapping[DropCause, int]
    stages: Mapping[str, Latency]
    load: Mapping[str, float] = field(default_factory=dict)

    def summary(self) -> Dict[str, Any]:
        """All of it as a JSON object; what is unknown is absent."""
        return {
            "cameras": self.cameras,
            "size": list(SIZE_WH),
            "seconds": round(self.seconds, _DECIMALS),
            "frames": self.frames,
            "throughput_fps": round(self.fps, _DECIMALS),
            "offered_fps": round(self.offered_fps, _DECIMALS),
            "batch_size_mean": round(self.batch_size_mean, _DECIMALS),
            "dropped": {cause.value: count for cause, count in self.dropped.items()},
            "latency_ms": {
                stage: {"p50": round(p50, _DECIMALS), "p99": round(p99, _DECIMALS)}
                for stage, (p50, p99) in self.stages.items()
            },
            **{key: round(value, _DECIMALS) for key, value in self.load.items()},
        }


class Trial:
    """One run of the line with the cameras of `config`; it closes the detector's engine."""

    def __init__(self, config: Config, detector: Detector, module: Optional[str]) -> None:
        self._cameras = len(config.cameras)
        self._clock = SystemClock()
        self._over = threading.Event()
        self._failure: Optional[EdgeError] = None
        self._seen: List[FrameResult] = []
        hooks = Hooks(self._seen.append, lambda status: None, self._fail, lambda cap: None)
        options = LineOptions(module, renderer=_Pictures().camera)
        self._line = Line(config, Path(), detector, self._clock, hooks, options)

    def run(
        self,
        seconds: float,
        stop: threading.Event,
        load: MeanLoad = no_load,
    ) -> Optional[TrialResult]:
        """Runs for so many seconds after a warm-up; None on `stop`. Raises what made it fail."""
        parts: List[Stop] = []
        try:
            self._line.start(lambda name, end: parts.append(end))
            self._watch(_WARM_UP_SHARE * seconds, stop)
            before, start_ns = self._line.counters(), self._clock.monotonic_ns()
            self._watch(seconds, stop)
            after, end_ns = self._line.counters(), self._clock.monotonic_ns()
        finally:
            # Nothing comes any more of a device that hangs, and somebody waits to hear of it.
            left_s = 0.0 if isinstance(self._failure, EngineHangs) else _STOP_S
            for end in reversed(parts):
                end(left_s)
        if self._failure is not None:
            raise self._failure
        if stop.is_set():
            return None
        return self._result(before, after, (start_ns, end_ns), load(start_ns, end_ns))

    def _watch(self, seconds: float, stop: threading.Event) -> None:
        end_ns = self._clock.monotonic_ns() + int(seconds * NS_PER_S)
        while not stop.is_set():
            left_s = (end_ns - self._clock.monotonic_ns()) / NS_PER_S
            if left_s <= 0 or self._over.wait(min(left_s, _TICK_S)):
                return
            self._line.observe()

    def _fail(self, name: str, error: BaseException) -> None:
        if self._failure is None:
            self._failure = (
                error if isinstance(error, EdgeError) else EdgeError(f"{name} died: {error!r}")
            )
        self._over.set()

    def _result(
        self,
        before: PipelineCounters,
        after: PipelineCounters,
        span_ns: Tuple[int, int],
        load: Mapping[str, float],
    ) -> TrialResult:
        start_ns, end_ns = span_ns
        seconds = (end_ns - start_ns) / NS_PER_S
        seen = [result for result in self._seen if start_ns <= result.finished_ns <= end_ns]
        fps = len(seen) / seconds
        power_w = load.get("power_w", 0.0)
        batches = after.batches - before.batches
        return TrialResult(
            cameras=self._cameras,
            seconds=seconds,
            frames=len(seen),
            fps=fps,
            offered_fps=(_read(after) - _read(before)) / seconds,
            batch_size_mean=(after.frames_inferred - before.frames_inferred) / max(batches, 1),
            dropped=_dropped(before, after),
            stages=stage_latencies(seen),
            load={**load, "frames_per_joule": fps / power_w} if power_w > 0 else load,
        )


def with_cameras(config: Config, count: int, engine_fps: float) -> Config:
    """The same with synthetic cameras alone, which offer more than the engine takes."""
    fps = min(max(_OVERLOAD * engine_fps / count, _SLOWEST_FPS), _FASTEST_FPS)
    width, height = SIZE_WH
    cameras = [
        CameraConfig.model_validate(
            {
                "name": f"synthetic-{number}",
                "uri": f"synthetic://{number}?size={width}x{height}",
                "fps": round(fps, 1),
            }
        )
        for number in range(count)
    ]
    return config.model_copy(update={"cameras": cameras})


def stage_latencies(results: List[FrameResult]) -> Dict[str, Latency]:
    """Each stage's latency over the frames; empty without any."""
    if not results:
        return {}
    moments_ns = np.array(
        [
            (result.info.captured_ns, result.closed_ns, result.inferred_ns, result.finished_ns)
            for result in results
        ],
        np.int64,
    )
    steps_ns = np.diff(moments_ns, axis=1)
    columns_ms = np.column_stack([steps_ns, steps_ns.sum(axis=1)]) / NS_PER_MS
    return {
        stage: Latency(*(value for value in percentiles(column, _P50_P99) if value is not None))
        for stage, column in zip(STAGES, columns_ms.T)
    }


class _Pictures:
    """Draws what the cameras show before they start; a few scenes do for all of them."""

    def __init__(self) -> None:
        self._scenes: Dict[int, List[Image]] = {}

    def camera(self, seed: int, size_wh: Tuple[int, int]) -> Callable[[int], Image]:
        """Makes a camera that hands out its scene's pictures in turn."""
        scene = seed % _SCENES
        if scene not in self._scenes:
            width, height = size_wh
            render = render_scene(scene, (width // _DRAWN_SMALLER, height // _DRAWN_SMALLER))
            drawn = [cv2.resize(render(number), size_wh) for number in range(_PICTURES)]
            self._scenes[scene] = [np.asarray(picture, np.uint8) for picture in drawn]
        pictures = self._scenes[scene]
        return lambda index: pictures[index % _PICTURES]


def _read(counters: PipelineCounters) -> int:
    return sum(camera.frames_read for camera in counters.cameras.values())


def _dropped(before: PipelineCounters, after: PipelineCounters) -> Dict[DropCause, int]:
    dropped = {
        cause: sum(camera.dropped.get(cause, 0) for camera in after.cameras.values())
        - sum(camera.dropped.get(cause, 0) for camera in before.cameras.values())
        for cause in DropCause
    }
    return {cause: count for cause, count in dropped.items() if count}
