"""The real driver and pycuda."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import ExitStack
from typing import List

import numpy as np
import pytest

from edge.errors import EngineOutOfMemory
from edge.inference.cuda import Context, DeviceBuffer, Event, PinnedArray, Stream

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(580)]

NBYTES = 1 << 24


def test_the_device(context: Context) -> None:
    assert context.device_name
    assert context.compute_capability >= (5, 0)
    with context.current():
        free, total = context.memory_info()
    assert 0 < free <= total


@pytest.mark.parametrize("is_high_priority", [False, True], ids=["usual", "high priority"])
def test_bytes_go_up_and_down(context: Context, is_high_priority: bool) -> None:
    with context.current(), ExitStack() as made:
        up = made.enter_context(PinnedArray(context, (NBYTES,), np.uint8))
        down = made.enter_context(PinnedArray(context, (NBYTES,), np.uint8))
        buffer = made.enter_context(DeviceBuffer(context, NBYTES))
        stream = made.enter_context(Stream(context, is_high_priority=is_high_priority))
        begun = made.enter_context(Event(context, has_timing=True))
        done = made.enter_context(Event(context, has_timing=True))
        up.array[...] = np.arange(NBYTES, dtype=np.uint32).astype(np.uint8)
        down.array[...] = 0
        stream.record(begun)
        stream.upload(buffer.pointer, up, NBYTES)
        stream.download(down, buffer.pointer + 5, 1000, offset=7)
        stream.record(done)
        done.synchronize()
        assert done.is_done
        assert stream.is_done
        assert stream.handle
        assert done.milliseconds_since(begun) > 0
        np.testing.assert_array_equal(down.array[7:1007], up.array[5:1005])
        assert not down.array[:7].any()
        assert not down.array[1007:].any()


def test_one_stream_waits_for_another(context: Context) -> None:
    with context.current(), ExitStack() as made:
        up = made.enter_context(PinnedArray(context, (NBYTES,), np.uint8))
        down = made.enter_context(PinnedArray(context, (NBYTES,), np.uint8))
        buffer = made.enter_context(DeviceBuffer(context, NBYTES))
        copy, compute = (made.enter_context(Stream(context)) for _ in range(2))
        uploaded = made.enter_context(Event(context))
        for value in range(20):
            up.array[...] = value
            copy.upload(buffer.pointer, up, NBYTES)
            copy.record(uploaded)
            compute.wait(uploaded)
            compute.download(down, buffer.pointer, NBYTES)
            compute.synchronize()
            assert (down.array == value).all()


def test_mapped_memory_is_seen_by_the_gpu(context: Context) -> None:
    with context.current(), ExitStack() as made:
        mapped = made.enter_context(PinnedArray(context, (1000,), np.uint8, is_mapped=True))
        down = made.enter_context(PinnedArray(context, (1000,), np.uint8))
        stream = made.enter_context(Stream(context))
        mapped.array[...] = 7
        stream.download(down, mapped.device_pointer, 1000)
        stream.synchronize()
        assert (down.array == 7).all()


def test_too_much_memory_is_out_of_memory(context: Context) -> None:
    with context.current():
        _, total = context.memory_info()
        with pytest.raises(EngineOutOfMemory):
            DeviceBuffer(context, total * 2)
        with DeviceBuffer(context, 1000):
            pass


def test_many_threads_share_the_context(context: Context) -> None:
    failures: List[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                with context.current(), DeviceBuffer(context, 1 << 20), Stream(context) as stream:
                    stream.synchronize()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


ENDINGS = {
    "closed": "context.close()",
    "left open": "pass",
    "buffers left open": "keep = [cuda.DeviceBuffer(context, 99), cuda.Stream(context)]",
    "an exception": "raise SystemExit(0)",
    "made again": "context.close(); context = cuda.Context(); context.close()",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_the_process_ends_cleanly(context: Context, ending: str) -> None:
    script = (
        "import threading\n"
        "from edge.inference import cuda\n"
        "context = cuda.Context()\n"
        "def work():\n"
        "    with context.current():\n"
        "        cuda.DeviceBuffer(context, 1000).close()\n"
        "work()\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
        "with context.current():\n"
        f"    {'pass' if 'close' in ending else ending}\n"
        f"{ending if 'close' in ending else ''}\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    assert b"PyCUDA ERROR" not in result.stderr
