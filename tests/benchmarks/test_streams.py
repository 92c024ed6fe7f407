"""That an engine is driven as the daemon drives it, and that every batch is measured."""

from __future__ import annotations

import threading
from typing import List, Sequence, Tuple

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.streams import Streams
from edge.config.schema import Memory
from edge.errors import CudaError
from edge.geometry import Image
from edge.records import EngineInfo, StageTimes

INPUT_WH = (64, 32)
CANDIDATES = 20


class PretendGpu:
    """Takes two batches at once; what it is asked for is written down."""

    in_flight = 2
    input_wh = INPUT_WH
    info = EngineInfo("onnxruntime", "1", "GPU", "fp32", 8, Memory.COPY)

    def __init__(self) -> None:
        self.launched: List[int] = []
        self.computed: List[Tuple[int, int]] = []
        self.pointers: List[int] = []
        self.out = 0
        self.most_out = 0
        self.fails_at = -1
        self.gate = threading.Event()
        self.gate.set()
        self.every_s = 1.0
        self._samples: List[StageTimes] = []
        self._lock = threading.Lock()

    @property
    def stage_times(self) -> Sequence[StageTimes]:
        return tuple(self._samples)

    def time_every(self, seconds: float) -> None:
        self.every_s = seconds

    def compute_alone(self, rows: int, batches: int) -> None:
        self.computed.append((rows, batches))

    def infer(self, frames: Image) -> NDArray[np.float32]:
        return self.launch(frames).wait()

    def launch(self, frames: Image) -> PretendBatch:
        assert frames.any(), "zeros are computed faster than pictures"
        with self._lock:
            self.out += 1
            self.most_out = max(self.most_out, self.out)
        if self.every_s == 0:
            took_ms = 1.0 + len(self._samples)
            self._samples.append(StageTimes(len(frames), took_ms, 2 * took_ms, 3 * took_ms))
        self.pointers.append(frames.ctypes.data)
        self.launched.append(len(frames))
        if self.out == self.in_flight:
            self.gate.set()
        return PretendBatch(self, len(self.launched) - 1, len(frames))

    def end_one(self, number: int) -> None:
        if number == self.fails_at:
            raise CudaError("CUDA_ERROR_ILLEGAL_ADDRESS", "cuEventSynchronize")
        assert self.gate.wait(20)
        with self._lock:
            self.out -= 1

    def close(self) -> None:
        """Nothing."""


class PretendBatch:
    def __init__(self, gpu: PretendGpu, number: int, rows: int) -> None:
        self._gpu = gpu
        self._number = number
        self._rows = rows

    def wait(self) -> NDArray[np.float32]:
        self._gpu.end_one(self._number)
        return np.full((self._rows, CANDIDATES, 6), self._number, np.float32)


def allocate(shape: Tuple[int, int, int, int]) -> Image:
    return np.zeros(shape, np.uint8)


def streams_of(gpu: PretendGpu, largest: int = 8) -> Streams:
    streams = Streams(gpu, allocate, largest)
    gpu.launched.clear()
    gpu.pointers.clear()
    return streams


@pytest.mark.parametrize(("largest", "expected"), [(4, 4), (8, 8), (64, 8)])
def test_batches_are_as_large_as_asked_and_as_the_engine_takes(largest: int, expected: int) -> None:
    assert streams_of(PretendGpu(), largest).largest == expected


def test_every_way_runs_its_batches_and_notes_each() -> None:
    gpu = PretendGpu()
    streams = streams_of(gpu)
    streams.compute(4, 9)
    assert gpu.computed == [(4, 9)]
    assert gpu.launched == []
    streams.serial(4, 5)
    streams.overlapped(3, 6)
    rows: List[int] = []
    streams.detected(2, 7, lambda detections: rows.append(len(detections)))
    assert gpu.launched == [4] * 5 + [3] * 6 + [2] * 7
    assert rows == [2] * 7
    assert gpu.out == 0
    assert {way: len(times) for way, times in streams.times.items()} == {
        "serial": 5,
        "overlapped": 6,
        "detected": 7,
    }


def test_neighbours_read_from_different_memory() -> None:
    gpu = PretendGpu()
    streams_of(gpu).overlapped(2, 6)
    assert all(one != after for one, after in zip(gpu.pointers, gpu.pointers[1:]))
    assert len(set(gpu.pointers)) == 3


@pytest.mark.parametrize(("way", "most"), [("serial", 1), ("overlapped", 2)])
def test_as_many_are_out_as_the_way_says(way: str, most: int) -> None:
    gpu = PretendGpu()
    streams = streams_of(gpu)
    gpu.most_out = 0
    if way == "overlapped":
        gpu.gate.clear()  # opened by the second launch: the first is still out then
    getattr(streams, way)(1, 8)
    assert gpu.most_out == most


def test_a_batch_that_fails_ends_the_lap_with_its_error() -> None:
    gpu = PretendGpu()
    streams = streams_of(gpu)
    gpu.fails_at = 3
    with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
        streams.overlapped(1, 100)
    assert len(gpu.launched) < 100


def test_stages_are_the_medians_of_batches_that_were_all_timed() -> None:
    gpu = PretendGpu()
    streams = streams_of(gpu)
    gpu._samples.clear()
    assert streams.stages(4) == StageTimes(4, 4.0, 8.0, 12.0)  # of 1 to 7
    assert gpu.every_s > 0


def test_host_times_begin_anew() -> None:
    streams = streams_of(PretendGpu())
    streams.serial(1, 3)
    times = streams.host_times()
    assert list(times) == ["serial"]
    assert 0 <= times["serial"].launch_ms <= times["serial"].latency_ms
    assert streams.host_times() == {}
