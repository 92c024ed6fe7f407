"""The wired line with synthetic cameras, a real model and real threads."""

from __future__ import annotations

import re
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.building.graph import deploy
from edge.building.tuning_file import Tuning, TuningKey, save_tuning
from edge.clock import SystemClock
from edge.config.schema import Config, EngineConfig, ModelConfig
from edge.errors import EngineError, EngineOutOfMemory
from edge.geometry import Image, Letterbox
from edge.inference.engine import Engine, Synchronous
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.line import Detector, Hooks, Line, LineOptions, Stop
from edge.records import (
    BatchSetting,
    BatchTarget,
    DeployedGraph,
    DropCause,
    FrameResult,
    PipelineCounters,
    Slot,
    TargetSource,
)
from tests.building.tiny_detectors import TinyDetector

HANG_S = 30.0

MakeEngine = Callable[[DeployedGraph, EngineConfig], Engine]


class Cramped(Synchronous):
    """The real engine, which has room for two frames, and may die at a call."""

    def __init__(self, graph: DeployedGraph, config: EngineConfig, dies_at_call: int = 0) -> None:
        self._engine = OnnxRuntimeEngine(graph, config)
        self._dies_at_call = dies_at_call
        self.info, self.input_wh = self._engine.info, self._engine.input_wh
        self.close = self._engine.close
        self.calls = 0

    def infer(self, frames: Image) -> NDArray[np.float32]:
        self.calls += 1
        if self.calls == self._dies_at_call:
            raise EngineError("the device fell off the bus")
        if len(frames) > 2:
            raise EngineOutOfMemory(f"no room for {len(frames)} frames")
        return self._engine.infer(frames)


class Plant:
    """A line with synthetic cameras, and what it tells."""

    def __init__(
        self,
        folder: Path,
        cameras: int,
        engine: MakeEngine,
        *,
        fps: float = 10,
        stall_s: float = 30,
        **batching: Any,
    ) -> None:
        shared = [
            {"name": f"cam{n}", "uri": f"synthetic://{n}?size=96x64", "fps": fps}
            for n in range(cameras)
        ]
        priority = {"name": "gate", "uri": "synthetic://9?size=96x64", "fps": fps, "priority": True}
        config = Config.model_validate(
            {
                "device": {"state_dir": folder},
                "model": {"path": TinyDetector().save(folder)},
                "engine": {"stall_s": stall_s},
                "batching": {
                    key: value
                    for key, value in {"target": 8, **batching}.items()
                    if value is not None
                },
                "cameras": [*shared, priority],
            }
        )
        self.failures: List[str] = []
        self.results: List[FrameResult] = []
        self.caps: List[int] = []
        self._parts: List[Tuple[str, Stop]] = []
        self.fails_after: Optional[int] = None
        hooks = Hooks(
            self._result,
            lambda status: None,
            lambda thread, error: self.failures.append(f"{thread}: {error}"),
            self.caps.append,
        )
        graph = self.graph = deploy(config.model.path, config.model)
        self.engine = engine(graph, config.engine)
        detector = Detector(graph, self.engine)
        self.line = Line(config, folder, detector, SystemClock(), hooks, LineOptions())

    def run_until(self, is_enough: Callable[[PipelineCounters], bool]) -> List[bool]:
        """Looks four times a second as the app does; what each part said when it was stopped."""
        line = self.line
        line.start(lambda name, stop: self._parts.append((name, stop)))
        deadline_s = time.monotonic() + HANG_S
        while not is_enough(line.counters()):
            assert time.monotonic() < deadline_s, line.counters()
            time.sleep(0.25)
            line.observe()
        return [stop(HANG_S) for _, stop in reversed(self._parts)]

    def _result(self, result: FrameResult) -> None:
        if len(self.results) == self.fails_after:
            raise OSError("no room")
        self.results.append(result)


@pytest.mark.parametrize("tune", [False, True], ids=["off", "on"])
def test_live_tuning_follows_the_load_only_where_it_is_on(tmp_path: Path, tune: bool) -> None:
    def is_enough(counters: PipelineCounters) -> bool:
        return counters.tune_changes > 0 if tune else counters.frames_inferred > 40

    plant = Plant(tmp_path, 1, OnnxRuntimeEngine, max_wait_ms=20, tune=tune)
    assert all(plant.run_until(is_enough))
    assert plant.failures == []
    assert {result.info.camera for result in plant.results} == {"cam0", "gate"}
    counters = plant.line.counters()
    assert counters.batching == BatchSetting(8, 20.0)
    if not tune:
        assert (counters.tuned, counters.tune_changes) == (None, 0)
        return
    # Ten small frames a second are nothing to wait for.
    assert counters.tuned is not None
    assert counters.tuned.target < 8
    assert counters.tuned.window_ms < 20


def assert_every_frame_is_accounted_for(counters: PipelineCounters) -> None:
    for name, camera in counters.cameras.items():
        lost = sum(camera.dropped.values())
        assert camera.frames_read == camera.frames_inferred + lost, (name, camera)


def test_out_of_memory_is_told_and_loses_nothing(tmp_path: Path) -> None:
    plant = Plant(tmp_path, 4, Cramped, max_wait_ms=500)
    assert plant.line.engine_info.max_batch == 8
    assert all(plant.run_until(lambda counters: counters.frames_inferred > 40))
    assert plant.failures == []
    assert plant.caps == [2]
    assert plant.line.engine_info.max_batch == 2
    assert max(result.batch.size for result in plant.results) > 2
    assert_every_frame_is_accounted_for(plant.line.counters())


def test_an_engine_that_dies_loses_no_frame_uncounted(tmp_path: Path) -> None:
    plant = Plant(tmp_path, 2, partial(Cramped, dies_at_call=10), max_wait_ms=20)
    plant.run_until(lambda _: bool(plant.failures))
    assert plant.failures == ["inference: the device fell off the bus"]
    counters = plant.line.counters()
    assert_every_frame_is_accounted_for(counters)
    assert sum(c.dropped.get(DropCause.ABORTED, 0) for c in counters.cameras.values()) > 0


class Hanging(Cramped):
    """Never answers, as a device whose driver waits for ever."""

    released = threading.Event()

    def infer(self, frames: Image) -> NDArray[np.float32]:
        assert self.released.wait(HANG_S)
        return super().infer(frames[:1])


def test_a_device_that_hangs_is_noticed(tmp_path: Path) -> None:
    Hanging.released.clear()
    plant = Plant(tmp_path, 1, Hanging, stall_s=1, max_wait_ms=20)
    line = plant.line
    line.start(lambda name, stop: plant._parts.append((name, stop)))
    deadline_s = time.monotonic() + HANG_S
    while not plant.failures:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
        line.observe()
    assert re.fullmatch(
        r"inference: no result for \d s \(engine.stall_s is 1\): cpu hangs", plant.failures[0]
    )
    Hanging.released.set()
    for _, stop in reversed(plant._parts):
        stop(HANG_S)


def test_a_batcher_that_is_still_at_work_keeps_the_memory_of_the_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, has_begun = threading.Event(), threading.Event()
    draw = Slot.draw

    def held(slot: Slot, row: int, source: Image, letterbox: Letterbox) -> None:
        has_begun.set()
        assert may_end.wait(HANG_S)
        draw(slot, row, source, letterbox)

    monkeypatch.setattr(Slot, "draw", held)
    plant = Plant(tmp_path, 1, OnnxRuntimeEngine, max_wait_ms=20)
    assert plant.line.has_ended  # before it began
    plant.line.start(lambda name, stop: plant._parts.append((name, stop)))
    assert not plant.line.has_ended
    assert has_begun.wait(HANG_S)
    stopped = {name: stop(0.1) for name, stop in reversed(plant._parts)}
    assert not stopped["batcher"]
    assert plant.line._lanes.has_ended
    assert not plant.line.has_ended  # it draws into rows that nobody may free
    may_end.set()
    for _, stop in reversed(plant._parts):
        stop(HANG_S)
    assert plant.line.has_ended


@pytest.mark.parametrize(
    "is_priority", [False, True], ids=["for all frames", "for priority frames"]
)
def test_an_engine_that_comes_after_the_end_is_closed(tmp_path: Path, is_priority: bool) -> None:
    plant = Plant(tmp_path, 1, Counted, max_wait_ms=20)
    assert all(plant.run_until(lambda counters: counters.frames_inferred > 2))
    late = Counted(plant.graph, EngineConfig(threads=1))
    serve = plant.line.serve_priority if is_priority else plant.line.exchange
    serve(late)
    assert isinstance(plant.engine, Counted)
    assert (plant.engine.closed, late.closed) == (1, 1)


class Counted(Cramped):
    """Says how often it was closed."""

    def __init__(self, graph: DeployedGraph, config: EngineConfig) -> None:
        super().__init__(graph, config)
        self.closed = 0
        self.close = self._count

    def _count(self) -> None:
        self._engine.close()
        self.closed += 1


def test_what_was_measured_is_found_whatever_memory_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelConfig.model_validate({"path": TinyDetector().save(tmp_path)})
    graph = deploy(model.path, model)
    engine = OnnxRuntimeEngine(graph, EngineConfig(threads=1))
    engine.close()
    key = TuningKey.of(graph, engine.info)
    saved = Tuning(schema="edge.tuning/1", created="today", key=key, target=6, table=[])
    save_tuning(tmp_path, saved)
    monkeypatch.setattr("edge.seating.free_memory_bytes", lambda: 8 * graph.row_bytes)
    plant = Plant(tmp_path, 2, OnnxRuntimeEngine, target=None)
    assert plant.line.engine_info.max_batch == 2  # a quarter of the memory
    assert plant.line.batch_target == BatchTarget(6, TargetSource.BENCH)


def test_a_consumer_that_fails_loses_no_frame_uncounted(tmp_path: Path) -> None:
    plant = Plant(tmp_path, 4, OnnxRuntimeEngine, max_wait_ms=500)
    plant.fails_after = 10
    plant.run_until(lambda _: bool(plant.failures))
    assert plant.failures == ["results: no room"]
    counters = plant.line.counters()
    assert counters.frames_inferred == 10
    assert_every_frame_is_accounted_for(counters)


@pytest.mark.parametrize(
    ("cameras", "batching", "target"),
    [
        pytest.param(3, {}, 3, id="a row of each camera"),
        pytest.param(3, {"max_frames_per_camera": 2}, 6, id="two rows of each"),
        pytest.param(9, {}, 8, id="more cameras than rows"),
        pytest.param(0, {}, 1, id="none but the priority camera"),
    ],
)
def test_live_tuning_starts_at_what_the_cameras_can_fill(
    tmp_path: Path, cameras: int, batching: Dict[str, int], target: int
) -> None:
    plant = Plant(tmp_path, cameras, OnnxRuntimeEngine, tune=True, **batching)
    counters = plant.line.counters()
    assert counters.tuned == BatchSetting(target, 10.0)
    assert counters.batching == BatchSetting(8, 10.0)
