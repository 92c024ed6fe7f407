"""A line that is given other engines while its cameras deliver more than these can take."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Counter, Dict, List

import numpy as np
from numpy.typing import NDArray

from edge.config.schema import EngineConfig
from edge.geometry import Image
from edge.inference.engine import Synchronous
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.records import DeployedGraph, DropCause, PipelineCounters
from tests.test_line import Cramped, Plant, assert_every_frame_is_accounted_for

CPU = EngineConfig(threads=1)
# Slower than the cameras: there is always a batch in the engine and one that waits for it.
CALL_S = 0.02


class Slow(Synchronous):
    """The real engine, not faster than a small device; says how often it was used and closed."""

    def __init__(self, graph: DeployedGraph, config: EngineConfig) -> None:
        self._engine = OnnxRuntimeEngine(graph, config)
        self.info, self.input_wh = self._engine.info, self._engine.input_wh
        self.sizes: List[int] = []
        self.closed = 0

    def infer(self, frames: Image) -> NDArray[np.float32]:
        time.sleep(CALL_S)
        detections = self._engine.infer(frames)
        self.sizes.append(len(frames))
        return detections

    def close(self) -> None:
        self._engine.close()
        self.closed += 1


def frame_ids(plant: Plant) -> Dict[str, List[int]]:
    told: Dict[str, List[int]] = {}
    for result in plant.results:
        told.setdefault(result.info.camera, []).append(result.info.frame_id)
    return told


def test_engines_are_exchanged_under_load_and_no_frame_is_lost_or_doubled(tmp_path: Path) -> None:
    engines: List[Slow] = []

    def make(graph: DeployedGraph, config: EngineConfig) -> Slow:
        engines.append(Slow(graph, config))
        return engines[-1]

    plant = Plant(tmp_path, 4, make, fps=60, max_wait_ms=5)

    def exchanged_often(counters: PipelineCounters) -> bool:
        if not engines[-1].sizes:
            return False
        if len(engines) < 6:
            plant.line.exchange(make(plant.graph, CPU))
            assert engines[-2].closed == 1
            return False
        return counters.frames_inferred > 200

    assert all(plant.run_until(exchanged_often))
    assert plant.failures == []
    counters = plant.line.counters()
    assert counters.in_flight == 0
    assert_every_frame_is_accounted_for(counters)
    # The load was one: frames gave way, to newer ones and for no other reason.
    dropped: Counter[DropCause] = Counter()
    for counted in counters.cameras.values():
        dropped.update(counted.dropped)
    assert dropped[DropCause.SUPERSEDED] > 0
    assert set(+dropped) <= {DropCause.SUPERSEDED, DropCause.ABORTED}
    assert len(plant.results) == counters.frames_inferred == sum(sum(e.sizes) for e in engines)
    told = frame_ids(plant)
    assert set(told) == {"cam0", "cam1", "cam2", "cam3", "gate"}
    for camera, ids in told.items():
        assert ids == sorted(set(ids)), camera
        read = counters.cameras[camera].frames_read
        assert len(ids) + sum(counters.cameras[camera].dropped.values()) == read
    assert [engine.closed for engine in engines] == [1] * 6


def test_the_cap_is_the_new_engines_own(tmp_path: Path) -> None:
    plant = Plant(tmp_path, 4, Cramped, max_wait_ms=500)

    def roomy_at_last(counters: PipelineCounters) -> bool:
        if plant.line.engine_info.max_batch == 2:
            plant.line.exchange(OnnxRuntimeEngine(plant.graph, CPU))
        return len(plant.caps) > 0 and counters.frames_inferred > 40

    assert plant.line.engine_info.max_batch == 8
    assert all(plant.run_until(roomy_at_last))
    assert plant.caps == [2]  # memory ran out once; what came later had room
    assert plant.line.engine_info.max_batch == 8
    assert plant.failures == []
    assert_every_frame_is_accounted_for(plant.line.counters())
