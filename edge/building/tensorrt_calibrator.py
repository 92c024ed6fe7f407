"""What feeds TensorRT's calibration, and what it leaves behind: a scale for each tensor.

TensorRT swallows every exception of a calibrator and goes on with the batches it has had, so the
exceptions are kept and the batches counted here.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any, Callable, FrozenSet, Iterator, List, Optional, Tuple, Type

import numpy as np
from numpy.typing import NDArray

from edge.config.schema import CalibrationMethod
from edge.errors import BuildError, EdgeError
from edge.inference.cuda import Context, DeviceBuffer, PinnedArray, Stream

Batch = NDArray[np.float32]


class CalibrationFeeder:
    """Gives batches float32 [B, 3, H, W], counts them, and keeps the first thing that went wrong.

    `upload` takes a batch to the GPU and returns its address, good until the next batch.
    """

    def __init__(
        self,
        batches: Iterator[Batch],
        upload: Callable[[Batch], int],
        on_batch: Callable[[int], None],
    ) -> None:
        self._batches = batches
        self._upload = upload
        self._on_batch = on_batch
        self.asked = 0
        self.delivered = 0
        self.cache = b""
        self.error: Optional[BaseException] = None

    @classmethod
    def of_cache(cls, cache: bytes) -> CalibrationFeeder:
        """Has the scales of an earlier calibration, so that no batch is asked for."""
        feeder = cls(iter(()), lambda batch: 0, lambda count: None)
        feeder.cache = cache
        return feeder

    def next_batch(self) -> Optional[List[int]]:
        """The address of the next batch in a list; None at the end."""
        self.asked += 1
        with self:
            batch = next(self._batches, None)
            if batch is None:
                return None
            pointer = self._upload(batch)
            self.delivered += 1
            self._on_batch(self.delivered)
        return [pointer]

    def check(self, expected: int) -> bytes:
        """The cache that was written; BuildError unless every batch was delivered."""
        self.raise_error()
        if self.delivered != expected:
            raise BuildError(
                f"TensorRT took {self.delivered} of {expected} calibration batches; the INT8 "
                "engine would not know its value ranges"
            )
        if not self.cache:
            raise BuildError("TensorRT has calibrated but written no scales")
        return self.cache

    def raise_error(self) -> None:
        """Raises what went wrong while TensorRT was not listening; an EdgeError as it is."""
        if isinstance(self.error, EdgeError):
            raise self.error
        if self.error is not None:
            raise BuildError(f"the calibration failed: {self.error!r}") from self.error

    def __enter__(self) -> CalibrationFeeder:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.error = self.error or error


class BatchRoom:
    """Room for one batch in pinned and in GPU memory; the context must be current."""

    def __init__(self, context: Context, shape: Tuple[int, ...]) -> None:
        with ExitStack() as made:
            self._pinned = made.enter_context(PinnedArray(context, shape, np.float32))
            self._buffer = made.enter_context(DeviceBuffer(context, self._pinned.nbytes))
            self._stream = made.enter_context(Stream(context))
            self._owned = made.pop_all()

    def upload(self, batch: Batch) -> int:
        """Copies a batch to the GPU, waits for it and returns its address."""
        if batch.shape != self._pinned.array.shape:
            # TensorRT would read past its end, or calibrate on what an earlier batch left.
            raise ValueError(
                f"a calibration batch is {batch.shape}, the first was {self._pinned.array.shape}"
            )
        self._pinned.array[...] = batch
        self._stream.upload(self._buffer.pointer, self._pinned, self._pinned.nbytes)
        self._stream.synchronize()
        return self._buffer.pointer

    def close(self) -> None:
        """Frees it; may be called again."""
        self._owned.close()


def has_calibrators(trt: Any) -> bool:
    """False from TensorRT 11 on, which takes quantized graphs instead."""
    return hasattr(trt, "IInt8EntropyCalibrator2")


def as_calibrator(
    trt: Any, method: CalibrationMethod, batch: int, feeder: CalibrationFeeder
) -> Any:
    """A TensorRT calibrator that asks `feeder`; it must outlive the build."""
    base = _base(trt, method)

    def initialise(self: Any) -> None:
        base.__init__(self)

    def get_batch(self: Any, names: List[str]) -> Optional[List[int]]:
        return feeder.next_batch()

    def write_calibration_cache(self: Any, cache: Any) -> None:
        feeder.cache = bytes(cache)

    members = {
        "__init__": initialise,
        "get_batch_size": lambda self: batch,
        "get_batch": get_batch,
        # With scales at hand TensorRT asks for no batch.
        "read_calibration_cache": lambda self: feeder.cache or None,
        "write_calibration_cache": write_calibration_cache,
    }
    return type("EdgeCalibrator", (base,), members)()


def scaled_in(cache: bytes) -> FrozenSet[str]:
    """The tensors that a calibration cache has a scale for; its first line names the format."""
    _, _, body = cache.decode("utf-8", "replace").partition("\n")
    lines = (line.rpartition(":") for line in body.splitlines())
    return frozenset(name for name, _, _ in lines if name)


def _base(trt: Any, method: CalibrationMethod) -> Any:
    if method is CalibrationMethod.MINMAX:
        return trt.IInt8MinMaxCalibrator
    return trt.IInt8EntropyCalibrator2
