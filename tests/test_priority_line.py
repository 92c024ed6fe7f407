"""The wired line whose priority camera gets an engine of its own while frames flow."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Callable, List

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.config.schema import EngineConfig, PostprocessConfig
from edge.errors import EngineError
from edge.geometry import Image, Letterbox
from edge.inference.engine import Synchronous
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.line import render_scene
from edge.postprocess.postprocess import detect
from edge.records import DeployedGraph, DropCause, FrameResult, Lane
from tests.test_exchange import frame_ids
from tests.test_line import HANG_S, Plant, assert_every_frame_is_accounted_for

CPU = EngineConfig(threads=1)
GATE = "gate"


class Held(Synchronous):
    """The real engine, which the test can hold in the middle of a batch."""

    def __init__(self, graph: DeployedGraph, config: EngineConfig) -> None:
        self._engine = OnnxRuntimeEngine(graph, config)
        self.info, self.input_wh = self._engine.info, self._engine.input_wh
        self.is_free = threading.Event()
        self.is_free.set()
        self.is_in = threading.Event()
        self.frames = 0
        self.closed = 0
        self.fails = False

    def infer(self, frames: Image) -> NDArray[np.float32]:
        self.is_in.set()
        assert self.is_free.wait(HANG_S)
        assert not self.closed
        if self.fails:
            raise EngineError("the device fell off the bus")
        detections = self._engine.infer(frames)
        self.frames += len(frames)
        self.is_in.clear()
        return detections

    def close(self) -> None:
        assert not self.is_in.is_set() or self.fails, "closed under a batch"
        self._engine.close()
        self.closed += 1


class Gate:
    """A plant whose shared engine can be held, and the engines its priority camera was given."""

    def __init__(self, folder: Path, cameras: int = 2, stall_s: float = 30) -> None:
        self._shared: List[Held] = []
        self.plant = Plant(folder, cameras, self._make, fps=30, stall_s=stall_s, max_wait_ms=5)
        self.shared = self._shared[0]
        self.line = self.plant.line
        self.engines: List[Held] = []

    def serve_priority(self) -> Held:
        self.engines.append(Held(self.plant.graph, CPU))
        self.line.serve_priority(self.engines[-1])
        return self.engines[-1]

    def start(self) -> None:
        self.line.start(lambda name, stop: self.plant._parts.append((name, stop)))
        self.wait(lambda: len(self.results) > 2)

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + HANG_S
        while not condition():
            assert time.monotonic() < deadline_s, (self.line.counters(), self.plant.failures)
            time.sleep(0.01)
            self.line.observe()

    def stop(self, timeout_s: float = HANG_S) -> List[bool]:
        return [stop(timeout_s) for _, stop in reversed(self.plant._parts)]

    @property
    def results(self) -> List[FrameResult]:
        return [result for result in self.plant.results if result.info.camera == GATE]

    def _make(self, graph: DeployedGraph, config: EngineConfig) -> Held:
        self._shared.append(Held(graph, config))
        return self._shared[0]


def test_priority_frames_flow_on_while_the_shared_engine_is_held(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    gate.start()
    assert gate.line.priority_engine_info is None
    first = gate.serve_priority()
    info = gate.line.priority_engine_info
    assert info is not None
    assert (info.backend, info.max_batch) == (first.info.backend, 1)
    assert gate.line.engine_info.max_batch > 1
    gate.wait(lambda: first.frames > 0)
    before = gate.shared.frames
    gate.shared.is_free.clear()
    gate.shared.is_in.clear()
    assert gate.shared.is_in.wait(HANG_S)
    told = len(gate.results)
    gate.wait(lambda: len(gate.results) >= told + 5)

    second = gate.serve_priority()
    assert first.closed == 1
    gate.wait(lambda: second.frames > 5)
    assert gate.shared.is_in.is_set()
    gate.shared.is_free.set()
    gate.wait(lambda: gate.shared.frames > before + 5)
    assert all(gate.stop())
    assert gate.plant.failures == []
    assert [engine.closed for engine in (gate.shared, first, second)] == [1, 1, 1]
    counters = gate.line.counters()
    assert counters.in_flight == 0
    assert_every_frame_is_accounted_for(counters)
    assert len(gate.plant.results) == gate.shared.frames + first.frames + second.frames
    for camera, ids in frame_ids(gate.plant).items():
        assert ids == sorted(set(ids)), camera
    assert {(r.batch.lane, r.batch.size) for r in gate.results} == {(Lane.PRIORITY, 1)}


def test_what_the_engine_of_its_own_finds_is_right(tmp_path: Path) -> None:
    gate = Gate(tmp_path, cameras=1)
    gate.start()
    shared = len(gate.results)
    engine = gate.serve_priority()
    gate.wait(lambda: engine.frames > 10)
    assert all(gate.stop())
    assert len(gate.results) > shared + 10
    reference = OnnxRuntimeEngine(gate.plant.graph, CPU)
    frame_at = render_scene(9, (96, 64))
    letterbox = Letterbox.fit((96, 64), reference.input_wh)
    width, height = reference.input_wh
    found = 0
    for result in gate.results:
        rows = np.zeros((1, height, width, 3), np.uint8)
        letterbox.draw(frame_at(result.info.frame_id), rows[0])
        expected = detect(reference.infer(rows)[0], letterbox, PostprocessConfig())
        np.testing.assert_allclose(result.detections.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)
        found += len(expected)
    assert found > 0
    reference.close()


def test_a_priority_engine_that_hangs_is_noticed_and_left_alone(tmp_path: Path) -> None:
    gate = Gate(tmp_path, stall_s=1)
    gate.start()
    engine = gate.serve_priority()
    gate.wait(lambda: engine.frames > 0)
    engine.is_free.clear()
    shared = gate.shared.frames
    gate.wait(lambda: bool(gate.plant.failures))
    assert "no result for 1 s (engine.stall_s is 1): cpu hangs" in gate.plant.failures[0]
    assert gate.shared.frames > shared
    assert not all(gate.stop(1.0))
    assert not gate.line.has_ended
    assert (gate.shared.closed, engine.closed) == (0, 0)
    assert_every_frame_is_accounted_for(gate.line.counters())
    dropped = gate.line.counters().cameras[GATE].dropped
    assert dropped[DropCause.ABORTED] > 0
    engine.is_free.set()
    gate.stop()
    assert gate.line.has_ended
    assert (gate.shared.closed, engine.closed) == (1, 1)


def test_a_priority_engine_that_dies_stops_the_line_once(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    gate.start()
    engine = gate.serve_priority()
    gate.wait(lambda: engine.frames > 0)
    engine.fails = True
    gate.wait(lambda: bool(gate.plant.failures))
    gate.stop()
    assert gate.plant.failures == ["priority inference: the device fell off the bus"]
    assert_every_frame_is_accounted_for(gate.line.counters())
    assert (gate.shared.closed, engine.closed) == (1, 1)


@pytest.mark.parametrize("is_alone", [False, True])
def test_stage_times_are_those_of_the_shared_engine(tmp_path: Path, is_alone: bool) -> None:
    gate = Gate(tmp_path)
    times = gate.shared.stage_times = (object(),)  # type: ignore[assignment]
    if is_alone:
        gate.serve_priority()
    assert gate.line.stage_times is times


def test_a_line_that_never_started_closes_both(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    engine = gate.serve_priority()
    gate.line._close_engine(0.0)
    assert (gate.shared.closed, engine.closed) == (1, 1)
