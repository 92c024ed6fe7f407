"""The overlap loop: while one batch computes, the next goes up and the last comes down.

Uploads have a stream to themselves, and so have downloads: a batch's compute waits for its own
upload and for nothing else, so the GPU goes from one batch's last kernel to the next one's first.
"""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Callable, Deque, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.errors import EngineError
from edge.geometry import Image
from edge.inference.cuda import Context, DeviceBuffer, Event, PinnedArray, Stream
from edge.inference.program import Program
from edge.inference.replay import Replay
from edge.records import StageTimes

IN_FLIGHT = 2
"""Batches on the device at once: one computes, the next is uploaded. More would only add age."""

IN_FLIGHT_WHERE_QUICK = 3
"""Where a batch is done before the host has handed the last one on and sent the next: on an H100 a
third one gave batches of 0.4 ms 7 to 18 % more throughput (`benchmarks.overlap`), for their age."""

TIMED_EVERY_S = 1.0
"""How often the stages of a batch are timed: events with times make a GPU work more."""

_SAMPLES_KEPT = 256
_FLOAT_BYTES = 4
_DETECTION_FLOATS = 6


@dataclass(frozen=True)
class LoopOptions:
    """How a loop runs; frames are `is_mapped` where the GPU reads them from the host's memory."""

    in_flight: int = IN_FLIGHT
    is_mapped: bool = False
    is_high_priority: bool = False
    has_graphs: bool = True
    timed_every_s: float = TIMED_EVERY_S


DEFAULT = LoopOptions()

_Mark = Callable[[Stream, Event], None]


@dataclass(frozen=True)
class Marks:
    """The moments of one batch on the GPU."""

    upload_began: Event
    upload_ended: Event
    compute_began: Event
    compute_ended: Event
    download_ended: Event

    @classmethod
    def make(cls, context: Context, made: ExitStack) -> Marks:
        """Takes five events; `made` gives them back."""
        return cls(*(made.enter_context(Event(context, has_timing=True)) for _ in range(5)))

    def times(self, rows: int) -> StageTimes:
        """What lay between them, once the last is done."""
        return StageTimes(
            rows,
            self.upload_ended.milliseconds_since(self.upload_began),
            self.compute_ended.milliseconds_since(self.compute_began),
            self.download_ended.milliseconds_since(self.compute_ended),
        )


@dataclass(frozen=True)
class Berth:
    """What one batch needs on its way: memory on both sides, and its events.

    `gpu_frames` is None where the GPU reads the frames from the host's memory.
    """

    staging: PinnedArray
    gpu_frames: Optional[DeviceBuffer]
    gpu_detections: DeviceBuffer
    detections: PinnedArray
    uploaded: Event
    computed: Event
    done: Event
    marks: Marks

    @classmethod
    def make(cls, context: Context, program: Program, made: ExitStack, *, is_mapped: bool) -> Berth:
        """Takes it all; `made` gives it back."""
        width, height = program.input_wh
        rows = program.max_batch
        shape = (rows, height, width, 3)
        staging = made.enter_context(PinnedArray(context, shape, np.uint8, is_mapped=is_mapped))
        staging.array[...] = 0
        shape_out = (rows, program.candidates, _DETECTION_FLOATS)
        detections = made.enter_context(PinnedArray(context, shape_out, np.float32))
        return cls(
            staging,
            None if is_mapped else made.enter_context(DeviceBuffer(context, staging.nbytes)),
            made.enter_context(DeviceBuffer(context, detections.nbytes)),
            detections,
            made.enter_context(Event(context)),
            made.enter_context(Event(context)),
            made.enter_context(Event(context)),
            Marks.make(context, made),
        )


class Launched:
    """A batch on the device; `wait` gives its detections, once."""

    def __init__(self, loop: OverlapLoop, berth: Berth, count: int, *, is_timed: bool) -> None:
        self._loop = loop
        self._berth: Optional[Berth] = berth
        self._count = count
        self._is_timed = is_timed

    def wait(self) -> NDArray[np.float32]:
        """Waits until the batch is done; float32 [n, K, 6] that belongs to the caller.

        Raises CudaError, also for what an earlier batch did wrong.
        """
        berth, self._berth = self._berth, None
        if berth is None:
            raise EngineError("a batch's detections were asked for twice")
        return self._loop.collect(berth, self._count, is_timed=self._is_timed)


class OverlapLoop:
    """Launches batches from one thread and collects them in another, in the order of launch.

    Frames in pinned memory of the context are read from where they are, others are copied into
    staging memory first. Made, used and closed where the context is current.
    """

    def __init__(self, context: Context, program: Program, options: LoopOptions = DEFAULT) -> None:
        self._context = context
        self._options = options
        self._max_batch = program.max_batch
        self._is_static = program.is_static
        width, height = program.input_wh
        self._frame_bytes = width * height * 3
        self._row_bytes = program.candidates * _DETECTION_FLOATS * _FLOAT_BYTES
        self._free: SimpleQueue[Berth] = SimpleQueue()
        self._timed_every_s = options.timed_every_s
        self._timed_s = -math.inf
        self._samples: Deque[StageTimes] = deque(maxlen=_SAMPLES_KEPT)
        with ExitStack() as made:
            self._copy = made.enter_context(Stream(context))
            is_high_priority = options.is_high_priority
            self._compute = made.enter_context(Stream(context, is_high_priority=is_high_priority))
            self._down = made.enter_context(Stream(context, is_high_priority=is_high_priority))
            self._streams = (self._copy, self._compute, self._down)
            is_on = options.has_graphs
            self._replay = Replay(context, program, options.in_flight, is_on=is_on)
            made.callback(self._replay.close)
            for _ in range(options.in_flight):
                self._free.put(Berth.make(context, program, made, is_mapped=options.is_mapped))
            # Closed first: no memory goes while work that uses it is still queued.
            for stream in reversed(self._streams):
                made.callback(stream.synchronize)
            self._owned = made.pop_all()

    @property
    def in_flight(self) -> int:
        """Batches that may be out at once."""
        return self._options.in_flight

    @property
    def samples(self) -> Tuple[StageTimes, ...]:
        """What the last sampled batches took, the oldest first."""
        return tuple(self._samples)

    def time_every(self, seconds: float) -> None:
        """Times the stages of a batch so often from now on; 0 times those of each."""
        self._timed_every_s = seconds

    def launch(self, frames: Image) -> Launched:
        """Queues frames uint8 [n, H, W, 3], which nobody may touch until the batch is collected.

        Waits where all of `in_flight` batches are still out. Raises CudaError or EngineError.
        """
        berth = self._free.get()
        is_timed = self._is_timed(time.monotonic())
        try:
            self._queue(frames, berth, Stream.record if is_timed else _forego)
        except EngineError:
            try:
                # Some of it may be queued: the memory is free once the streams are empty.
                for stream in self._streams:
                    stream.synchronize()
            finally:
                self._free.put(berth)
            raise
        return Launched(self, berth, len(frames), is_timed=is_timed)

    def collect(self, berth: Berth, count: int, *, is_timed: bool) -> NDArray[np.float32]:
        """Waits for a batch and copies its detections; `Launched.wait` calls it."""
        try:
            berth.done.synchronize()
            detections: NDArray[np.float32] = berth.detections.array[:count].copy()
            if is_timed:
                self._samples.append(berth.marks.times(count))
        finally:  # or whoever waits for it would wait for ever
            self._free.put(berth)
        return detections

    def compute_alone(self, rows: int, batches: int) -> None:
        """Runs batches of whatever the memory holds, with no copies; nothing else may be out."""
        berth = self._free.get()
        frames = self._frames_pointer(berth)
        rows = self._max_batch if self._is_static else rows
        try:
            for _ in range(batches):
                self._replay.enqueue(rows, frames, berth.gpu_detections.pointer, self._compute)
        finally:
            self._compute.synchronize()
            self._free.put(berth)

    def close(self) -> None:
        """Waits for what is queued and frees everything; may be called again."""
        self._owned.close()

    def _queue(self, frames: Image, berth: Berth, mark: _Mark) -> None:
        count = len(frames)
        rows = self._max_batch if self._is_static else count
        source = self._send(frames, berth, mark)
        mark(self._compute, berth.marks.compute_began)
        detections = berth.gpu_detections.pointer
        self._replay.enqueue(rows, source, detections, self._compute)
        mark(self._compute, berth.marks.compute_ended)
        self._compute.record(berth.computed)
        self._down.wait(berth.computed)
        self._down.download(berth.detections, detections, count * self._row_bytes)
        mark(self._down, berth.marks.download_ended)
        self._down.record(berth.done)

    def _send(self, frames: Image, berth: Berth, mark: _Mark) -> int:
        """Queues the upload; gives where the GPU will find the frames."""
        pinned, offset = self._pinned(frames, berth)
        if berth.gpu_frames is None:
            mark(self._compute, berth.marks.upload_began)
            mark(self._compute, berth.marks.upload_ended)
            return pinned.device_pointer + offset
        mark(self._copy, berth.marks.upload_began)
        nbytes = len(frames) * self._frame_bytes
        self._copy.upload(berth.gpu_frames.pointer, pinned, nbytes, offset)
        mark(self._copy, berth.marks.upload_ended)
        self._copy.record(berth.uploaded)
        self._compute.wait(berth.uploaded)
        return berth.gpu_frames.pointer

    def _pinned(self, frames: Image, berth: Berth) -> Tuple[PinnedArray, int]:
        """Where the frames lie in pinned memory, copied there if need be."""
        address = int(frames.__array_interface__["data"][0])
        found = self._context.pinned_at(address, len(frames) * self._frame_bytes)
        if found is not None and frames.flags.c_contiguous and self._can_read(found[0]):
            return found
        berth.staging.array[: len(frames)] = frames
        return berth.staging, 0

    def _can_read(self, pinned: PinnedArray) -> bool:
        return pinned.is_mapped or not self._options.is_mapped

    def _is_timed(self, now_s: float) -> bool:
        is_due = now_s - self._timed_s >= self._timed_every_s
        if is_due:
            self._timed_s = now_s
        return is_due

    def _frames_pointer(self, berth: Berth) -> int:
        if berth.gpu_frames is None:
            return berth.staging.device_pointer
        return berth.gpu_frames.pointer


def _forego(stream: Stream, event: Event) -> None:
    """Marks nothing."""
