from __future__ import annotations

import itertools
import threading
from typing import List, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.batching.lane_queue import LaneQueue
from edge.records import Batch, Lane, Slot

SLOT = Slot(0, np.zeros((1, 1, 1, 3), np.uint8), lambda _: None)


def batch(batch_id: int, lane: Lane) -> Batch:
    return Batch(batch_id, SLOT, (), 0, 0, lane)


def drained(queue: LaneQueue) -> List[Batch]:
    queue.close()
    batches: List[Batch] = []
    while True:
        taken = queue.get()
        if taken is None:
            return batches
        batches.append(taken)


def ids(letters: str, burst: int) -> str:
    """Puts one batch per letter (p or s) and tells the lanes in the order they come out."""
    queue = LaneQueue(burst)
    for batch_id, letter in enumerate(letters):
        queue.put(batch(batch_id, Lane.PRIORITY if letter == "p" else Lane.BATCH))
    return "".join("p" if b.lane is Lane.PRIORITY else "s" for b in drained(queue))


@pytest.mark.parametrize(
    ("letters", "burst", "expected"),
    [
        pytest.param("sss", 2, "sss", id="shared only: first come first served"),
        pytest.param("sp", 2, "ps", id="priority overtakes"),
        pytest.param("spp", 2, "pps", id="up to the burst"),
        pytest.param("sppp", 2, "ppsp", id="one more than the burst lets a shared one through"),
        pytest.param("ssppppp", 2, "ppsppsp", id="again and again"),
        pytest.param("ppppp", 2, "ppppp", id="nobody waits: no limit"),
    ],
)
def test_priority_first_but_not_for_ever(letters: str, burst: int, expected: str) -> None:
    assert ids(letters, burst) == expected


@given(letters=st.text("ps", max_size=40), burst=st.integers(1, 5))
def test_nothing_is_lost_and_nobody_starves(letters: str, burst: int) -> None:
    order = ids(letters, burst)
    assert sorted(order) == sorted(letters)
    shared_left = letters.count("s")
    run = 0
    for letter in order:
        run = 0 if letter == "s" else run + 1
        shared_left -= letter == "s"
        assert run <= burst or shared_left == 0


@given(lanes=st.lists(st.sampled_from(list(Lane)), max_size=30))
def test_each_lane_keeps_its_order(lanes: List[Lane]) -> None:
    queue = LaneQueue(3)
    for batch_id, lane in enumerate(lanes):
        queue.put(batch(batch_id, lane))
    out = drained(queue)
    for lane in Lane:
        numbers = [b.batch_id for b in out if b.lane is lane]
        assert numbers == sorted(numbers)


def test_get_waits_for_a_batch_and_for_the_end() -> None:
    queue = LaneQueue(1)
    got: List[Optional[Batch]] = []
    thread = threading.Thread(target=lambda: got.extend([queue.get(), queue.get()]))
    thread.start()
    queue.put(batch(7, Lane.BATCH))
    queue.close()
    thread.join(30)
    assert not thread.is_alive()
    assert got[0] is not None
    assert got[0].batch_id == 7
    assert got[1] is None


def test_a_batch_takes_the_place_of_one_that_waits() -> None:
    queue = LaneQueue(4)
    first, second, newer, other = (batch(n, Lane.PRIORITY) for n in range(4))
    for waiting in (first, second):
        queue.put(waiting)
    assert queue.exchange(first, newer)
    assert not queue.exchange(first, other)  # it waits no longer
    assert queue.get() is newer
    assert not queue.exchange(newer, other)  # it was taken
    assert drained(queue) == [second]


@given(
    actions=st.lists(st.sampled_from(["next", "next", "take", "shared"]), max_size=60),
    burst=st.integers(1, 3),
)
def test_every_batch_is_taken_once_or_given_back(actions: List[str], burst: int) -> None:
    queue, ids = LaneQueue(burst), itertools.count()
    taken: List[Optional[Batch]] = []
    given_back: List[Batch] = []
    latest: Optional[Batch] = None
    queued = 0
    for action in actions:
        if action == "shared":
            queue.put(batch(next(ids), Lane.BATCH))
            queued += 1
        elif action == "next":
            newer = batch(next(ids), Lane.PRIORITY)
            if latest is not None and queue.exchange(latest, newer):
                given_back.append(latest)
            else:
                queue.put(newer)
                queued += 1
            latest = newer
        elif queued:
            taken.append(queue.get())
            queued -= 1
    taken += drained(queue)
    numbers = [b.batch_id for b in (*taken, *given_back) if b is not None]
    assert sorted(numbers) == list(range(next(ids)))


def supply(queue: LaneQueue, count: int, given_back: List[int]) -> None:
    """Each batch takes the place of the one before, if that still waits."""
    latest: Optional[Batch] = None
    for number in range(count):
        newer = batch(number, Lane.PRIORITY)
        if latest is not None and queue.exchange(latest, newer):
            given_back.append(latest.batch_id)
        else:
            queue.put(newer)
        latest = newer
    queue.close()


def test_threads_never_both_take_a_batch_and_give_it_back() -> None:
    queue, count = LaneQueue(4), 20_000
    taken: List[int] = []
    given_back: List[int] = []

    def take() -> None:
        taken.extend(got.batch_id for got in iter(queue.get, None) if got is not None)

    taker = threading.Thread(target=take)
    taker.start()
    supply(queue, count, given_back)
    taker.join(30)
    assert not taker.is_alive()
    assert taken == sorted(taken)
    assert sorted(taken + given_back) == list(range(count))
