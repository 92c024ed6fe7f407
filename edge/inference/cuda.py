"""CUDA's nouns: context, stream, event, pinned and device memory; the only file that knows pycuda.

Whoever makes one closes it. All but the context are made, used and closed in threads where the
context is current: inside `with context.current():`.
"""

from __future__ import annotations

import ctypes
import importlib
import math
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple, Type, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edge.errors import ConfigError, CudaError, EngineOutOfMemory
from edge.inference.cuda_driver import Driver

_STREAM_NON_BLOCKING = 1
_EVENT_BLOCKING_SYNC, _EVENT_DISABLE_TIMING = 1, 2
_HOST_DEVICE_MAP = 2

_handle = ctypes.c_void_p


class MemoryInfo(NamedTuple):
    """Bytes of the GPU's memory; where it is integrated, the machine's own."""

    free: int
    total: int


_Self = TypeVar("_Self", bound="_Closing")


class _Closing:
    """Something to close, at the end of a `with` or by hand."""

    def close(self) -> None:
        """Frees it; may be called again."""
        raise NotImplementedError

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()


class Context(_Closing):
    """The device's primary context, which TensorRT's own CUDA runtime uses too.

    It is current only inside `current()`. Closed in the thread that made it, after everything
    that was made in it. Raises ConfigError without pycuda or a driver, CudaError without a GPU.
    """

    def __init__(self, device: int = 0) -> None:
        self.driver = Driver()
        self._pycuda = _import_pycuda()
        self._pinned: Dict[int, PinnedArray] = {}
        with self.translated():
            self._pycuda.init()
            self._device = self._pycuda.Device(device)
            self._context: Optional[Any] = self._device.retain_primary_context()

    @property
    def device_name(self) -> str:
        """What the driver calls the GPU."""
        return str(self._device.name())

    @property
    def compute_capability(self) -> Tuple[int, int]:
        """Major and minor; 7.2 is Xavier, 8.7 Orin."""
        major, minor = self._device.compute_capability()
        return int(major), int(minor)

    @property
    def is_integrated(self) -> bool:
        """True where the GPU shares the machine's memory, as on a Jetson."""
        attribute = self._pycuda.device_attribute.INTEGRATED
        return bool(self._device.get_attribute(attribute))

    @contextmanager
    def current(self) -> Iterator[None]:
        """Makes the context current in this thread, and what was current before it afterwards.

        pycuda aborts the process where a thread ends with a context still on its stack.
        """
        if self._context is None:
            raise CudaError("the context is closed", "Context.current")
        with self.translated():
            self._context.push()
        try:
            yield
        finally:
            with self.translated():
                self._pycuda.Context.pop()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turns pycuda's errors into this program's."""
        try:
            yield
        except self._pycuda.MemoryError as error:
            raise EngineOutOfMemory(str(error)) from error
        except self._pycuda.Error as error:
            call, _, name = str(error).partition(" failed: ")
            raise CudaError(name or "CUDA error", call) from error

    def memory_info(self) -> MemoryInfo:
        """Free and total memory; the context must be current."""
        with self.translated():
            free, total = self._pycuda.mem_get_info()
        return MemoryInfo(int(free), int(total))

    def register(self, array: PinnedArray) -> None:
        """Lets `pinned_at` find an array, until it is forgotten."""
        self._pinned[array.pointer] = array

    def forget(self, array: PinnedArray) -> None:
        """Lets `pinned_at` find an array no more."""
        self._pinned.pop(array.pointer, None)

    def pinned_at(self, address: int, nbytes: int) -> Optional[Tuple[PinnedArray, int]]:
        """The pinned array that holds these bytes, and their offset in it; None where none does."""
        for array in list(self._pinned.values()):  # a handful: one per slot of the ring
            offset = address - array.pointer
            if offset >= 0 and offset + nbytes <= array.nbytes:
                return array, offset
        return None

    def close(self) -> None:
        """Gives the context back; may be called again."""
        context, self._context = self._context, None
        if context is not None:
            with self.translated():
                context.detach()


class Event(_Closing):
    """A point in a stream: what was queued before it is done once the event is."""

    def __init__(
        self, context: Context, *, has_timing: bool = False, blocking_sync: bool = True
    ) -> None:
        self._driver = context.driver
        flags = 0 if has_timing else _EVENT_DISABLE_TIMING
        # Blocking: the waiting thread sleeps instead of burning one of a Jetson's few cores.
        flags |= _EVENT_BLOCKING_SYNC if blocking_sync else 0
        self.handle = _handle()
        self._driver.call("cuEventCreate", ctypes.byref(self.handle), flags)

    @property
    def is_done(self) -> bool:
        """Tells whether all before it is done; also true where it was never recorded."""
        return self._driver.is_ready("cuEventQuery", self.handle)

    def synchronize(self) -> None:
        """Waits until all before it is done; other Python threads run meanwhile."""
        self._driver.call("cuEventSynchronize", self.handle)

    def milliseconds_since(self, earlier: Event) -> float:
        """Time between two events that are done; both need `has_timing`."""
        elapsed_ms = ctypes.c_float()
        arguments = (ctypes.byref(elapsed_ms), earlier.handle, self.handle)
        self._driver.call("cuEventElapsedTime", *arguments)
        return float(elapsed_ms.value)

    def close(self) -> None:
        """Destroys it; may be called again."""
        if self.handle:
            handle, self.handle = self.handle, _handle()
            self._driver.call("cuEventDestroy_v2", handle)


class DeviceBuffer(_Closing):
    """Bytes of GPU memory at `pointer`."""

    def __init__(self, context: Context, nbytes: int) -> None:
        self._driver = context.driver
        self._allocation = ctypes.c_uint64()
        self._driver.call("cuMemAlloc_v2", ctypes.byref(self._allocation), nbytes)
        self.pointer = int(self._allocation.value)
        self.nbytes = nbytes

    def close(self) -> None:
        """Frees it; may be called again."""
        if self._allocation:
            allocation, self._allocation = self._allocation, ctypes.c_uint64()
            self._driver.call("cuMemFree_v2", allocation)


class PinnedArray(_Closing):
    """Page-locked host memory as an array: the GPU copies it while Python goes on.

    Where `is_mapped`, the GPU also reads and writes it in place at `device_pointer`, which saves a
    copy where the memory is the machine's own. The array and all views of it end with `close`.
    """

    def __init__(
        self, context: Context, shape: Tuple[int, ...], dtype: DTypeLike, *, is_mapped: bool = False
    ) -> None:
        self._context = context
        self._driver = context.driver
        self._allocation = _handle()
        self.is_mapped = is_mapped
        self.nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        flags = _HOST_DEVICE_MAP if is_mapped else 0
        self._driver.call("cuMemHostAlloc", ctypes.byref(self._allocation), self.nbytes, flags)
        self.pointer = int(self._allocation.value or 0)
        memory = (ctypes.c_uint8 * self.nbytes).from_address(self.pointer)
        self.array: NDArray[Any] = np.frombuffer(memoryview(memory), dtype).reshape(shape)
        context.register(self)

    @property
    def device_pointer(self) -> int:
        """Where the GPU sees it; only where it is mapped."""
        if not self.is_mapped or not self._allocation:
            raise CudaError("the array is not mapped, or closed", "PinnedArray.device_pointer")
        pointer = ctypes.c_uint64()
        arguments = (ctypes.byref(pointer), self._allocation, 0)
        self._driver.call("cuMemHostGetDevicePointer_v2", *arguments)
        return int(pointer.value)

    def close(self) -> None:
        """Frees it; may be called again."""
        if self._allocation:
            self._context.forget(self)
            # Nobody should read freed memory through the attribute.
            self.array = np.empty(0, self.array.dtype)
            allocation, self._allocation = self._allocation, _handle()
            self._driver.call("cuMemFreeHost", allocation)


class Stream(_Closing):
    """A queue of work for the GPU, done in order; `handle` is what TensorRT takes.

    A high priority stream's work goes before that of others, as soon as a running kernel ends.
    """

    def __init__(self, context: Context, *, is_high_priority: bool = False) -> None:
        self._driver = context.driver
        self._stream = _handle()
        priority = self._highest_priority() if is_high_priority else 0
        arguments = (ctypes.byref(self._stream), _STREAM_NON_BLOCKING, priority)
        self._driver.call("cuStreamCreateWithPriority", *arguments)

    @property
    def handle(self) -> int:
        """The CUstream as a number."""
        return int(self._stream.value or 0)

    @property
    def is_done(self) -> bool:
        """Tells whether all that was queued is done."""
        return self._driver.is_ready("cuStreamQuery", self._stream)

    def upload(
        self, target_pointer: int, source: PinnedArray, nbytes: int, offset: int = 0
    ) -> None:
        """Queues a copy of pinned bytes from `offset` on to the GPU; leave them alone meanwhile."""
        _check_range(source, nbytes, offset)
        arguments = (target_pointer, source.pointer + offset, nbytes, self._stream)
        self._driver.call("cuMemcpyHtoDAsync_v2", *arguments)

    def download(
        self, target: PinnedArray, source_pointer: int, nbytes: int, offset: int = 0
    ) -> None:
        """Queues a copy from the GPU to pinned bytes from `offset` on; wait before reading them."""
        _check_range(target, nbytes, offset)
        arguments = (target.pointer + offset, source_pointer, nbytes, self._stream)
        self._driver.call("cuMemcpyDtoHAsync_v2", *arguments)

    def record(self, event: Event) -> None:
        """Queues the event behind all that was queued so far."""
        self._driver.call("cuEventRecord", event.handle, self._stream)

    def wait(self, event: Event) -> None:
        """Lets what is queued from here on wait for the event's last record; returns at once."""
        self._driver.call("cuStreamWaitEvent", self._stream, event.handle, 0)

    def synchronize(self) -> None:
        """Waits until all that was queued is done; other Python threads run meanwhile."""
        self._driver.call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Destroys it, once what was queued is done; may be called again."""
        if self._stream:
            stream, self._stream = self._stream, _handle()
            self._driver.call("cuStreamDestroy_v2", stream)

    def _highest_priority(self) -> int:
        lowest, highest = ctypes.c_int(), ctypes.c_int()
        arguments = (ctypes.byref(lowest), ctypes.byref(highest))
        self._driver.call("cuCtxGetStreamPriorityRange", *arguments)
        return int(highest.value)  # the smaller number goes first


def _check_range(pinned: PinnedArray, nbytes: int, offset: int) -> None:
    if offset < 0 or nbytes < 0 or offset + nbytes > pinned.nbytes:
        raise ValueError(f"{nbytes} bytes at {offset} are not within {pinned.nbytes}")


def _import_pycuda() -> ModuleType:
    try:
        return importlib.import_module("pycuda.driver")
    except ImportError as error:
        raise ConfigError(
            f"engine.backend: pycuda is not usable ({error}); "
            "run `pip install 'edge-vision[jetson]'`, or use onnxruntime on the CPU"
        ) from error
