"""Two pipelines that are used as one: what the priority lane gains, and that nothing gets lost."""

from __future__ import annotations

import threading
import time
from typing import Callable, List, Optional

import numpy as np
import pytest

from edge.batching.lane_queue import LaneQueue
from edge.clock import SystemClock
from edge.geometry import Letterbox
from edge.inference.lanes import Lanes
from edge.records import (
    Batch,
    BatchItem,
    BatchResult,
    FrameInfo,
    Lane,
    Slot,
    TimestampSource,
)
from tests.inference.async_engine import HANG_S, INPUT_WH, AsyncEngine, Permits

DEPTH = 3
LETTERBOX = Letterbox.fit(INPUT_WH, INPUT_WH)
SHARED, PRIORITY = Lane.BATCH, Lane.PRIORITY
LONG_AGO_NS = 1


class Bench:
    """Lanes over engines that the test controls, with everything they tell written down."""

    def __init__(self) -> None:
        self.told: List[int] = []
        self.stale: List[int] = []
        self.released: List[int] = []
        self.failures: List[str] = []
        self.on_result: Callable[[BatchResult], None] = lambda result: None
        self.are_nested = False
        self._is_telling = threading.Lock()
        self._changed = threading.Condition()
        self.shared_permits, self.priority_permits = Permits(), Permits()
        self.shared = AsyncEngine(self.shared_permits)
        self.priority = AsyncEngine(self.priority_permits)
        self.lanes = Lanes(
            self.shared, LaneQueue(2), self._result, SystemClock(), self._failure, DEPTH
        )

    def start(self) -> Lanes:
        self.lanes.start(self._told, self._stale)
        return self.lanes

    def open(self) -> None:
        self.lanes.open_priority(self.priority, LaneQueue(2))

    def submit(self, lane: Lane, *numbers: int) -> None:
        for number in numbers:
            self.lanes.submit(self.batch(number, lane))

    def batch(self, number: int, lane: Lane, fresh_until_ns: Optional[int] = None) -> Batch:
        camera = "gate" if lane is PRIORITY else "cam"
        info = FrameInfo(camera, number, INPUT_WH, 1, 2, TimestampSource.RECEIVE)
        rows = np.full((1, *INPUT_WH, 3), number % 256, np.uint8)
        slot = Slot(number, rows, lambda slot: self.released.append(slot.index))
        item = BatchItem(info, LETTERBOX, fresh_until_ns=fresh_until_ns)
        return Batch(number, slot, (item,), number, number, lane)

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, HANG_S), self

    def wait_until_told(self, *numbers: int) -> None:
        self.wait(lambda: self.told == list(numbers))

    def __repr__(self) -> str:
        return f"{self.lanes!r} told {self.told} failures {self.failures}"

    def _result(self, result: BatchResult) -> None:
        number = result.batch.batch_id
        assert self._is_telling.acquire(blocking=False), "two results at once"
        assert result.detections[0, 0, 0] == number % 256
        assert number in self.released
        if self.are_nested:
            self._is_telling.release()
            self.on_result(result)
        else:
            self.on_result(result)
            self._is_telling.release()
        self.told.append(number)
        self._told()

    def _told(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _stale(self, info: FrameInfo) -> None:
        self.stale.append(info.frame_id)

    def _failure(self, thread: str, error: BaseException) -> None:
        self.failures.append(f"{thread}: {error}")
        self._told()


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- one engine for both --------------------------------------------------------------------------


def test_without_an_engine_of_its_own_the_priority_lane_uses_the_shared_one(bench: Bench) -> None:
    lanes = bench.start()
    bench.shared_permits.hold()
    bench.submit(SHARED, 0, 1)
    bench.shared.wait_for([0, 1])
    bench.submit(SHARED, 2)
    bench.submit(PRIORITY, 10)
    assert not lanes.can_take()
    assert lanes.in_flight == 4
    bench.shared_permits.free()
    assert lanes.stop(HANG_S)
    assert bench.told == [0, 1, 10, 2]  # what has not begun yet is overtaken
    assert lanes.busy_ns > 0
    assert lanes.has_ended


# --- an engine of its own -------------------------------------------------------------------------


def test_a_priority_result_does_not_wait_for_shared_batches_that_are_out(bench: Bench) -> None:
    lanes = bench.start()
    bench.shared_permits.hold()
    bench.submit(SHARED, 0, 1, 2)
    bench.shared.wait_for([0, 1])
    bench.open()
    bench.submit(PRIORITY, 10, 11)
    bench.wait_until_told(10, 11)
    assert bench.shared.launched == [0, 1]
    assert lanes.busy_ns == 0  # the shared engine's alone
    assert lanes.in_flight == 3
    assert not lanes.can_take()
    bench.shared_permits.free()
    assert lanes.stop(HANG_S)
    assert bench.told == [10, 11, 0, 1, 2]
    assert bench.priority.launched == [10, 11]


def test_priority_batches_leave_the_depth_of_the_shared_lane_alone(bench: Bench) -> None:
    lanes = bench.start()
    bench.open()
    bench.priority_permits.hold()
    bench.submit(PRIORITY, *range(10, 15))
    assert lanes.can_take()
    bench.shared_permits.hold()
    bench.submit(SHARED, 0, 1)
    assert lanes.can_take()
    bench.submit(SHARED, 2)
    assert not lanes.can_take()
    assert lanes.in_flight == 8
    assert repr(lanes) == ("<Lanes <Pipeline 3 of 3 in flight> <Pipeline 5 of 1 in flight>>")
    bench.priority_permits.free()
    bench.shared_permits.free()
    assert lanes.stop(HANG_S)
    assert (lanes.in_flight, lanes.abandoned, lanes.silent_since_ns) == (0, (), None)


def test_the_lane_can_be_opened_before_the_start(bench: Bench) -> None:
    bench.open()
    bench.submit(PRIORITY, 10)
    lanes = bench.start()
    bench.wait_until_told(10)
    assert lanes.stop(HANG_S)
    assert bench.priority.launched == [10]


def test_the_lane_is_opened_once(bench: Bench) -> None:
    bench.open()
    with pytest.raises(ValueError, match="has its engine already"):
        bench.open()


def test_results_are_told_one_at_a_time_but_slots_come_back_at_once(bench: Bench) -> None:
    lanes = bench.start()
    bench.open()
    is_telling, go_on = threading.Event(), threading.Event()

    def hold(result: BatchResult) -> None:
        is_telling.set()
        assert go_on.wait(HANG_S)

    bench.on_result = hold
    bench.submit(SHARED, 0)
    assert is_telling.wait(HANG_S)
    bench.submit(PRIORITY, 10)
    bench.wait(lambda: bench.released == [0, 10])
    assert bench.told == []
    go_on.set()
    assert lanes.stop(HANG_S)
    assert bench.told == [0, 10]
    assert not bench.failures


def test_a_priority_result_is_told_in_the_middle_of_a_shared_batch(bench: Bench) -> None:
    lanes = bench.start()
    bench.open()
    told: List[str] = []
    is_telling = threading.Event()

    def tell(result: BatchResult) -> None:
        number = result.batch.batch_id
        told.append(f"{number} begins")
        is_telling.set()
        deadline_s = time.monotonic() + HANG_S
        while number == 0 and "10 ends" not in told and time.monotonic() < deadline_s:
            time.sleep(0.001)
            lanes.give_way()
        told.append(f"{number} ends")

    bench.on_result = tell
    bench.are_nested = True
    bench.submit(SHARED, 0)
    assert is_telling.wait(HANG_S)
    bench.submit(PRIORITY, 10, 11)
    assert lanes.stop(HANG_S)
    assert told[:3] == ["0 begins", "10 begins", "10 ends"]
    assert sorted(told[3:]) == ["0 ends", "11 begins", "11 ends"]
    assert not bench.failures


def test_giving_way_to_nobody_changes_nothing(bench: Bench) -> None:
    lanes = bench.start()
    bench.open()
    bench.on_result = lambda result: lanes.give_way()
    bench.are_nested = True
    for number in range(50):
        bench.submit(PRIORITY if number % 2 else SHARED, number)
    assert lanes.stop(HANG_S)
    assert sorted(bench.told) == list(range(50))
    assert not bench.failures


# --- the change from one to the other -------------------------------------------------------------


def test_the_first_on_the_new_engine_waits_for_those_before_it(bench: Bench) -> None:
    lanes = bench.start()
    bench.shared_permits.hold()
    bench.submit(PRIORITY, 10, 11, 12)
    bench.shared.wait_for([10, 11])
    bench.open()
    bench.submit(PRIORITY, 13)
    bench.shared_permits.give(2)
    bench.wait_until_told(10, 11)
    assert bench.priority.launched == []
    bench.shared_permits.free()
    bench.wait_until_told(10, 11, 12, 13)
    assert (bench.shared.launched, bench.priority.launched) == ([10, 11, 12], [13])
    assert lanes.stop(HANG_S)


def test_what_is_being_told_still_is_ahead(bench: Bench) -> None:
    lanes = bench.start()
    is_telling, go_on = threading.Event(), threading.Event()

    def hold(result: BatchResult) -> None:
        is_telling.set()
        assert go_on.wait(HANG_S)

    bench.on_result = hold
    bench.submit(PRIORITY, 10)
    assert is_telling.wait(HANG_S)
    assert lanes.in_flight == 0
    bench.open()
    bench.submit(PRIORITY, 11)
    assert bench.priority.launched == []
    go_on.set()
    bench.wait_until_told(10, 11)
    assert lanes.stop(HANG_S)


def test_a_busy_camera_cannot_keep_the_change_from_happening(bench: Bench) -> None:
    """While its frames wait in the shared pipeline newer ones take their places there."""
    lanes = bench.start()
    bench.shared_permits.hold()
    bench.submit(PRIORITY, 10, 11)
    bench.shared.wait_for([10, 11])
    waiting = bench.batch(12, PRIORITY)
    lanes.submit(waiting)
    bench.open()
    for number in (13, 14):
        newer = bench.batch(number, PRIORITY)
        assert lanes.exchange(waiting, newer)
        waiting = newer
    bench.shared_permits.give(1)
    bench.shared.wait_for([10, 11, 14])
    newer = bench.batch(15, PRIORITY)
    assert not lanes.exchange(waiting, newer)
    lanes.submit(newer)
    newest = bench.batch(16, PRIORITY)
    assert lanes.exchange(newer, newest)  # there, too, until it begins
    assert bench.priority.launched == []
    bench.shared_permits.free()
    bench.wait_until_told(10, 11, 14, 16)
    assert bench.priority.launched == [16]
    assert lanes.stop(HANG_S)


@pytest.mark.parametrize("lane", [SHARED, PRIORITY])
def test_after_the_change_exchanges_go_where_the_batch_waits(bench: Bench, lane: Lane) -> None:
    lanes = bench.start()
    bench.open()
    bench.shared_permits.hold()
    bench.priority_permits.hold()
    bench.submit(lane, 20, 21)
    {SHARED: bench.shared, PRIORITY: bench.priority}[lane].wait_for([20, 21])
    waiting, newer = bench.batch(22, lane), bench.batch(23, lane)
    lanes.submit(waiting)
    assert lanes.exchange(waiting, newer)
    assert lanes.in_flight == 3
    bench.shared_permits.free()
    bench.priority_permits.free()
    assert lanes.stop(HANG_S)
    assert bench.told == [20, 21, 23]


def test_a_frame_that_is_left_out_is_ahead_no_more(bench: Bench) -> None:
    lanes = bench.start()
    bench.shared_permits.hold()
    bench.submit(SHARED, 0, 1)
    bench.shared.wait_for([0, 1])
    lanes.submit(bench.batch(10, PRIORITY, LONG_AGO_NS))
    bench.open()
    bench.submit(PRIORITY, 11)
    assert bench.priority.launched == []
    bench.shared_permits.give(1)
    bench.wait(lambda: 11 in bench.told)
    bench.shared_permits.free()
    assert lanes.stop(HANG_S)
    assert bench.stale == [10]
    assert sorted(bench.told) == [0, 1, 11]


# --- failures and the end -------------------------------------------------------------------------


def test_a_priority_engine_that_fails_is_told_once_and_the_shared_lane_drains(
    bench: Bench,
) -> None:
    lanes = bench.start()
    bench.open()
    bench.shared_permits.hold()
    bench.submit(SHARED, 0, 1)
    bench.priority.fails = True
    bench.submit(PRIORITY, 10)
    bench.wait(lambda: bool(bench.failures))
    bench.submit(PRIORITY, 11)
    bench.shared_permits.free()
    assert not lanes.stop(HANG_S)
    assert bench.failures == ["priority completion: the device fell off the bus"]
    assert bench.told == [0, 1]
    assert [batch.batch_id for batch in lanes.abandoned] == [10, 11]
    assert lanes.has_ended


def test_of_two_engines_that_fail_the_first_is_told(bench: Bench) -> None:
    lanes = bench.start()
    bench.open()
    bench.priority.fails = bench.shared.fails = True
    bench.submit(PRIORITY, 10)
    bench.wait(lambda: bool(bench.failures))
    bench.submit(SHARED, 0)
    assert not lanes.stop(HANG_S)
    assert bench.failures == ["priority completion: the device fell off the bus"]
    assert [batch.batch_id for batch in lanes.abandoned] == [0, 10]


def test_a_failure_of_the_shared_engine_abandons_what_waits_for_it(bench: Bench) -> None:
    lanes = bench.start()
    bench.shared_permits.hold()
    bench.submit(PRIORITY, 10)
    bench.shared.wait_for([10])
    bench.open()
    bench.submit(PRIORITY, 11)
    bench.shared.fails = True
    bench.shared_permits.free()
    bench.wait(lambda: bool(bench.failures))
    assert not lanes.stop(HANG_S)
    assert bench.failures == ["completion: the device fell off the bus"]
    assert [batch.batch_id for batch in lanes.abandoned] == [10, 11]
    assert bench.priority.launched == []
    assert lanes.has_ended


def test_a_stop_in_the_middle_of_the_change_drains_both(bench: Bench) -> None:
    lanes = bench.start()
    bench.shared_permits.hold()
    bench.submit(PRIORITY, 10)
    bench.shared.wait_for([10])
    bench.open()
    bench.submit(PRIORITY, 11, 12)
    ended: List[bool] = []
    stopper = threading.Thread(target=lambda: ended.append(lanes.stop(HANG_S)))
    stopper.start()
    bench.shared_permits.free()
    stopper.join(HANG_S)
    assert ended == [True]
    assert bench.told == [10, 11, 12]
    assert bench.priority.launched == [11, 12]
    assert lanes.abandoned == ()


def test_in_a_stop_the_priority_lane_does_not_wait_for_the_shared_one(bench: Bench) -> None:
    lanes = bench.start()
    before = threading.enumerate()
    bench.open()
    bench.shared_permits.hold()
    bench.submit(SHARED, 0)
    bench.submit(PRIORITY, 10)
    bench.wait_until_told(10)
    threads = [thread for thread in threading.enumerate() if thread not in before]
    assert len(threads) == 3
    stopper = threading.Thread(target=lanes.stop, args=(HANG_S,))
    stopper.start()
    for thread in threads:
        thread.join(HANG_S / 2)
        assert not thread.is_alive(), thread.name
    bench.shared_permits.free()
    stopper.join(HANG_S)
    assert bench.told == [10, 0]
    assert lanes.has_ended


@pytest.mark.parametrize("lane", [SHARED, PRIORITY])
def test_nothing_has_ended_while_one_engine_hangs(bench: Bench, lane: Lane) -> None:
    lanes = bench.start()
    bench.open()
    permits = {SHARED: bench.shared_permits, PRIORITY: bench.priority_permits}[lane]
    permits.hold()
    before_ns = time.monotonic_ns()
    bench.submit(SHARED, 0)
    bench.submit(PRIORITY, 10)
    kept, told = (0, 10) if lane is SHARED else (10, 0)
    bench.wait_until_told(told)
    {SHARED: bench.shared, PRIORITY: bench.priority}[lane].wait_for([kept])
    since_ns = lanes.silent_since_ns
    assert since_ns is not None
    assert before_ns <= since_ns <= time.monotonic_ns()
    bench.submit(SHARED if lane is PRIORITY else PRIORITY, 20)
    bench.wait_until_told(told, 20)
    assert lanes.silent_since_ns == since_ns  # the other engine's answers are none of its own
    assert not lanes.stop(0.05)
    assert not lanes.has_ended
    assert [batch.batch_id for batch in lanes.abandoned] == [kept]
    permits.free()
    lanes.stop(HANG_S)
    assert lanes.has_ended
    assert bench.told == [told, 20]
    assert [batch.batch_id for batch in lanes.abandoned] == [kept]


def test_after_a_stop_the_lane_is_not_opened_any_more(bench: Bench) -> None:
    lanes = bench.start()
    assert lanes.stop(HANG_S)
    bench.open()
    bench.submit(PRIORITY, 10)
    assert not lanes.exchange(lanes.abandoned[0], bench.batch(11, PRIORITY))
    assert [batch.batch_id for batch in lanes.abandoned] == [10]
    assert bench.priority.launched == []
    assert lanes.has_ended


def test_an_opening_in_the_middle_of_a_stop_loses_nothing(bench: Bench) -> None:
    lanes = bench.start()
    bench.shared_permits.hold()
    bench.submit(PRIORITY, 10)
    bench.shared.wait_for([10])
    assert not lanes.stop(0.05)
    bench.open()
    bench.submit(PRIORITY, 11)
    bench.shared_permits.free()
    lanes.stop(HANG_S)
    assert [batch.batch_id for batch in lanes.abandoned] == [10, 11]
    assert bench.told == []
