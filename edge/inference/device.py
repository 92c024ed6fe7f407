"""An engine on a GPU: any backend's network, run over the overlap loop."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.config.schema import Memory, Precision
from edge.errors import CudaError, EngineError, EngineOutOfMemory
from edge.geometry import Image
from edge.inference.cuda import Context
from edge.inference.engine import Pending
from edge.inference.overlap import (
    IN_FLIGHT,
    IN_FLIGHT_WHERE_QUICK,
    TIMED_EVERY_S,
    Launched,
    LoopOptions,
    OverlapLoop,
)
from edge.inference.program import Program
from edge.records import EngineInfo, StageTimes

log = logging.getLogger(__name__)

_TRIALS = 5
_TRIAL_BATCHES = 4

# Five times the batch that a third one in flight was seen to pay for; a Jetson's are longer.
_QUICK_MS = 2.0


@dataclass(frozen=True)
class DeviceOptions:
    """How an engine uses the GPU; one for priority cameras goes before others there.

    The stages of a batch are timed every `timed_every_s`.
    """

    memory: Memory = Memory.AUTO
    has_graphs: bool = True
    is_high_priority: bool = False
    timed_every_s: float = TIMED_EVERY_S


DEFAULT = DeviceOptions()


class LoadedProgram(Program, Protocol):
    """A program that was loaded, and is closed by whoever loaded it."""

    @property
    def backend(self) -> str:
        """What runs it."""

    @property
    def version(self) -> str:
        """The backend's version."""

    @property
    def can_be_recorded(self) -> bool:
        """True where its batches may be queued as CUDA graphs."""

    def close(self) -> None:
        """Frees what it holds, once all that was queued is done; may be called again."""


class DeviceEngine:
    """Runs batches, several at a time on the device: one computes while the next goes up.

    One thread launches, any other collects. It keeps `context` current only while it works, and
    does not close it. Raises what opening the program raises, and EngineOutOfMemory.
    """

    def __init__(
        self,
        open_program: Callable[[], LoadedProgram],
        precision: Precision,
        context: Context,
        options: DeviceOptions = DEFAULT,
    ) -> None:
        self._context = context
        self._precision = precision
        self._lock = threading.Lock()
        with context.current(), ExitStack() as made:
            self._program = open_program()
            made.callback(self._program.close)
            self._memory, self._loop = _best_loop(context, self._program, options)
            made.callback(self._loop.close)
            self._owned: Optional[ExitStack] = made.pop_all()
        try:
            self._warm_up()
        except EngineError:
            self.close()
            raise

    @property
    def info(self) -> EngineInfo:
        """What serves, and the largest batch it takes at once."""
        major, minor = self._context.compute_capability
        return EngineInfo(
            backend=self._program.backend,
            version=self._program.version,
            device=f"{self._context.device_name} (sm_{major}{minor})",
            precision=self._precision.value,
            max_batch=self._program.max_batch,
            memory=self._memory,
            is_static=self._program.is_static,
        )

    @property
    def in_flight(self) -> int:
        """Batches that may be launched before one is waited for."""
        return self._loop.in_flight

    @property
    def input_wh(self) -> Tuple[int, int]:
        """Width and height of a frame in pixels."""
        return self._program.input_wh

    @property
    def stage_times(self) -> Sequence[StageTimes]:
        """What the last sampled batches took on the GPU."""
        return self._loop.samples

    def launch(self, frames: Image) -> Pending:
        """Queues frames uint8 [n, H, W, 3] BGR, untouched until `wait` has given their detections.

        Waits itself where `in_flight` batches are out.
        """
        width, height = self.input_wh
        largest = self._program.max_batch
        if frames.shape[1:] != (height, width, 3) or not 1 <= len(frames) <= largest:
            raise ValueError(
                f"expected frames (1..{largest}, {height}, {width}, 3), got {frames.shape}"
            )
        with self._lock:
            if self._owned is None:
                raise EngineError("the engine is closed")
            with self._context.current():
                return InContext(self._context, self._loop.launch(frames))

    def infer(self, frames: Image) -> NDArray[np.float32]:
        """Runs frames uint8 [n, H, W, 3] BGR; float32 [n, K, 6] that belongs to the caller."""
        return self.launch(frames).wait()

    def time_every(self, seconds: float) -> None:
        """Times the stages of a batch so often from now on, for measurements; 0 for each."""
        self._loop.time_every(seconds)

    def compute_alone(self, rows: int, batches: int) -> None:
        """Runs batches of `rows` without any copies and waits for them, for measurements."""
        with self._lock, self._context.current():
            self._loop.compute_alone(rows, batches)

    def close(self) -> None:
        """Frees what the engine holds, once all that was launched is collected; may be repeated."""
        with self._lock:
            owned, self._owned = self._owned, None
        if owned is None:
            return
        try:
            with self._context.current():
                owned.close()
        except CudaError as error:
            # After a fault of the device every call fails: the end of the process frees the rest.
            log.warning("not everything on the GPU could be freed: %s", error)

    def _warm_up(self) -> None:
        """Runs blank frames, so that the first real one neither waits nor finds a fault."""
        width, height = self.input_wh
        for count in sorted({1, self._program.max_batch}):
            detections = self.infer(np.zeros((count, height, width, 3), np.uint8))
            if not np.isfinite(detections).all():
                raise EngineError(
                    f"the engine gives no numbers (NaN) for {count} blank frame(s) in "
                    f"{self._precision.value}: the weights are damaged, or too large for it"
                )


class InContext:
    """A batch of the loop that may be waited for where the context is not current."""

    def __init__(self, context: Context, launched: Launched) -> None:
        self._context = context
        self._launched = launched

    def wait(self) -> NDArray[np.float32]:
        """Its detections, once: float32 [n, K, 6]; raises EngineError."""
        with self._context.current():
            return self._launched.wait()


def _best_loop(
    context: Context, program: LoadedProgram, options: DeviceOptions
) -> Tuple[Memory, OverlapLoop]:
    """The loop with the memory that was asked for, or the faster; quick batches get one more."""
    common = LoopOptions(
        is_high_priority=options.is_high_priority,
        has_graphs=options.has_graphs and program.can_be_recorded,
        timed_every_s=options.timed_every_s,
    )
    took_ms = _measured(context, program, common, options.memory)
    memory = min(took_ms, key=lambda memory: took_ms[memory])
    log.info(
        "a batch takes %s",
        ", ".join(f"{ms:.2f} ms with {one.value} frames" for one, ms in took_ms.items()),
    )
    in_flight = batches_in_flight(took_ms[memory], is_high_priority=options.is_high_priority)
    return memory, _loop(context, program, replace(common, in_flight=in_flight), memory)


def _measured(
    context: Context, program: LoadedProgram, common: LoopOptions, asked_for: Memory
) -> Dict[Memory, float]:
    """Milliseconds of a full batch by each way that may be the fastest; the first has to fit.

    They take turns, so all of them are there at once: what is too much is not measured.
    """
    memories = memories_to_try(asked_for, is_integrated=context.is_integrated)

    def beside_each_other(memories: Sequence[Memory]) -> Dict[Memory, float]:
        with ExitStack() as made:
            loops = {
                memory: made.enter_context(closing(_loop(context, program, common, memory)))
                for memory in memories
            }
            return _in_turn(loops, program)

    try:
        return beside_each_other(memories)
    except EngineOutOfMemory as error:
        if len(memories) == 1:
            raise
        log.info("frames go by %s, for another way has no room: %s", memories[0].value, error)
        return beside_each_other(memories[:1])


def _loop(
    context: Context, program: LoadedProgram, options: LoopOptions, memory: Memory
) -> OverlapLoop:
    return OverlapLoop(context, program, replace(options, is_mapped=memory is Memory.MAPPED))


def batches_in_flight(batch_ms: float, *, is_high_priority: bool) -> int:
    """How many batches of this time are to be out; for priority, age goes before throughput."""
    return IN_FLIGHT_WHERE_QUICK if batch_ms < _QUICK_MS and not is_high_priority else IN_FLIGHT


def memories_to_try(memory: Memory, *, is_integrated: bool) -> Sequence[Memory]:
    """What may be the fastest way for frames to reach the GPU, by what was asked for."""
    if memory is not Memory.AUTO:
        return (memory,)
    return (Memory.COPY, Memory.MAPPED) if is_integrated else (Memory.COPY,)


def _in_turn(loops: Mapping[Memory, OverlapLoop], program: Program) -> Dict[Memory, float]:
    """The best of a few trials of each loop, in milliseconds for a full batch."""
    width, height = program.input_wh
    frames = np.full((program.max_batch, height, width, 3), 77, np.uint8)
    took_ms: Dict[Memory, List[float]] = {memory: [] for memory in loops}
    for _ in range(_TRIALS + 1):
        for memory, loop in loops.items():
            took_ms[memory].append(_trial_ms(loop, frames))
    # The first trial of each also loads kernels.
    return {memory: min(times_ms[1:]) for memory, times_ms in took_ms.items()}


def _trial_ms(loop: OverlapLoop, frames: Image) -> float:
    started = time.perf_counter()
    out = [loop.launch(frames)]
    for _ in range(_TRIAL_BATCHES - 1):
        out.append(loop.launch(frames))
        out.pop(0).wait()
    out.pop().wait()
    return (time.perf_counter() - started) * 1e3 / _TRIAL_BATCHES
