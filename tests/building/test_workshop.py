"""Smaller batches and priority engines of TensorRT, in a world that loads what was "built"."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np
import pytest

from edge.building import tensorrt_toolchain, workshop
from edge.building.batch_limit import FILE_NAME
from edge.building.plan import BuildPlan
from edge.building.supply import EngineSupply, open_supply
from edge.building.tensorrt_toolchain import TensorRtToolchain
from edge.building.worker import Job, work
from edge.clock import ManualClock
from edge.config.schema import Config, Precision
from edge.errors import EngineOutOfMemory
from edge.inference import tensorrt
from edge.inference.engine import Engine
from edge.records import DeployedGraph, EngineStatus, OnProgress
from tests.building.tensorrt_rig import HEIGHT as GRAPH_HEIGHT
from tests.building.tensorrt_rig import WIDTH as GRAPH_WIDTH
from tests.building.tensorrt_rig import deployed
from tests.building.tiny_detectors import TinyDetector
from tests.inference.host_cuda import HostCuda
from tests.inference.tensorrt_api.double import tensorrt_double
from tests.inference.tensorrt_engines import HEIGHT, WIDTH, RuntimeWorld, expected, plan

ROW_BYTES = 1 << 20  # of an engine's activations
FP16 = Precision.FP16


class Plant:
    """A machine whose TensorRT builds in no time; every start is one `supply`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.host = HostCuda()
        self.built: List[Tuple[int, Optional[int], str]] = []  # batch, DLA core, precision
        self.told: List[EngineStatus] = []
        self.model = TinyDetector(input_wh=(GRAPH_WIDTH, GRAPH_HEIGHT)).save(folder)
        self.graph: DeployedGraph = deployed(folder)
        world = RuntimeWorld(self.host)
        world.trt = tensorrt_double("8.5.2.2", world)
        for module in (tensorrt_toolchain, tensorrt):
            monkeypatch.setattr(module, "import_tensorrt", lambda: world.trt)
        monkeypatch.setattr(TensorRtToolchain, "build", self._build())
        # A child process would know nothing of this machine.
        monkeypatch.setattr(workshop, "run_job", self._run_job)

    def config(self, **engine: Any) -> Config:
        return Config.model_validate(
            {
                "device": {"state_dir": self.folder / "state"},
                "model": {"path": self.model, "class_names": ["a", "b", "c"]},
                "engine": {"backend": "tensorrt", "max_batch": 8, "memory": "copy", **engine},
                "cameras": [{"name": "a", "uri": "synthetic://1"}],
            }
        )

    @contextmanager
    def start(self, **engine: Any) -> Iterator[EngineSupply]:
        of = BuildPlan.of(self.config(**engine), None)
        with self.host.context() as context, pytest.MonkeyPatch.context() as patch:
            patch.setattr(tensorrt_toolchain, "Context", lambda: context)
            graph, clock, stop = self.graph, ManualClock(), threading.Event()
            supply = open_supply(of, graph, self.told.append, clock, stop)
            try:
                yield supply
            finally:
                supply.close()

    def _build(self) -> Any:
        def build(made: TensorRtToolchain, precision: Precision, on_progress: OnProgress) -> bytes:
            key = made.key
            self.built.append((key.max_batch, key.dla_core, precision.value))
            profile = [1, key.opt_batch, key.max_batch]
            return plan(profile=profile, activations=key.max_batch * ROW_BYTES)

        return build

    def _run_job(self, job: Job, on_progress: OnProgress, stop: threading.Event) -> bool:
        # As the child is told it: all of the plan must survive the way there.
        with HostCuda().context() as context, pytest.MonkeyPatch.context() as patch:
            patch.setattr(tensorrt_toolchain, "Context", lambda: context)
            work(Job.model_validate_json(job.model_dump_json()), on_progress)
        return True


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    return Plant(tmp_path, monkeypatch)


def opened(supply: EngineSupply) -> Engine:
    found = supply.open_first(threading.Event())
    assert found is not None
    supply.serves(found[0])
    return found[1]


def largest(supply: EngineSupply) -> int:
    engine = opened(supply)
    engine.close()
    return engine.info.max_batch


@pytest.mark.parametrize(
    ("rows_free", "batches"),
    [(8.5, [8]), (7.9, [8, 4]), (3.9, [8, 4, 2]), (1.5, [8, 4, 2, 1])],
    ids=["all fit", "half", "a quarter", "one"],
)
def test_out_of_memory_at_load_builds_half_and_the_next_start_remembers(
    plant: Plant, rows_free: float, batches: List[int]
) -> None:
    plant.host.free_bytes = int(rows_free * ROW_BYTES)
    with plant.start() as supply:
        assert largest(supply) == batches[-1]
    assert [batch for batch, _, _ in plant.built] == batches
    with plant.start() as supply:
        assert largest(supply) == batches[-1]
    assert len(plant.built) == len(batches)  # nothing was built again, and nothing larger tried
    is_limited = len(batches) > 1
    assert (FILE_NAME in plant.told[-1].message) == is_limited


def test_more_is_tried_again_once_the_user_asks_for_another_batch_or_removes_the_limit(
    plant: Plant,
) -> None:
    plant.host.free_bytes = 4 * ROW_BYTES
    with plant.start() as supply:
        assert largest(supply) == 4
    plant.host.free_bytes = 9 * ROW_BYTES
    with plant.start(max_batch=6) as supply:
        assert largest(supply) == 6
    with plant.start() as supply:
        assert largest(supply) == 4
    (plant.folder / "state/engines" / FILE_NAME).unlink()
    with plant.start() as supply:
        assert largest(supply) == 8


def test_a_limit_above_what_the_user_wants_is_idle(plant: Plant) -> None:
    plant.host.free_bytes = 4 * ROW_BYTES
    with plant.start() as supply:
        assert largest(supply) == 4
    plant.told.clear()
    with plant.start(max_batch=2) as supply:
        assert largest(supply) == 2
    assert all(FILE_NAME not in status.message for status in plant.told)


def test_not_even_one_frame(plant: Plant) -> None:
    plant.host.free_bytes = ROW_BYTES // 2
    with plant.start() as supply, pytest.raises(EngineOutOfMemory, match="smaller network"):
        opened(supply)
    assert [batch for batch, _, _ in plant.built] == [8, 4, 2, 1]


def test_a_network_of_a_fixed_batch_cannot_be_halved(plant: Plant) -> None:
    plant.model = TinyDetector(input_wh=(GRAPH_WIDTH, GRAPH_HEIGHT), batch=4).save(plant.folder)
    plant.graph = deployed(plant.folder, batch=4)
    plant.host.free_bytes = 4 * ROW_BYTES
    with plant.start() as supply, pytest.raises(EngineOutOfMemory, match="MB are free"):
        opened(supply)
    assert len(plant.built) == 1


def frames_of(count: int) -> Any:
    return np.random.default_rng(3).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)


def test_a_priority_engine_takes_one_frame_on_a_stream_that_goes_first(plant: Plant) -> None:
    with plant.start(dla_core=0) as supply:
        shared = opened(supply)
        before = set(plant.host.priorities)
        told: List[EngineStatus] = []
        priority_supply = supply.for_priority(told.append)
        priority = opened(priority_supply)
        of_priority = {n: p for n, p in plant.host.priorities.items() if n not in before}
        assert set(of_priority.values()) >= {-5}
        assert {plant.host.priorities[number] for number in before} == {0}
        assert (shared.info.max_batch, priority.info.max_batch) == (8, 1)
        # Of the DLA only the shared engine knows: there a priority frame would wait for its batch.
        assert plant.built == [(8, 0, "fp16"), (1, None, "fp16")]
        # Slots are pinned once, and both engines read them.
        rows = supply.allocate((1, HEIGHT, WIDTH, 3))
        rows[...] = frames_of(1)
        for engine in (shared, priority):
            assert np.array_equal(engine.infer(rows)[:1], expected(rows))
        assert told[-1].serving is FP16
        del rows
        priority.close()
        priority_supply.close()  # owns nothing
        shared.infer(frames_of(1))
        shared.close()
    names = {path.name for path in (plant.folder / "state/engines").glob("*.json")}
    assert names == {"tensorrt-fp16.json", "tensorrt-priority-fp16.json"}
    plant.built.clear()
    with plant.start(dla_core=0) as supply:
        largest(supply)
        assert largest(supply.for_priority(lambda status: None)) == 1
    assert plant.built == []


def test_a_priority_engine_without_room_is_neither_halved_nor_remembered(plant: Plant) -> None:
    with plant.start() as supply:
        shared = opened(supply)
        plant.host.free_bytes = ROW_BYTES // 2
        with pytest.raises(EngineOutOfMemory):
            opened(supply.for_priority(lambda status: None))
        shared.close()
    assert not (plant.folder / "state/engines" / FILE_NAME).exists()


def test_a_dla_that_has_no_room_is_given_an_engine_of_a_smaller_fixed_batch(plant: Plant) -> None:
    plant.host.free_bytes = 4 * ROW_BYTES
    with plant.start(dla_core=0) as supply:
        assert largest(supply) == 4
    assert [(batch, core) for batch, core, _ in plant.built] == [(8, 0), (4, 0)]


def test_memory_that_is_released_is_free_before_the_supply_ends(plant: Plant) -> None:
    with plant.start() as supply:
        opened(supply).close()
        kept, released = (supply.allocate((rows, HEIGHT, WIDTH, 3)) for rows in (2, 3))
        supply.release(released)
        assert len(plant.host.memory) == 1
        assert kept.shape[0] == 2
        with pytest.raises(ValueError, match="unpack"):
            supply.release(released)


def test_after_halving_the_slots_memory_still_ends_with_the_supply(plant: Plant) -> None:
    plant.host.free_bytes = 4 * ROW_BYTES
    with plant.start() as supply:
        engine = opened(supply)
        supply.allocate((2, HEIGHT, WIDTH, 3))
        assert len(plant.host.memory) > 1
        engine.close()
        assert len(plant.host.memory) == 1
    assert not plant.host.memory
