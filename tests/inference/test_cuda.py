from __future__ import annotations

import importlib
import shutil
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import numpy as np
import pytest

from edge.errors import ConfigError, CudaError, EngineError, EngineOutOfMemory
from edge.inference import cuda
from edge.inference.cuda import Context, DeviceBuffer, Event, PinnedArray, Stream
from edge.inference.cuda_driver import Driver
from edge.inference.cuda_graph import Graph
from tests.inference.host_cuda import HostCuda, PycudaError


@contextmanager
def ready(host: Optional[HostCuda] = None) -> Iterator[Context]:
    """A context that is current."""
    with (host or HostCuda()).context() as context, context.current():
        yield context


def test_the_device_is_described() -> None:
    with HostCuda().context() as context:
        assert context.device_name == "Xavier"
        assert context.compute_capability == (7, 2)
        assert context.is_integrated
        with context.current():
            assert context.memory_info() == (1 << 30, 1 << 33)


def test_bytes_go_up_and_come_down_once_waited_for() -> None:
    with ready() as context, ExitStack() as made:
        up = made.enter_context(PinnedArray(context, (4, 8), np.uint8))
        down = made.enter_context(PinnedArray(context, (4, 8), np.uint8))
        buffer = made.enter_context(DeviceBuffer(context, 32))
        stream = made.enter_context(Stream(context))
        done = made.enter_context(Event(context))
        up.array[...] = np.arange(32).reshape(4, 8)
        stream.upload(buffer.pointer, up, up.nbytes)
        stream.download(down, buffer.pointer, 16, offset=8)
        stream.record(done)
        assert not done.is_done
        assert not stream.is_done
        done.synchronize()
        assert done.is_done
        np.testing.assert_array_equal(down.array.ravel()[8:24], np.arange(16))
        assert set(down.array.ravel()[24:]) == {0xA5}


def test_a_stream_waits_for_another_ones_event() -> None:
    host = HostCuda()
    order: List[str] = []
    with ready(host) as context, Stream(context) as copy, Stream(context) as compute:
        uploaded = Event(context)
        host.enqueue(copy.handle, lambda: order.append("upload"))
        copy.record(uploaded)
        compute.wait(uploaded)
        host.enqueue(compute.handle, lambda: order.append("compute"))
        compute.synchronize()
        uploaded.close()
    assert order == ["upload", "compute"]


def test_only_the_high_priority_stream_has_a_priority() -> None:
    host = HostCuda()
    with ready(host) as context, Stream(context) as usual:
        assert host.priorities[usual.handle] == 0
        with Stream(context, is_high_priority=True) as urgent:
            assert host.priorities[urgent.handle] == -5


def test_times_between_events() -> None:
    with ready() as context, Event(context, has_timing=True) as first:
        second = Event(context, has_timing=True)
        assert second.milliseconds_since(first) == 1.5
        second.close()


def test_closing_twice_frees_once() -> None:
    with ready() as context:
        things: List[Any] = [
            DeviceBuffer(context, 8),
            PinnedArray(context, (8,), np.uint8),
            Stream(context),
            Event(context),
        ]
        for thing in things * 2:
            thing.close()
        assert things[1].array.size == 0


def test_a_closed_context_cannot_become_current() -> None:
    with HostCuda().context() as context:
        context.close()
        with pytest.raises(CudaError, match="closed"), context.current():
            pass


def test_the_stack_is_clean_after_an_error_and_in_every_thread() -> None:
    host = HostCuda()
    depths: List[int] = []
    with host.context() as context:
        with pytest.raises(ZeroDivisionError), context.current(), context.current():
            raise ZeroDivisionError
        assert host.stack == 0

        def work() -> None:
            with context.current():
                depths.append(host.stack)
            depths.append(host.stack)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert depths == [1, 0]


def test_mapped_memory_has_an_address_on_the_gpu_and_other_memory_has_none() -> None:
    with ready() as context:
        with PinnedArray(context, (8,), np.uint8, is_mapped=True) as mapped:
            assert mapped.device_pointer == mapped.pointer
        with pytest.raises(CudaError, match="closed"):
            _ = mapped.device_pointer
        with PinnedArray(context, (8,), np.uint8) as pinned, pytest.raises(CudaError):
            _ = pinned.device_pointer


OUTSIDE = {"behind": (4, 5), "negative offset": (4, -1), "too long": (9, 0), "negative": (-1, 0)}


@pytest.mark.parametrize(("nbytes", "offset"), OUTSIDE.values(), ids=OUTSIDE)
def test_a_copy_stays_within_the_pinned_memory(nbytes: int, offset: int) -> None:
    with ready() as context, PinnedArray(context, (8,), np.uint8) as pinned:
        stream = Stream(context)
        with pytest.raises(ValueError, match="not within 8"):
            stream.upload(0, pinned, nbytes, offset)
        with pytest.raises(ValueError, match="not within 8"):
            stream.download(pinned, 0, nbytes, offset)
        stream.close()


def test_errors_of_pycuda_and_of_memory_become_ours() -> None:
    host = HostCuda(free_bytes=100)
    with ready(host) as context:
        with pytest.raises(EngineOutOfMemory, match="cuMemAlloc_v2 failed"):
            DeviceBuffer(context, 101)
        with pytest.raises(CudaError) as caught, context.translated():
            raise PycudaError("cuMemcpyHtoD failed: an illegal memory access was encountered")
        assert caught.value.call == "cuMemcpyHtoD"
        assert caught.value.name == "an illegal memory access was encountered"
        with pytest.raises(CudaError, match="no active context"), context.translated():
            raise PycudaError("explicit: no active context")


def test_without_a_driver_the_message_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"engine\.backend: there is no NVIDIA driver") as caught:
        Driver("libcuda-is-not-here.so")
    assert "\n" not in str(caught.value)


def test_without_pycuda_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'edge-vision\[jetson\]'") as caught:
        cuda._import_pycuda()
    assert "\n" not in str(caught.value)


# --- the driver itself, in C: what ctypes passes is what CUDA gets --------------------------------

FAKE_DRIVER = """
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
typedef int R;
R cuCtxGetStreamPriorityRange(int *low, int *high) { *low = 0; *high = -3; return 0; }
R cuStreamCreateWithPriority(void **s, unsigned flags, int priority) {
  *s = (void *)(uintptr_t)(0x7f0000000000ull + flags * 16 + (priority == -3)); return 0; }
R cuStreamDestroy_v2(void *s) { return (uintptr_t)s > 0xffffffffull ? 0 : 400; }
R cuStreamSynchronize(void *s) { return (uintptr_t)s > 0xffffffffull ? 719 : 400; }
R cuStreamQuery(void *s) { return 600; }
R cuStreamWaitEvent(void *s, void *e, unsigned f) { return s && e && !f ? 0 : 400; }
R cuEventCreate(void **e, unsigned flags) {
  *e = (void *)(uintptr_t)(0x7e0000000000ull + flags); return 0; }
R cuEventDestroy_v2(void *e) { return 0; }
R cuEventRecord(void *e, void *s) {
  return (uintptr_t)e >> 40 == 0x7e && (uintptr_t)s >> 40 == 0x7f ? 0 : 400; }
R cuEventQuery(void *e) { return 0; }
R cuEventSynchronize(void *e) { return 2; }
R cuEventElapsedTime(float *ms, void *a, void *b) { *ms = a != b ? 2.5f : 0; return 0; }
R cuMemAlloc_v2(uint64_t *d, size_t n) { *d = (uint64_t)malloc(n); return 0; }
R cuMemFree_v2(uint64_t d) { free((void *)d); return 0; }
R cuMemHostAlloc(void **h, size_t n, unsigned f) { *h = malloc(n + f); return f & ~2 ? 1 : 0; }
R cuMemHostGetDevicePointer_v2(uint64_t *d, void *h, unsigned f) {
  *d = (uint64_t)h + 1; return f; }
R cuMemFreeHost(void *h) { free(h); return 0; }
R cuMemcpyHtoDAsync_v2(uint64_t d, const void *h, size_t n, void *s) {
  memcpy((void *)d, h, n); return 0; }
R cuMemcpyDtoHAsync_v2(void *h, uint64_t d, size_t n, void *s) {
  memcpy(h, (void *)d, n); return 0; }
R cuStreamBeginCapture_v2(void *s, int mode) { return mode == 1 ? 0 : 1; }
R cuStreamEndCapture(void *s, void **g) { *g = (void *)(0x7D0000000000 + 5); return 0; }
R cuGraphInstantiateWithFlags(void **e, void *g, uint64_t flags) {
  *e = (void *)(0x7C0000000000 + 6); return g == (void *)(0x7D0000000000 + 5) ? (int)flags : 1; }
R cuGraphLaunch(void *e, void *s) { return e == (void *)(0x7C0000000000 + 6) ? 0 : 1; }
R cuGraphDestroy(void *g) { return g == (void *)(0x7D0000000000 + 5) ? 0 : 1; }
R cuGraphExecDestroy(void *e) { return e == (void *)(0x7C0000000000 + 6) ? 0 : 1; }
R cuGetErrorName(int code, const char **name) {
  *name = code == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : 0;
  return *name ? 0 : 1; }
"""


class DriverContext:
    """As much of a context as streams, events and memory need."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.registered: List[PinnedArray] = []

    def register(self, array: PinnedArray) -> None:
        self.registered.append(array)

    def forget(self, array: PinnedArray) -> None:
        self.registered.remove(array)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is needed to build a driver")
    folder: Path = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(FAKE_DRIVER)
    command = ["gcc", "-w", "-shared", "-fPIC", "-o", "libcuda-fake.so", "driver.c"]
    subprocess.run(command, cwd=str(folder), check=True)
    return DriverContext(Driver(str(folder / "libcuda-fake.so")))


def test_handles_and_pointers_keep_all_their_bits(context: Any) -> None:
    stream, event = Stream(context), Event(context)
    # flags: non-blocking; disable timing and blocking sync
    assert stream.handle == 0x7F0000000000 + 16
    assert event.handle.value == 0x7E0000000000 + 3
    stream.record(event)
    stream.wait(event)
    assert event.is_done
    assert not stream.is_done
    assert Stream(context, is_high_priority=True).handle == 0x7F0000000000 + 17
    assert Event(context, has_timing=True).milliseconds_since(event) == 2.5


def test_copies_get_whole_addresses(context: Any) -> None:
    with ExitStack() as made:
        up = made.enter_context(PinnedArray(context, (8, 4), np.uint16))
        down = made.enter_context(PinnedArray(context, (64,), np.uint8, is_mapped=True))
        gpu = made.enter_context(DeviceBuffer(context, 64))
        stream = made.enter_context(Stream(context))
        assert (up.nbytes, down.nbytes, gpu.nbytes) == (64, 64, 64)
        up.array[...] = np.arange(32).reshape(8, 4)
        down.array[...] = 0
        stream.upload(gpu.pointer, up, 32, 32)
        stream.download(down, gpu.pointer, 16, 8)
        np.testing.assert_array_equal(down.array[8:24], up.array.view(np.uint8).ravel()[32:48])
        assert not down.array[24:].any()
        assert down.device_pointer == down.pointer + 1
        assert context.registered == [up, down]
    assert context.registered == []


def test_graphs_keep_all_their_bits(context: Any) -> None:
    stream = Stream(context)
    graph = Graph(context, stream, lambda: None)
    graph.launch(stream)
    graph.close()
    graph.close()


FAILURES: Dict[str, Any] = {
    "named": (lambda c: Stream(c).synchronize(), CudaError, "CUDA_ERROR_LAUNCH_FAILED"),
    "memory": (lambda c: Event(c).synchronize(), EngineOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY"),
}


@pytest.mark.parametrize(("act", "kind", "name"), FAILURES.values(), ids=FAILURES)
def test_a_code_becomes_an_error_with_its_name_and_call(
    context: Any, act: Callable[[Any], None], kind: Any, name: str
) -> None:
    with pytest.raises(EngineError, match=rf"cu\w+Synchronize failed: {name}") as caught:
        act(context)
    assert type(caught.value) is kind


def test_a_code_without_a_name_is_told_as_a_number(context: Any) -> None:
    with pytest.raises(CudaError, match="cuStreamDestroy_v2 failed: CUDA error 400"):
        context.driver.call("cuStreamDestroy_v2", 1)


def test_a_driver_that_is_too_old_says_so(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is needed to build a driver")
    (tmp_path / "old.c").write_text("int cuStreamSynchronize(void *s) { return 0; }")
    command = ["gcc", "-shared", "-fPIC", "-o", "libcuda-old.so", "old.c"]
    subprocess.run(command, cwd=str(tmp_path), check=True)
    with pytest.raises(ConfigError, match=r"older than CUDA 11\.4"):
        Driver(str(tmp_path / "libcuda-old.so"))
