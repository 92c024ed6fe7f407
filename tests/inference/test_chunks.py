from __future__ import annotations

import dataclasses
import threading
from typing import List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import CudaError, EngineError, EngineOutOfMemory
from edge.geometry import Image
from edge.inference.chunks import ChunkedEngine
from edge.inference.engine import Pending, Synchronous
from edge.records import EngineInfo


class SmallEngine(Synchronous):
    """Holds `fits` frames at once; more run out of memory. Echoes each frame's first byte."""

    input_wh = (1, 1)
    info = EngineInfo("small", "1", "test", "fp32", 64)

    def __init__(self, fits: int) -> None:
        self.fits = fits
        self.sizes: List[int] = []

    def infer(self, frames: Image) -> NDArray[np.float32]:
        if len(frames) > self.fits:
            raise EngineOutOfMemory(f"no room for {len(frames)} frames")
        self.sizes.append(len(frames))
        detections = np.zeros((len(frames), 1, 6), np.float32)
        detections[:, 0, 0] = frames[:, 0, 0, 0]
        return detections

    def close(self) -> None:
        self.sizes.clear()


def numbered(count: int) -> Image:
    return np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1).repeat(3, axis=3)


@pytest.mark.parametrize(
    ("cap", "count", "sizes"),
    [(4, 1, [1]), (4, 4, [4]), (4, 5, [4, 1]), (1, 3, [1, 1, 1]), (8, 17, [8, 8, 1])],
)
def test_more_than_the_cap_runs_in_parts(cap: int, count: int, sizes: List[int]) -> None:
    engine = SmallEngine(64)
    result = ChunkedEngine(engine, cap, lambda _: None).infer(numbered(count))
    assert engine.sizes == sizes
    assert result[:, 0, 0].tolist() == list(range(count))


@given(fits=st.integers(1, 64), cap=st.integers(1, 64), count=st.integers(1, 64))
def test_out_of_memory_loses_and_doubles_nothing(fits: int, cap: int, count: int) -> None:
    told: List[int] = []
    engine = SmallEngine(fits)
    chunked = ChunkedEngine(engine, cap, told.append)
    for _ in range(2):
        assert chunked.infer(numbered(count))[:, 0, 0].tolist() == list(range(count))
    assert len(told) == chunked.shrinks
    assert told == sorted(told, reverse=True)
    # Never smaller than needed: the size before the last halving did not fit.
    if told:
        assert chunked.cap == told[-1] <= fits < 2 * chunked.cap + 1


@pytest.mark.parametrize(
    ("fits", "count", "told"),
    [
        pytest.param(4, 8, [4], id="full batch: half of it"),
        pytest.param(4, 7, [4], id="just below the cap: no smaller than half the cap"),
        pytest.param(2, 3, [2], id="far below the cap: nothing tried that must fail again"),
        pytest.param(1, 8, [4, 2, 1], id="down to one"),
    ],
)
def test_each_halving_tries_fewer_frames_than_did_not_fit(
    fits: int, count: int, told: List[int]
) -> None:
    caps: List[int] = []
    chunked = ChunkedEngine(SmallEngine(fits), 8, caps.append)
    assert len(chunked.infer(numbered(count))) == count
    assert caps == told


def test_a_single_frame_that_does_not_fit_is_an_error() -> None:
    chunked = ChunkedEngine(SmallEngine(0), 8, lambda _: None)
    with pytest.raises(EngineOutOfMemory, match="no room for 1 frames"):
        chunked.infer(numbered(8))
    assert chunked.cap == 1


def test_a_single_frame_below_the_cap_is_not_tried_again() -> None:
    chunked = ChunkedEngine(SmallEngine(0), 8, lambda _: None)
    with pytest.raises(EngineOutOfMemory, match="no room for 1 frames"):
        chunked.infer(numbered(1))
    assert chunked.shrinks == 0


def test_an_engine_that_forgets_frames_is_an_error() -> None:
    class Forgetful(SmallEngine):
        def infer(self, frames: Image) -> NDArray[np.float32]:
            return super().infer(frames)[1:]

    with pytest.raises(EngineError, match="results for 3 of 4 frames"):
        ChunkedEngine(Forgetful(64), 8, lambda _: None).infer(numbered(4))


def test_it_says_what_the_engine_is_and_closes_it() -> None:
    engine = SmallEngine(2)
    chunked = ChunkedEngine(engine, 8, lambda _: None)
    assert chunked.info == EngineInfo("small", "1", "test", "fp32", 8)
    assert chunked.stage_times is engine.stage_times
    chunked.infer(numbered(4))
    assert chunked.info.max_batch == 2
    chunked.close()
    assert engine.sizes == []


# --- engines that take no fewer -------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 4, 8], ids=["one frame", "half", "as many as it is made for"])
def test_a_static_engine_gains_nothing_from_fewer_frames_and_says_so(count: int) -> None:
    engine = SmallEngine(0)
    engine.info = dataclasses.replace(engine.info, max_batch=8, is_static=True)
    told: List[int] = []
    chunked = ChunkedEngine(engine, 8, told.append)
    with pytest.raises(EngineOutOfMemory, match=r"no room for \d frames; .* engine\.max_batch"):
        chunked.infer(numbered(count))
    assert (told, chunked.cap, chunked.shrinks) == ([], 8, 0)


# --- chunks that are out when one fails -----------------------------------------------------------


class Overlapping(SmallEngine):
    """Works on two chunks at once; the n-th wait fails, and it says what was waited for."""

    in_flight = 2

    def __init__(self, fails_at: int, error: EngineError) -> None:
        super().__init__(64)
        self.fails_at = fails_at
        self.error = error
        self.launched = self.waited = 0

    def launch(self, frames: Image) -> Pending:
        self.launched += 1
        return Waiting(self, frames)


class Waiting:
    def __init__(self, engine: Overlapping, frames: Image) -> None:
        self._engine = engine
        self._frames = frames

    def wait(self) -> NDArray[np.float32]:
        self._engine.waited += 1
        if self._engine.waited >= self._engine.fails_at:
            raise self._engine.error
        return self._engine.infer(self._frames)


@pytest.mark.parametrize("fails_at", [1, 2, 4])
def test_no_chunk_is_left_out_when_one_fails(fails_at: int) -> None:
    engine = Overlapping(fails_at, CudaError("CUDA_ERROR_ILLEGAL_ADDRESS", "cuEventSynchronize"))
    with pytest.raises(CudaError):
        ChunkedEngine(engine, 2, lambda _: None).infer(numbered(8))
    assert engine.waited == engine.launched


# --- a batch that is done again while another is out ----------------------------------------------


class Berths(SmallEngine):
    """Has room for two batches; the first that is waited for finds no memory."""

    in_flight = 2

    def __init__(self) -> None:
        super().__init__(64)
        self.room = threading.Semaphore(self.in_flight)
        self.waits = 0

    def launch(self, frames: Image) -> Pending:
        assert self.room.acquire(timeout=5), "this thread would have to wait for itself"
        return InBerth(self, frames)


class InBerth:
    def __init__(self, engine: Berths, frames: Image) -> None:
        self._engine = engine
        self._frames = frames

    def wait(self) -> NDArray[np.float32]:
        self._engine.room.release()
        self._engine.waits += 1
        if self._engine.waits == 1:
            raise EngineOutOfMemory("no room for its scratch")
        return self._engine.infer(self._frames)


def test_a_batch_that_is_done_again_needs_no_room_but_its_own() -> None:
    chunked = ChunkedEngine(Berths(), 4, lambda _: None)
    first, second = chunked.launch(numbered(4)), chunked.launch(numbered(3))
    assert first.wait()[:, 0, 0].tolist() == [0, 1, 2, 3]
    assert second.wait()[:, 0, 0].tolist() == [0, 1, 2]
    assert chunked.cap == 2
