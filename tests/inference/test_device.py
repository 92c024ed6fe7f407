from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import numpy as np
import pytest

from edge.config.schema import Memory, Precision
from edge.errors import CudaError, EngineError, EngineOutOfMemory
from edge.geometry import Image
from edge.inference import device
from edge.inference.cuda import Context
from edge.inference.device import DeviceEngine, DeviceOptions
from edge.inference.overlap import (
    IN_FLIGHT,
    IN_FLIGHT_WHERE_QUICK,
    Launched,
    LoopOptions,
    OverlapLoop,
)
from edge.inference.program import Program
from tests.inference.host_cuda import HostCuda
from tests.inference.test_overlap import Sums, frames_of, sums


@contextmanager
def engine_of(
    options: DeviceOptions, *, is_integrated: bool = True
) -> Iterator[Tuple[DeviceEngine, HostCuda, Sums]]:
    host = HostCuda(is_integrated=is_integrated)
    with host.context() as context:
        program = Sums(host)
        engine = DeviceEngine(lambda: program, Precision.FP32, context, options)
        try:
            yield engine, host, program
        finally:
            engine.close()


def took(copy_ms: float, mapped_ms: float) -> Any:
    def in_turn(loops: Mapping[Memory, OverlapLoop], program: Sums) -> Dict[Memory, float]:
        for loop in loops.values():
            loop.launch(frames_of(2, 1)).wait()
        return {
            memory: {Memory.COPY: copy_ms, Memory.MAPPED: mapped_ms}[memory] for memory in loops
        }

    return in_turn


CHOICES = {
    "copy is faster": (Memory.AUTO, True, (1.0, 1.1), Memory.COPY),
    "no difference": (Memory.AUTO, True, (1.0, 1.0), Memory.COPY),
    "mapped is faster": (Memory.AUTO, True, (1.1, 1.0), Memory.MAPPED),
    "memory of its own": (Memory.AUTO, False, (9.0, 1.0), Memory.COPY),
    "told to copy": (Memory.COPY, True, (9.0, 1.0), Memory.COPY),
    "told to map": (Memory.MAPPED, False, (1.0, 9.0), Memory.MAPPED),
}


@pytest.mark.parametrize(
    ("memory", "is_integrated", "times_ms", "chosen"), CHOICES.values(), ids=CHOICES
)
def test_how_frames_reach_the_gpu(
    memory: Memory,
    is_integrated: bool,
    times_ms: Tuple[float, float],
    chosen: Memory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "_in_turn", took(*times_ms))
    with engine_of(DeviceOptions(memory), is_integrated=is_integrated) as (engine, _, _):
        assert engine.info.memory is chosen
        for number in range(5):
            frames = frames_of(1 + number % 4, number)
            np.testing.assert_array_equal(engine.infer(frames), sums(frames))


QUICK = {
    "quick": (1.9, False, IN_FLIGHT_WHERE_QUICK),
    "not so quick": (2.0, False, IN_FLIGHT),
    "priority": (1.9, True, IN_FLIGHT),
}


@pytest.mark.parametrize(("took_ms", "is_priority", "in_flight"), QUICK.values(), ids=QUICK)
def test_more_batches_are_out_where_they_are_quick(
    took_ms: float, is_priority: bool, in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_in_turn", took(took_ms, took_ms))
    with engine_of(DeviceOptions(is_high_priority=is_priority)) as (engine, _, _):
        assert engine.in_flight == in_flight
        out = [engine.launch(frames_of(1, number)) for number in range(in_flight)]
        for number, launched in enumerate(out):
            np.testing.assert_array_equal(launched.wait(), sums(frames_of(1, number)))


def test_both_memories_are_measured_where_both_may_be() -> None:
    with engine_of(DeviceOptions(has_graphs=False)) as (engine, _, program):
        assert engine.info.memory in (Memory.COPY, Memory.MAPPED)
        assert len(program.rows) > 2 * 5 * 4


@pytest.mark.parametrize("is_made", [False, True], ids=["no room for it", "no room for its batch"])
def test_a_way_without_room_beside_the_first_is_not_measured(
    is_made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cramped(OverlapLoop):
        def __init__(self, context: Context, program: Program, options: LoopOptions) -> None:
            if options.is_mapped and not is_made:
                raise EngineOutOfMemory("no room for a second loop")
            super().__init__(context, program, options)
            self._has_room = not options.is_mapped

        def launch(self, frames: Image) -> Launched:
            if not self._has_room:
                raise EngineOutOfMemory("no room for a second batch")
            return super().launch(frames)

    monkeypatch.setattr(device, "OverlapLoop", Cramped)
    with engine_of(DeviceOptions(Memory.AUTO)) as (engine, _, _):
        assert engine.info.memory is Memory.COPY
        np.testing.assert_array_equal(engine.infer(frames_of(2, 1)), sums(frames_of(2, 1)))
    host = HostCuda()
    asked_for = DeviceOptions(Memory.MAPPED)  # is not exchanged for another
    with host.context() as context, pytest.raises(EngineOutOfMemory):
        DeviceEngine(lambda: Sums(host), Precision.FP32, context, asked_for)


def test_a_fault_while_measuring_frees_everything() -> None:
    host = HostCuda()
    with host.context() as context:  # which asserts it
        program = Sums(host)
        program.fails = True
        with pytest.raises(EngineError, match="fell off the bus"):
            DeviceEngine(lambda: program, Precision.FP32, context, DeviceOptions())
        assert program.is_closed


@pytest.mark.parametrize("is_high_priority", [False, True], ids=["usual", "priority"])
def test_a_priority_engines_kernels_go_first(is_high_priority: bool) -> None:
    options = DeviceOptions(Memory.COPY, is_high_priority=is_high_priority)
    with engine_of(options) as (_, host, _):
        # What goes up has the usual priority, for each engine.
        made_last = list(host.priorities.values())[-3:]
        assert made_last == ([0, -5, -5] if is_high_priority else [0, 0, 0])


def test_stage_times_are_of_the_batches_that_served() -> None:
    with engine_of(DeviceOptions(Memory.COPY, timed_every_s=0.0)) as (engine, _, _):
        before = len(engine.stage_times)
        engine.infer(frames_of(3, 1))
        rows: List[int] = [times.rows for times in engine.stage_times]
        assert rows[before:] == [3]


def test_a_device_that_failed_can_be_closed(caplog: pytest.LogCaptureFixture) -> None:
    with engine_of(DeviceOptions(Memory.COPY)) as (engine, host, program):
        launched = engine.launch(frames_of(1, 1))
        for call in ("cuEventSynchronize", "cuStreamSynchronize"):
            host.fail[call] = "CUDA_ERROR_ILLEGAL_ADDRESS"
        for queue in host.queues.values():
            queue.clear()  # it does nothing more
        with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
            launched.wait()
        engine.close()
        assert program.is_closed
        assert "not everything on the GPU could be freed: cuStreamSynchronize" in caplog.text


def test_compute_alone_needs_no_frames() -> None:
    with engine_of(DeviceOptions(Memory.COPY)) as (engine, _, program):
        program.is_alone = True
        program.rows.clear()
        engine.compute_alone(2, 3)
        assert program.rows == [2] * 3
