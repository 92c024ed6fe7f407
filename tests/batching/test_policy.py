from __future__ import annotations

import pytest

from edge.batching.policy import BatchPolicy, Decision, TurnOrder
from edge.clock import NS_PER_MS
from edge.config.schema import BatchingConfig

OPENED_NS = 1_000 * NS_PER_MS
CLOSE = Decision(close=True)
IDLE = Decision(close=False)


def until(ms_after_open: float) -> Decision:
    return Decision(close=False, wake_ns=OPENED_NS + int(ms_after_open * NS_PER_MS))


@pytest.mark.parametrize(
    ("occupied", "cameras", "can_take", "waited_ms", "expected"),
    [
        pytest.param(0, 8, True, 50, IDLE, id="empty never closes"),
        pytest.param(3, 8, True, 9.999, until(10), id="just before the deadline waits for it"),
        pytest.param(3, 8, True, 10, CLOSE, id="at the deadline closes"),
        pytest.param(3, 8, True, 500, CLOSE, id="long after the deadline closes"),
        pytest.param(3, 4, True, 0, until(10), id="one row short of the target waits"),
        pytest.param(4, 8, True, 0, CLOSE, id="full closes at once"),
        pytest.param(2, 2, True, 0, CLOSE, id="one row of every camera is full"),
        pytest.param(1, 2, True, 0, until(10), id="one camera still missing waits"),
        pytest.param(4, 8, False, 500, IDLE, id="busy pipeline: full stays open"),
        pytest.param(1, 8, False, 500, IDLE, id="busy pipeline: overdue stays open"),
    ],
)
def test_closes_on_full_or_on_deadline_but_only_into_a_free_pipeline(
    occupied: int, cameras: int, can_take: bool, waited_ms: float, expected: Decision
) -> None:
    policy = BatchPolicy(BatchingConfig(target=4, max_wait_ms=10))
    now_ns = OPENED_NS + int(waited_ms * NS_PER_MS)
    assert policy.decide(occupied, OPENED_NS, cameras, can_take, now_ns) == expected


def test_no_wait_closes_with_the_first_frame() -> None:
    policy = BatchPolicy(BatchingConfig(target=4, max_wait_ms=0))
    assert policy.decide(1, OPENED_NS, 8, True, OPENED_NS) == CLOSE


def test_turns_go_to_whoever_waited_longest() -> None:
    turns = TurnOrder()
    for camera in ("a", "b", "c", "a"):
        turns.admitted(camera, 0)
    assert turns.sorted(["a", "b", "c", "new"]) == ["new", "b", "c", "a"]


def test_a_camera_counts_as_delivering_for_a_second() -> None:
    turns = TurnOrder()
    turns.admitted("slow", 0)
    turns.admitted("fast", 500 * NS_PER_MS)
    assert turns.delivering(1_000 * NS_PER_MS) == 2
    assert turns.delivering(1_001 * NS_PER_MS) == 1
    assert turns.delivering(1_501 * NS_PER_MS) == 0


def test_more_cameras_than_rows_starve_nobody() -> None:
    turns = TurnOrder()
    cameras = [f"cam{number:02d}" for number in range(20)]
    served = dict.fromkeys(cameras, 0)
    for _ in range(10):  # ten slots of eight rows for twenty cameras that always wait
        for camera in turns.sorted(cameras)[:8]:
            turns.admitted(camera, 0)
            served[camera] += 1
    assert set(served.values()) == {4}
