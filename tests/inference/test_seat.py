"""Exchanging the engine under real threads that infer without a pause."""

from __future__ import annotations

import sys
import threading
import time
from typing import List

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import EngineError
from edge.geometry import Image
from edge.inference.chunks import ChunkedEngine
from edge.inference.engine import Synchronous
from edge.inference.seat import EngineSeat
from edge.records import EngineInfo

HANG_S = 30.0


class Numbered(Synchronous):
    """Answers every frame with its own number; each call waits for a permit."""

    input_wh = (1, 1)
    info = EngineInfo("numbered", "1", "test", "fp32", 64)

    def __init__(self, number: int, *, permits: int = 10**6) -> None:
        self.number = number
        self.permits = threading.Semaphore(permits)
        self.has_begun = threading.Event()
        self.calls = 0
        self.is_closed = False
        self.fails = False

    def infer(self, frames: Image) -> NDArray[np.float32]:
        assert not self.is_closed
        self.calls += 1
        self.has_begun.set()
        assert self.permits.acquire(timeout=HANG_S)
        if self.fails:
            raise EngineError("the device fell off the bus")
        return np.full((len(frames), 1, 6), self.number, np.float32)

    def close(self) -> None:
        self.is_closed = True


def seated(engine: Numbered, cap: int = 2) -> ChunkedEngine:
    return ChunkedEngine(engine, cap, lambda _: None)


class Worker:
    """Infers batches of five frames (three calls of the engine) until told to stop."""

    def __init__(self, seat: EngineSeat, batches: int) -> None:
        self.answers: List[List[float]] = []
        self._seat = seat
        self._batches = batches
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(HANG_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        frames = np.zeros((5, 1, 1, 3), np.uint8)
        while not self._stop.is_set() and len(self.answers) < self._batches:
            self.answers.append(self._seat.launch(frames).wait()[:, 0, 0].tolist())


def wait_in_exchange(thread: threading.Thread) -> None:
    """Returns once the thread is inside `EngineSeat.exchange`, where only a lock can hold it."""
    deadline_s = time.monotonic() + HANG_S
    while time.monotonic() < deadline_s:
        frame = sys._current_frames().get(thread.ident or 0)
        while frame is not None and frame.f_code is not EngineSeat.exchange.__code__:
            frame = frame.f_back
        if frame is not None:
            time.sleep(0.1)  # from its first line to the wait
            return
        time.sleep(0.001)
    raise AssertionError("the exchange was never begun")


def test_an_exchange_waits_for_the_running_batch_and_for_no_other() -> None:
    before, after = Numbered(1, permits=0), Numbered(2)
    seat = EngineSeat(seated(before))
    worker = Worker(seat, batches=4)
    assert before.has_begun.wait(HANG_S)
    given_back: List[ChunkedEngine] = []
    exchange = threading.Thread(target=lambda: given_back.append(seat.exchange(seated(after))))
    exchange.start()
    wait_in_exchange(exchange)
    assert (given_back, before.calls) == ([], 1)
    for _ in range(10):
        before.permits.release()
    exchange.join(HANG_S)
    worker.stop()
    assert len(given_back) == 1
    assert before.calls == 3
    assert worker.answers[0] == [1.0] * 5
    assert set(map(tuple, worker.answers[1:])) == {(2.0,) * 5}


def test_every_batch_is_answered_by_one_engine_and_none_by_one_that_was_given_back() -> None:
    engines = [Numbered(number) for number in range(40)]
    seats = [seated(engine) for engine in engines]
    seat = EngineSeat(seats[0])
    workers = [Worker(seat, batches=10**6) for _ in range(2)]
    for place in range(1, len(engines)):
        assert engines[place - 1].has_begun.wait(HANG_S)
        given_back = seat.exchange(seats[place])
        assert given_back is seats[place - 1]
        engines[place - 1].close()  # an assertion in `infer` if it is still used
    assert engines[-1].has_begun.wait(HANG_S)
    for worker in workers:
        worker.stop()
        # One number in each batch, and never back to an engine that was given back.
        assert all(len(set(answer)) == 1 for answer in worker.answers)
        numbers = [answer[0] for answer in worker.answers]
        assert numbers == sorted(numbers)
    assert seat.engine is seats[-1]
    answered = sum(len(worker.answers) for worker in workers)
    assert sum(engine.calls for engine in engines) == 3 * answered


def test_an_engine_that_fails_can_still_be_exchanged() -> None:
    bad, good = Numbered(1), Numbered(2)
    bad.fails = True
    seat = EngineSeat(seated(bad))
    frames = np.zeros((1, 1, 1, 3), np.uint8)
    with pytest.raises(EngineError, match="fell off"):
        seat.launch(frames)
    seat.exchange(seated(good))
    assert seat.launch(frames).wait()[0, 0, 0] == 2


def test_a_closed_seat_takes_no_other_engine() -> None:
    seated_one, late = Numbered(1), Numbered(2)
    seat = EngineSeat(seated(seated_one))
    seat.close()
    newcomer = seated(late)
    assert seat.exchange(newcomer) is newcomer  # to be closed by who brought it
    assert (seated_one.is_closed, late.is_closed) == (True, False)
    assert seat.engine is not newcomer


def test_an_exchange_that_waits_ends_with_the_seat() -> None:
    held, late = Numbered(1, permits=0), Numbered(2)
    seat = EngineSeat(seated(held))
    worker = Worker(seat, batches=1)
    assert held.has_begun.wait(HANG_S)
    given_back: List[ChunkedEngine] = []
    newcomer = seated(late)
    exchange = threading.Thread(target=lambda: given_back.append(seat.exchange(newcomer)))
    exchange.start()
    wait_in_exchange(exchange)
    seat.close()
    exchange.join(HANG_S)
    assert given_back == [newcomer]
    for _ in range(3):
        held.permits.release()
    held.is_closed = False  # the batch that was out may end
    worker.stop()
