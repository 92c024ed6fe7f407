"""CUDA on the host: a driver and a pycuda that keep CUDA's rules without a GPU.

What is queued on a stream happens when somebody waits for it, not before, so whoever reads too
early reads what was there before. Calls without a current context, with freed memory or with a
closed handle fail, and everything made must be freed.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest

from edge.errors import CudaError, EngineOutOfMemory
from edge.inference import cuda, free_memory

POISON = 0xA5
Work = Callable[[], None]


class PycudaError(Exception):
    """pycuda.driver.Error."""


class PycudaMemoryError(PycudaError):
    """pycuda.driver.MemoryError."""


class Allocation(bytearray):
    """Memory of the host or the GPU; poisoned, so that nobody takes it for zeros."""

    def __new__(cls, *_: Any) -> Allocation:
        return super().__new__(cls)

    def __init__(self, host: HostCuda, nbytes: int) -> None:
        super().__init__(bytes([POISON]) * nbytes)
        self.view = np.frombuffer(self, np.uint8)
        self.address = int(self.view.ctypes.data)
        host.memory[self.address] = self


class HostCuda:
    """The machine: its memory, its streams' queues, and each thread's stack of contexts."""

    def __init__(
        self,
        free_bytes: int = 1 << 30,
        capability: Tuple[int, int] = (7, 2),
        *,
        is_integrated: bool = True,
    ) -> None:
        self.is_integrated = is_integrated
        self.free_bytes = free_bytes
        self.capability = capability
        self.memory: Dict[int, Allocation] = {}
        self.queues: Dict[int, List[Work]] = {}
        self.done: Dict[int, int] = {}  # stream -> how much of what was queued is done
        # event -> the stream it was recorded on, or 0, and how much was queued there by then
        self.events: Dict[int, Tuple[int, int]] = {}
        self.priorities: Dict[int, int] = {}
        self.synchronized: List[int] = []
        self.recording: Dict[int, List[Work]] = {}  # stream -> what is recorded, not done
        self.graphs: Dict[int, List[Work]] = {}
        self.launches = 0
        self._local = threading.local()
        self._doing = threading.RLock()
        self._next_handle = 1000
        self.fail: Dict[str, str] = {}  # call -> name of the error it gives

    # --- for tests

    @contextmanager
    def context(self) -> Iterator[cuda.Context]:
        """A context of this machine; all that was made must have been closed by its end."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cuda, "Driver", lambda: self)
            patch.setattr(cuda, "_import_pycuda", self._pycuda)
            context = cuda.Context()
        try:
            with pytest.MonkeyPatch.context() as patch:
                # Its memory is all there is, whatever the machine beneath has.
                patch.setattr(free_memory, "available_bytes", lambda: 0)
                yield context
        finally:  # after an error too
            context.close()
            assert self.stack == 0, "a context was left current"
            assert not self.memory, "memory was not freed"
            assert not self.queues, "a stream was not closed"
            assert not self.events, "an event was not closed"
            assert not self.graphs, "a graph was not closed"

    @property
    def stack(self) -> int:
        return int(getattr(self._local, "depth", 0))

    def require_current(self, call: str) -> None:
        if self.stack == 0:
            raise CudaError("CUDA_ERROR_INVALID_CONTEXT", call)

    def enqueue(self, stream: int, work: Work) -> None:
        """Queues work, as a kernel would be."""
        self.require_current("launch")
        self._append(stream, work)

    def bytes_at(self, pointer: int, nbytes: int) -> Any:
        """A view of memory that is there; CudaError where it was freed or ends before."""
        for address, allocation in self.memory.items():
            if address <= pointer and pointer + nbytes <= address + len(allocation):
                return allocation.view[pointer - address : pointer - address + nbytes]
        raise CudaError("CUDA_ERROR_ILLEGAL_ADDRESS", "copy")

    # --- the driver

    def call(self, name: str, *arguments: Any) -> None:
        self.require_current(name)
        if name in self.fail:
            raise CudaError(self.fail[name], name)
        getattr(self, name)(*arguments)

    def is_ready(self, name: str, handle: Any) -> bool:
        self.require_current(name)
        if name == "cuStreamQuery":
            return not self.queues[handle.value]
        stream, count = self.events[handle.value]
        return self.done.get(stream, 0) >= count

    def cuCtxGetStreamPriorityRange(self, lowest: Any, highest: Any) -> None:
        lowest._obj.value, highest._obj.value = 0, -5

    def cuStreamCreateWithPriority(self, out: Any, flags: int, priority: int) -> None:
        self.queues[self._make(out)] = []
        self.priorities[out._obj.value] = priority

    def cuStreamDestroy_v2(self, stream: Any) -> None:
        self._flush(stream.value)
        del self.queues[stream.value]

    def cuStreamSynchronize(self, stream: Any) -> None:
        assert stream.value not in self.recording, "nobody may wait while a stream records"
        self.synchronized.append(stream.value)
        self._flush(stream.value)

    def cuStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> None:
        recorded = self.events[event.value]
        self._append(stream.value, lambda: self._flush(*recorded))

    def cuEventCreate(self, out: Any, flags: int) -> None:
        self.events[self._make(out)] = (0, 0)

    def cuEventDestroy_v2(self, event: Any) -> None:
        del self.events[event.value]

    def cuEventRecord(self, event: Any, stream: Any) -> None:
        assert stream.value not in self.recording, "an event of a graph is none of the stream"
        count = self.done.get(stream.value, 0) + len(self.queues[stream.value])
        self.events[event.value] = (stream.value, count)

    def cuEventSynchronize(self, event: Any) -> None:
        self._flush(*self.events[event.value])

    def cuEventElapsedTime(self, out: Any, earlier: Any, later: Any) -> None:
        out._obj.value = 1.5

    def cuMemAlloc_v2(self, out: Any, nbytes: int) -> None:
        if nbytes > self.free_bytes:
            raise EngineOutOfMemory("cuMemAlloc_v2 failed: CUDA_ERROR_OUT_OF_MEMORY")
        out._obj.value = Allocation(self, nbytes).address

    def cuMemHostAlloc(self, out: Any, nbytes: int, flags: int) -> None:
        out._obj.value = Allocation(self, nbytes).address

    def cuMemHostGetDevicePointer_v2(self, out: Any, host: Any, flags: int) -> None:
        out._obj.value = host.value

    def cuMemFree_v2(self, pointer: Any) -> None:
        del self.memory[pointer.value]

    def cuMemFreeHost(self, pointer: Any) -> None:
        del self.memory[pointer.value]

    def cuMemcpyHtoDAsync_v2(self, target: int, source: int, nbytes: int, stream: Any) -> None:
        self._copy(target, source, nbytes, stream)

    def cuMemcpyDtoHAsync_v2(self, target: int, source: int, nbytes: int, stream: Any) -> None:
        self._copy(target, source, nbytes, stream)

    def _copy(self, target: int, source: int, nbytes: int, stream: Any) -> None:
        def copy() -> None:
            self.bytes_at(target, nbytes)[:] = self.bytes_at(source, nbytes)

        self._append(stream.value, copy)

    def cuStreamBeginCapture_v2(self, stream: Any, mode: int) -> None:
        assert stream.value not in self.recording
        self.recording[stream.value] = []

    def cuStreamEndCapture(self, stream: Any, out: Any) -> None:
        work = self.recording.pop(stream.value)
        self.graphs[self._make(out)] = work

    def cuGraphInstantiateWithFlags(self, out: Any, graph: Any, flags: int) -> None:
        self.graphs[self._make(out)] = self.graphs[graph.value]

    def cuGraphDestroy(self, graph: Any) -> None:
        del self.graphs[graph.value]

    def cuGraphExecDestroy(self, graph: Any) -> None:
        queued = [work for queue in self.queues.values() for work in queue]
        assert not any(work in queued for work in self.graphs[graph.value]), "it is queued still"
        del self.graphs[graph.value]

    def cuGraphLaunch(self, graph: Any, stream: Any) -> None:
        self.launches += 1
        self.queues[stream.value].extend(self.graphs[graph.value])

    def _append(self, stream: int, work: Work) -> None:
        self.recording.get(stream, self.queues[stream]).append(work)

    def _flush(self, stream: int, until: Optional[int] = None) -> None:
        """Does what is queued on a stream, or only the first `until` of all that ever was."""
        # One at a time: what somebody else has begun is not done yet.
        with self._doing:
            queue = self.queues.get(stream, [])
            while queue and (until is None or self.done.get(stream, 0) < until):
                self.done[stream] = self.done.get(stream, 0) + 1
                queue.pop(0)()

    def _make(self, out: Any) -> int:
        self._next_handle += 1
        out._obj.value = self._next_handle
        return self._next_handle

    # --- pycuda

    def _pycuda(self) -> Any:
        context = SimpleNamespace(push=self._push, detach=lambda: None)
        device = SimpleNamespace(
            name=lambda: "Xavier",
            compute_capability=lambda: self.capability,
            get_attribute=lambda attribute: attribute == "INTEGRATED" and self.is_integrated,
            retain_primary_context=lambda: context,
        )
        return SimpleNamespace(
            init=lambda: None,
            Device=lambda index: device,
            Context=SimpleNamespace(pop=self._pop),
            Error=PycudaError,
            MemoryError=PycudaMemoryError,
            device_attribute=SimpleNamespace(INTEGRATED="INTEGRATED"),
            mem_get_info=lambda: (self.free_bytes, 1 << 33),
        )

    def _push(self) -> None:
        self._local.depth = self.stack + 1

    def _pop(self) -> None:
        self._local.depth = self.stack - 1
