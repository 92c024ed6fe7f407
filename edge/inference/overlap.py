"""The overlap loop: while one batch computes, the next goes up and the last comes down.

Uploads have a stream to themselves. A batch's compute waits for its own upload only, and its small
result follows on the compute stream, so no download ever stands before the next upload.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Optional, Protocol, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.errors import EngineError
from edge.geometry import Image
from edge.inference.cuda import Context, DeviceBuffer, Event, PinnedArray, Stream

IN_FLIGHT = 2
"""Batches on the device at once: one computes, the next is uploaded. More would only add age."""


class Program(Protocol):
    """A network on the device; `max_batch` rows at most, exactly so many where it is static."""

    @property
    def max_batch(self) -> int:
        """The largest batch of one call."""

    @property
    def is_static(self) -> bool:
        """True where every call has `max_batch` rows."""

    @property
    def input_wh(self) -> Tuple[int, int]:
        """Width and height of a frame in pixels."""

    @property
    def candidates(self) -> int:
        """Rows of detections for each frame."""

    def enqueue(
        self, rows: int, frames_pointer: int, detections_pointer: int, stream: Stream
    ) -> None:
        """Queues one batch on a stream, from and to GPU memory that nobody touches meanwhile."""


@dataclass(frozen=True)
class Berth:
    """What one batch needs on its way: memory on both sides, and its two events."""

    staging: PinnedArray
    gpu_frames: DeviceBuffer
    gpu_detections: DeviceBuffer
    detections: PinnedArray
    uploaded: Event
    done: Event

    @classmethod
    def make(cls, context: Context, program: Program, made: ExitStack) -> Berth:
        """Takes it all; `made` gives it back."""
        width, height = program.input_wh
        rows = program.max_batch
        staging = made.enter_context(PinnedArray(context, (rows, height, width, 3), np.uint8))
        staging.array[...] = 0
        shape = (rows, program.candidates, 6)
        detections = made.enter_context(PinnedArray(context, shape, np.float32))
        return cls(
            staging,
            made.enter_context(DeviceBuffer(context, staging.nbytes)),
            made.enter_context(DeviceBuffer(context, detections.nbytes)),
            detections,
            made.enter_context(Event(context)),
            made.enter_context(Event(context)),
        )


class Launched:
    """A batch on the device; `wait` gives its detections, once."""

    def __init__(self, loop: OverlapLoop, berth: Berth, count: int) -> None:
        self._loop = loop
        self._berth: Optional[Berth] = berth
        self._count = count

    def wait(self) -> NDArray[np.float32]:
        """Waits until the batch is done; float32 [n, K, 6] that belongs to the caller.

        Raises CudaError, also for what an earlier batch did wrong.
        """
        berth, self._berth = self._berth, None
        if berth is None:
            raise EngineError("a batch's detections were asked for twice")
        return self._loop.collect(berth, self._count)


class OverlapLoop:
    """Launches batches from one thread and collects them in another, in the order of launch.

    Frames in pinned memory of the context go up from where they are, others are copied into
    staging memory first. Made, used and closed where the context is current.
    """

    def __init__(self, context: Context, program: Program, in_flight: int = IN_FLIGHT) -> None:
        self._context = context
        self._program = program
        width, height = program.input_wh
        self._frame_bytes = width * height * 3
        self._free: SimpleQueue[Berth] = SimpleQueue()
        with ExitStack() as made:
            self._copy = made.enter_context(Stream(context))
            self._compute = made.enter_context(Stream(context))
            for _ in range(in_flight):
                self._free.put(Berth.make(context, program, made))
            # Closed first: no memory goes while work that uses it is still queued.
            made.callback(self._compute.synchronize)
            made.callback(self._copy.synchronize)
            self._owned = made.pop_all()

    def launch(self, frames: Image) -> Launched:
        """Queues frames uint8 [n, H, W, 3], which nobody may touch until the batch is collected.

        Waits where all of `in_flight` batches are still out. Raises CudaError or EngineError.
        """
        berth = self._free.get()
        try:
            self._queue(frames, berth)
        except EngineError:
            # Some of it may be queued: the memory is free once the streams are empty.
            self._copy.synchronize()
            self._compute.synchronize()
            self._free.put(berth)
            raise
        return Launched(self, berth, len(frames))

    def collect(self, berth: Berth, count: int) -> NDArray[np.float32]:
        """Waits for a batch and copies its detections; `Launched.wait` calls it."""
        berth.done.synchronize()
        detections: NDArray[np.float32] = berth.detections.array[:count].copy()
        self._free.put(berth)
        return detections

    def close(self) -> None:
        """Waits for what is queued and frees everything; may be called again."""
        self._owned.close()

    def _queue(self, frames: Image, berth: Berth) -> None:
        count = len(frames)
        rows = self._program.max_batch if self._program.is_static else count
        self._send(frames, berth)
        detections = berth.gpu_detections.pointer
        self._program.enqueue(rows, berth.gpu_frames.pointer, detections, self._compute)
        row_bytes = berth.detections.nbytes // self._program.max_batch
        self._compute.download(berth.detections, detections, count * row_bytes)
        self._compute.record(berth.done)

    def _send(self, frames: Image, berth: Berth) -> None:
        nbytes = len(frames) * self._frame_bytes
        source, offset = self._pinned(frames, berth)
        self._copy.upload(berth.gpu_frames.pointer, source, nbytes, offset)
        self._copy.record(berth.uploaded)
        self._compute.wait(berth.uploaded)

    def _pinned(self, frames: Image, berth: Berth) -> Tuple[PinnedArray, int]:
        """Where the frames lie in pinned memory, copied there if need be."""
        address = int(frames.__array_interface__["data"][0])
        found = self._context.pinned_at(address, len(frames) * self._frame_bytes)
        if found is not None and frames.flags.c_contiguous:
            return found
        berth.staging.array[: len(frames)] = frames
        return berth.staging, 0
