from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import EngineError, EngineOutOfMemory
from edge.geometry import Image
from edge.inference.chunks import ChunkedEngine, affordable_rows, batch_cap
from edge.inference.engine import Synchronous
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


@pytest.mark.parametrize(
    ("free_bytes", "row_bytes", "expected"),
    [
        pytest.param(4000, 0, None, id="unknown"),
        pytest.param(4000, 100, 10, id="a quarter of what is free"),
        pytest.param(3999, 100, 9, id="whole rows"),
        pytest.param(0, 100, 1, id="one at least"),
    ],
)
def test_a_quarter_of_the_free_memory_is_affordable(
    free_bytes: int, row_bytes: int, expected: Optional[int]
) -> None:
    assert affordable_rows(free_bytes, row_bytes) == expected


@pytest.mark.parametrize(
    ("affordable", "expected"), [(9, (8, "Xavier NX")), (7, (7, "free memory"))]
)
def test_memory_limits_the_cap_like_the_rest(affordable: int, expected: Tuple[int, str]) -> None:
    assert batch_cap(32, None, "Jetson Xavier NX", affordable) == expected


@pytest.mark.parametrize(
    ("engine_max", "configured", "module", "expected"),
    [
        pytest.param(8, None, None, (8, "the engine"), id="the engine alone"),
        pytest.param(32, 4, None, (4, "engine.max_batch"), id="the config, lower"),
        pytest.param(4, 16, None, (4, "the engine"), id="the config cannot raise it"),
        pytest.param(
            32, None, "NVIDIA Jetson Xavier NX Developer Kit", (8, "Xavier NX"), id="the module"
        ),
        pytest.param(32, None, "NVIDIA Jetson AGX Orin", (32, "the engine"), id="another module"),
        pytest.param(32, 2, "Jetson Xavier NX", (2, "engine.max_batch"), id="lowest of all"),
    ],
)
def test_the_lowest_limit_is_the_cap(
    engine_max: int, configured: Optional[int], module: Optional[str], expected: Tuple[int, str]
) -> None:
    assert batch_cap(engine_max, configured, module) == expected


def test_it_says_what_the_engine_is_and_closes_it() -> None:
    engine = SmallEngine(2)
    chunked = ChunkedEngine(engine, 8, lambda _: None)
    assert chunked.info == EngineInfo("small", "1", "test", "fp32", 8)
    assert chunked.stage_times is engine.stage_times
    chunked.infer(numbered(4))
    assert chunked.info.max_batch == 2
    chunked.close()
    assert engine.sizes == []
