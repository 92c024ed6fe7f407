"""The overlap loop on a CUDA that does nothing before somebody waits for it."""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import CudaError, EngineError
from edge.inference.cuda import Context, PinnedArray, Stream
from edge.inference.overlap import IN_FLIGHT, Launched, LoopOptions, OverlapLoop
from edge.inference.replay import STEADY
from tests.inference.host_cuda import POISON, HostCuda

WIDTH, HEIGHT, CANDIDATES, MAX_BATCH = 4, 3, 2, 4
FRAME_BYTES = WIDTH * HEIGHT * 3


class Sums:
    """A program whose detections are the sums of each frame's pixels; knows CUDA's rules."""

    backend, version = "host", "1"
    can_be_recorded = True
    max_batch = MAX_BATCH
    input_wh = (WIDTH, HEIGHT)
    candidates = CANDIDATES

    def __init__(self, host: HostCuda, *, is_static: bool = False) -> None:
        self._host = host
        self.is_static = is_static
        self.rows: List[int] = []
        self.bound: Dict[int, int] = {}
        self.fails = False
        self.is_closed = False
        self.is_alone = False  # batches that nobody collects may share their memory

    def enqueue(
        self, rows: int, frames_pointer: int, detections_pointer: int, stream: Stream
    ) -> None:
        if self.fails:
            raise EngineError("the device fell off the bus")
        is_recorded = stream.handle in self._host.recording
        if not is_recorded and not self.is_alone:
            assert detections_pointer not in self.bound, "an address is bound while in flight"
            self.bound[detections_pointer] = rows
        self.rows.append(rows)

        def run() -> None:
            frames = self._host.bytes_at(frames_pointer, rows * FRAME_BYTES).reshape(rows, -1)
            out = self._host.bytes_at(detections_pointer, rows * CANDIDATES * 24)
            out[:] = sums(frames).view(np.uint8).ravel()
            self.bound.pop(detections_pointer, None)

        self._host.enqueue(stream.handle, run)

    def close(self) -> None:
        self.is_closed = True


def sums(frames: NDArray[Any]) -> NDArray[np.float32]:
    total = frames.reshape(len(frames), -1).astype(np.float32).sum(axis=1)
    return np.repeat(total, CANDIDATES * 6).reshape(len(frames), CANDIDATES, 6)


@contextmanager
def loop_of(
    *, is_static: bool = False, **options: Any
) -> Iterator[Tuple[OverlapLoop, Sums, Context, HostCuda]]:
    host = HostCuda()
    with host.context() as context, context.current():
        program = Sums(host, is_static=is_static)
        # Sampled as a rule; here not, where calls are counted.
        loop = OverlapLoop(context, program, LoopOptions(**{"timed_every_s": math.inf, **options}))
        try:
            yield loop, program, context, host
        finally:
            loop.close()
            loop.close()


def frames_of(count: int, seed: int) -> NDArray[np.uint8]:
    shape = (count, HEIGHT, WIDTH, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def slot_of(context: Context, rows: int = MAX_BATCH, *, is_mapped: bool = False) -> PinnedArray:
    return PinnedArray(context, (rows, HEIGHT, WIDTH, 3), np.uint8, is_mapped=is_mapped)


class Traffic:
    """Launches batches and collects them in order, at most `IN_FLIGHT` out at once."""

    def __init__(self, loop: OverlapLoop, context: Context, *, is_mapped: bool = False) -> None:
        self._loop = loop
        self._slots = [slot_of(context, is_mapped=is_mapped) for _ in range(IN_FLIGHT)]
        self._out: List[Tuple[Launched, NDArray[np.float32], Optional[PinnedArray]]] = []

    def launch(self, frames: NDArray[np.uint8], *, is_pinned: bool) -> None:
        if len(self._out) == IN_FLIGHT:
            self.collect()
        slot = self._slots.pop() if is_pinned else None
        given_frames = frames.copy()
        if slot is not None:
            given_frames = slot.array[: len(frames)]
            given_frames[...] = frames
        self._out.append((self._loop.launch(given_frames), sums(frames), slot))
        if slot is None:
            given_frames[...] = POISON  # ordinary memory was copied at once

    def collect(self) -> None:
        launched, expected, slot = self._out.pop(0)
        np.testing.assert_array_equal(launched.wait(), expected)
        if slot is not None:
            slot.array[...] = POISON  # its next frames are being drawn
            self._slots.append(slot)

    def end(self) -> None:
        while self._out:
            self.collect()
        for slot in self._slots:
            slot.close()


steps = st.lists(
    st.tuples(st.integers(1, MAX_BATCH), st.booleans(), st.booleans()), min_size=1, max_size=40
)


options = st.fixed_dictionaries(
    {
        "is_mapped": st.booleans(),
        "has_graphs": st.booleans(),
        "timed_every_s": st.sampled_from([0.0, math.inf]),
    }
)


@given(steps=steps, is_static=st.booleans(), options=options, has_mapped_slots=st.booleans())
def test_every_batch_gets_its_own_detections(
    steps: List[Tuple[int, bool, bool]],
    is_static: bool,
    options: Dict[str, Any],
    has_mapped_slots: bool,
) -> None:
    """Batches of mixed sizes, from pinned slots and from ordinary memory, collected late."""
    with loop_of(is_static=is_static, **options) as (loop, program, context, _):
        traffic = Traffic(loop, context, is_mapped=has_mapped_slots)
        for number, (count, is_pinned, is_late) in enumerate(steps):
            traffic.launch(frames_of(count, number), is_pinned=is_pinned)
            if not is_late:
                traffic.collect()
        traffic.end()
        assert set(program.rows) <= ({MAX_BATCH} if is_static else set(range(1, MAX_BATCH + 1)))


def test_the_next_upload_waits_for_nothing() -> None:
    """Two batches are out before the first is asked for; uploads are alone on their stream."""
    with loop_of() as (loop, program, _, host):
        first, second = frames_of(2, 1), frames_of(3, 2)
        a, b = loop.launch(first), loop.launch(second)
        assert program.rows == [2, 3]
        queues = sorted(len(queue) for queue in host.queues.values())
        assert queues == [2, 4, 4]  # up; wait and compute; wait and down: twice
        np.testing.assert_array_equal(a.wait(), sums(first))
        np.testing.assert_array_equal(b.wait(), sums(second))


def test_pinned_frames_go_up_from_where_they_are() -> None:
    with loop_of() as (loop, _, context, _), slot_of(context, 8) as slot:
        slot.array[...] = frames_of(8, 3)
        launched = loop.launch(slot.array[4:7])
        slot.array[5] = 9  # not allowed, and seen for that very reason: nothing was copied yet
        np.testing.assert_array_equal(launched.wait(), sums(slot.array[4:7]))


@pytest.mark.parametrize("is_mapped", [False, True], ids=["copied", "mapped"])
def test_batches_of_one_size_are_queued_as_a_whole_once_they_repeat(is_mapped: bool) -> None:
    """And a batch of another size in between is not taken for one of them."""
    sizes = [2] * 3 * STEADY + [1] + [2] * 3 * STEADY
    with loop_of(is_mapped=is_mapped) as (loop, program, context, host):
        traffic = Traffic(loop, context, is_mapped=is_mapped)
        for number, count in enumerate(sizes):
            traffic.launch(frames_of(count, number), is_pinned=True)
        traffic.end()
        assert host.launches == 2 * 2 * STEADY
        # What is recorded is queued once for each of two places, and never as a batch.
        assert len(program.rows) == len(sizes) - host.launches + 2 * 2


runs = st.lists(
    st.tuples(st.integers(1, 2), st.integers(1, 3 * STEADY), st.booleans()),
    min_size=1,
    max_size=6,
)


@given(runs=runs, is_mapped=st.booleans())
def test_recordings_of_another_size_are_never_used_again(
    runs: List[Tuple[int, int, bool]], is_mapped: bool
) -> None:
    """Nor freed while a batch of them is queued, which the double would not bear."""
    with loop_of(is_mapped=is_mapped) as (loop, _, context, host):
        traffic = Traffic(loop, context, is_mapped=is_mapped)
        for number, (count, length, is_late) in enumerate(runs):
            for again in range(length):
                traffic.launch(frames_of(count, 100 * number + again), is_pinned=True)
                if not is_late:
                    traffic.collect()
        traffic.end()
        assert len(host.graphs) <= 4


def test_without_graphs_nothing_is_recorded() -> None:
    with loop_of(has_graphs=False) as (loop, program, _, host):
        for number in range(3 * STEADY):
            loop.launch(frames_of(2, number)).wait()
        assert (host.launches, len(program.rows)) == (0, 3 * STEADY)


def test_what_cannot_be_recorded_is_queued_as_ever() -> None:
    with loop_of() as (loop, _, _, host):
        host.fail["cuGraphInstantiateWithFlags"] = "CUDA_ERROR_NOT_SUPPORTED"
        for number in range(3 * STEADY):
            frames = frames_of(2, number)
            np.testing.assert_array_equal(loop.launch(frames).wait(), sums(frames))
        assert host.launches == 0


def test_mapped_frames_are_read_from_where_they_are() -> None:
    with loop_of(is_mapped=True) as (loop, _, context, host):
        with slot_of(context, 8, is_mapped=True) as slot:
            slot.array[...] = frames_of(8, 3)
            launched = loop.launch(slot.array[4:7])
            slot.array[5] = 9  # not allowed, and seen for that very reason
            np.testing.assert_array_equal(launched.wait(), sums(slot.array[4:7]))
        assert sorted(len(queue) for queue in host.queues.values()) == [0, 0, 0]


def test_the_stages_of_some_batches_are_timed() -> None:
    with loop_of(timed_every_s=3600.0) as (loop, _, _, _):
        assert not loop.samples
        for number in range(3):
            loop.launch(frames_of(1 + number, number)).wait()
        assert [sample.rows for sample in loop.samples] == [1]
        loop.time_every(0.0)
        for number in range(3):
            loop.launch(frames_of(1 + number, number)).wait()
        assert [sample.rows for sample in loop.samples] == [1, 1, 2, 3]
        assert loop.samples[0].compute_ms == 1.5


def test_compute_alone_moves_nothing() -> None:
    with loop_of() as (loop, program, _, _):
        program.is_alone = True
        loop.compute_alone(3, 5)
        assert program.rows == [3] * 5
        frames = frames_of(2, 1)
        np.testing.assert_array_equal(loop.launch(frames).wait(), sums(frames))


def test_a_third_batch_waits_for_the_first_to_be_collected() -> None:
    with loop_of() as (loop, _, context, _):
        out: SimpleQueue[Launched] = SimpleQueue()
        launched: List[int] = []

        def launch() -> None:
            with context.current():
                for number in range(10):
                    out.put(loop.launch(frames_of(1, number)))
                    launched.append(number)

        thread = threading.Thread(target=launch)
        thread.start()
        for number in range(10):
            np.testing.assert_array_equal(out.get(timeout=20).wait(), sums(frames_of(1, number)))
            assert len(launched) <= number + 1 + IN_FLIGHT
        thread.join(20)
        assert launched == list(range(10))


def test_what_cannot_be_queued_leaves_room_for_the_next() -> None:
    with loop_of() as (loop, program, _, _):
        for _ in range(2 * IN_FLIGHT):
            program.fails = True
            with pytest.raises(EngineError, match="fell off the bus"):
                loop.launch(frames_of(1, 1))
            program.fails = False
            frames = frames_of(2, 2)
            np.testing.assert_array_equal(loop.launch(frames).wait(), sums(frames))


def test_an_error_of_the_device_comes_out_at_the_wait() -> None:
    with loop_of() as (loop, _, _, host):
        launched = loop.launch(frames_of(1, 1))
        host.fail["cuEventSynchronize"] = "CUDA_ERROR_LAUNCH_FAILED"
        with pytest.raises(CudaError, match="LAUNCH_FAILED"):
            launched.wait()
        host.fail.clear()


def test_detections_are_asked_for_once() -> None:
    with loop_of() as (loop, _, _, _):
        launched = loop.launch(frames_of(1, 1))
        launched.wait()
        with pytest.raises(EngineError, match="twice"):
            launched.wait()
