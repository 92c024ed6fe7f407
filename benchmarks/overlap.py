"""Two streams beside one, and beside compute alone, on the GPU of this machine.

``python -m benchmarks.overlap --config config.yaml [--json] [--save]``

Runs the engine that `edge run` would serve with this configuration, built before by `edge build`:
serially (up, through, down, one batch after the other), overlapped (as the daemon does), and its
compute alone, with frames that are on the device already. Rounds of the three take turns. Then the
overlapped loop again without CUDA graphs, and with one batch more on the device.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

if not __package__:  # run as a file: the repository is not on the path then
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks import report
from benchmarks.timing import Way, interleave, paired_ratio, percentile
from edge.building.graph import deploy
from edge.building.laps import FramesOf, Moments, exactly, overlapped, serially
from edge.building.plan import BuildPlan
from edge.building.supply import open_supply
from edge.clock import NS_PER_MS, SystemClock
from edge.config.load import load
from edge.config.schema import Backend
from edge.errors import ConfigError
from edge.geometry import Image
from edge.health.machine import read_machine
from edge.inference.cuda import Context, DeviceBuffer, PinnedArray, Stream
from edge.inference.device import InContext
from edge.inference.engine import Pending
from edge.inference.overlap import DEFAULT, LoopOptions, OverlapLoop
from edge.inference.tensorrt import TensorRtProgram

HELD_TO = 8
"""The batch that the bars are for."""

COMPUTE_BAR = report.Bar(">=", 0.95)
SERIAL_BAR = report.Bar(">=", 1.0)
# The larger bar is for where there is something to hide: copies of three tenths of the compute.
SERIAL_BAR_WHERE_COPIES_COUNT = report.Bar(">=", 1.3)
_COPIES_COUNT = 0.3

_SLOTS = 4


class Device:
    """One engine's program, and the three ways to run it; every way returns when all is done."""

    def __init__(
        self, context: Context, program: TensorRtProgram, options: LoopOptions = DEFAULT
    ) -> None:
        self._context = context
        self.program = program
        self._made = contextlib.ExitStack()
        self.loop = OverlapLoop(context, program, options)
        self._made.callback(self.loop.close)
        width, height = program.input_wh
        shape = (program.max_batch, height, width, 3)
        self._slots = [self._slot(shape, seed) for seed in range(_SLOTS)]
        self._stream = self._made.enter_context(Stream(context))
        self._frames = self._made.enter_context(DeviceBuffer(context, self._slots[0].nbytes))

    def compute(self, batch: int, batches: int) -> None:
        """No copies at all."""
        self.loop.compute_alone(batch, batches)

    def copies(self, batch: int, batches: int) -> None:
        """Uploads alone."""
        nbytes = batch * (self._frames.nbytes // self.program.max_batch)
        for number in range(batches):
            self._stream.upload(self._frames.pointer, self._slots[number % _SLOTS], nbytes)
        self._stream.synchronize()

    def serial(self, batch: int, batches: int) -> List[Moments]:
        """One batch after the other."""
        frames_of, clock = self._frames_of(batch), time.perf_counter_ns
        return serially(self.launch, frames_of, exactly(batches), clock)

    def overlapped(self, batch: int, batches: int) -> List[Moments]:
        """As the daemon does: this thread launches, another waits."""
        return overlapped(self, self._frames_of(batch), exactly(batches), time.perf_counter_ns)

    def launch_ms(self, batch: int, batches: int) -> float:
        """What queueing one batch takes of the launching thread, nothing being in its way."""
        lap = self.serial(batch, batches)
        took_ns = sum(moments.launched_ns - moments.began_ns for moments in lap)
        return took_ns / len(lap) / NS_PER_MS

    @property
    def in_flight(self) -> int:
        """Batches that may be launched before one is waited for."""
        return self.loop.in_flight

    def launch(self, frames: Image) -> Pending:
        """Begins a batch, which any thread may wait for."""
        return InContext(self._context, self.loop.launch(frames))

    def close(self) -> None:
        """Frees everything."""
        self._made.close()

    def _frames_of(self, batch: int) -> FramesOf:
        def frames_of(number: int) -> Image:
            frames: Image = self._slots[number % _SLOTS].array[:batch]
            return frames

        return frames_of

    def _slot(self, shape: Sequence[int], seed: int) -> PinnedArray:
        slot = self._made.enter_context(PinnedArray(self._context, tuple(shape), np.uint8))
        # Never zeros: a GPU computes them faster than pictures.
        slot.array[...] = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        return slot


VARIANTS = {
    "two_in_flight": DEFAULT,
    "without_graphs": LoopOptions(has_graphs=False),
    "three_in_flight": LoopOptions(in_flight=3),
}


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs the benchmark."""
    parser = report.argument_parser(__doc__)
    parser.add_argument("--config", type=Path, required=True, help="with backend tensorrt")
    options = parser.parse_args(arguments)
    result = report.Report("overlap", options)
    config = load(options.config, os.environ)
    plan = BuildPlan.of(config, read_machine().module)
    if plan.backend is not Backend.TENSORRT:
        raise ConfigError("engine.backend: this benchmark measures tensorrt")
    graph = deploy(config.model.path, config.model)
    stop = threading.Event()
    with contextlib.closing(
        open_supply(plan, graph, lambda status: None, SystemClock(), stop)
    ) as supply:
        supplied = supply.first()
        assert supplied is not None  # nobody stops it
    with contextlib.closing(Context()) as context, context.current():
        program = TensorRtProgram(supplied.data, context, config.engine.dla_core)
        result.note(
            f"{graph.name} in {supplied.precision.value} on {context.device_name}, "
            f"TensorRT {program.version}"
        )
        rounds, batches = (3, 50) if options.quick else (15, 200)
        with contextlib.closing(program):
            with contextlib.closing(Device(context, program)) as device:
                _measure(device, rounds, batches, result)
            _compare(context, program, rounds, batches, result)
    result.publish()


def _measure(device: Device, rounds: int, batches: int, result: report.Report) -> None:
    largest = device.program.max_batch
    sizes = [largest] if device.program.is_static else _ladder(largest)
    for batch in sizes:
        took_ms = _in_turn(device, batch, rounds, batches)
        for way, values in took_ms.items():
            fps = batch * batches / percentile(values, 50) * 1e3
            result.add(f"{way}_fps_b{batch}", fps, "/s", f"batches of {batch}, {way}")
        if batch == min(HELD_TO, largest):
            _judge(took_ms, result)


def _compare(
    context: Context, program: TensorRtProgram, rounds: int, batches: int, result: report.Report
) -> None:
    """The loop's variants in turn, at the batch that the bars are for."""
    batch = min(HELD_TO, program.max_batch)
    with contextlib.ExitStack() as made:
        devices = {
            name: made.enter_context(contextlib.closing(Device(context, program, options)))
            for name, options in VARIANTS.items()
        }
        for name, device in devices.items():
            device.overlapped(batch, batches)
            # One after the other, for another loop's recordings would be of the same size.
            took_ms = interleave({name: _timed(device.overlapped, batch, batches)}, rounds)[name]
            fps = batch * batches / percentile(took_ms, 50) * 1e3
            result.add(f"overlapped_fps_{name}", fps, "/s", f"two streams, {name}")
            launch_ms = device.launch_ms(batch, batches)
            result.add(f"launch_ms_{name}", launch_ms, "ms", f"queueing one batch, {name}")
            for stage in ("upload_ms", "compute_ms", "download_ms"):
                values = [getattr(times, stage) for times in device.loop.samples]
                meaning = f"on the GPU, {name}"
                result.add(f"{stage}_{name}", percentile(values, 50), "ms", meaning)


def _judge(took_ms: Dict[str, List[float]], result: report.Report) -> None:
    share = paired_ratio(took_ms["copies"], took_ms["compute"])
    result.add("copy_over_compute", share, "times", "time of the uploads over the compute's")
    ratio = paired_ratio(took_ms["compute"], took_ms["overlapped"])
    meaning = "throughput of two streams over compute alone"
    result.add("overlap_over_compute", ratio, "times", meaning, COMPUTE_BAR)
    ratio = paired_ratio(took_ms["serial"], took_ms["overlapped"])
    bar = SERIAL_BAR_WHERE_COPIES_COUNT if share >= _COPIES_COUNT else SERIAL_BAR
    result.add("overlap_over_serial", ratio, "times", "two streams over one after the other", bar)


def _timed(run: Callable[[int, int], object], batch: int, batches: int) -> Way:
    return lambda: run(batch, batches)


def _in_turn(device: Device, batch: int, rounds: int, batches: int) -> Dict[str, List[float]]:
    ways: Dict[str, Callable[[int, int], object]] = {
        "compute": device.compute,
        "copies": device.copies,
        "serial": device.serial,
        "overlapped": device.overlapped,
    }
    for run in ways.values():
        run(batch, batches)  # warm: the first call after a change of shape is slow

    started = time.monotonic()
    took_ms = interleave({way: _timed(run, batch, batches) for way, run in ways.items()}, rounds)
    print(f"batch {batch}: {time.monotonic() - started:.1f} s", file=sys.stderr)
    return took_ms


def _ladder(largest: int) -> List[int]:
    return [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= largest]


if __name__ == "__main__":
    main()
