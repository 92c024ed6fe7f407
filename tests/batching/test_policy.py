from __future__ import annotations

from typing import Any, List, Optional, Tuple

import pytest

from edge.batching.policy import BatchPolicy, Decision, Placement, Rider, TurnOrder
from edge.clock import NS_PER_MS
from edge.config.schema import BatchingConfig

OPENED_NS = 1_000 * NS_PER_MS
CLOSE = Decision(close=True)
IDLE = Decision(close=False)


def policy(cameras: int = 8, **config: Any) -> BatchPolicy:
    """A policy that has just seen a frame of each of so many cameras."""
    made = BatchPolicy(BatchingConfig(**{"target": 4, "max_wait_ms": 10, **config}))
    for number in range(cameras):
        made.arrivals.admitted(f"cam{number}", 0, OPENED_NS)
    return made


def rider(number: int, captured_ms: float = 1_000) -> Rider:
    return Rider(f"cam{number}", int(captured_ms * NS_PER_MS))


def riders(count: int) -> List[Rider]:
    return [rider(number) for number in range(count)]


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
    now_ns = OPENED_NS + int(waited_ms * NS_PER_MS)
    decision = policy(cameras).decide(riders(occupied), OPENED_NS, [], can_take, now_ns)
    assert decision == expected


def test_no_wait_closes_with_the_first_frame() -> None:
    made = policy(max_wait_ms=0)
    assert made.decide(riders(1), OPENED_NS, [], True, OPENED_NS) == CLOSE


def test_a_silent_camera_is_not_waited_for() -> None:
    made = policy(cameras=2)
    later_ns = OPENED_NS + 1_001 * NS_PER_MS
    made.arrivals.admitted("cam0", 30, later_ns)
    assert made.decide([rider(0)], later_ns, [], True, later_ns) == CLOSE


def test_with_more_frames_per_camera_one_camera_alone_does_not_fill_the_slot() -> None:
    made = policy(cameras=1, max_frames_per_camera=3)
    assert made.decide(riders(1), OPENED_NS, [], True, OPENED_NS) == until(10)
    three = [rider(0, 1_000 + n) for n in range(3)]
    assert made.decide(three, OPENED_NS, [], True, OPENED_NS) == CLOSE


@pytest.mark.parametrize(
    ("bound", "camera", "per_camera", "expected"),
    [
        pytest.param([], 0, 1, Placement.NEW_ROW, id="empty slot"),
        pytest.param([1, 2], 0, 1, Placement.NEW_ROW, id="free row"),
        pytest.param([0, 1], 0, 1, Placement.OWN_ROW, id="its row is taken over"),
        pytest.param([0, 1], 0, 2, Placement.NEW_ROW, id="its second of two"),
        pytest.param([0, 0, 1], 0, 2, Placement.OWN_ROW, id="its share is used up"),
        pytest.param([1, 2, 3, 4], 0, 1, Placement.WAIT, id="full of others"),
        pytest.param([0, 1, 2, 3], 0, 1, Placement.OWN_ROW, id="full, with its own"),
        pytest.param([0, 1, 2, 3], 0, 2, Placement.OWN_ROW, id="full below its share"),
    ],
)
def test_where_a_frame_goes(
    bound: List[int], camera: int, per_camera: int, expected: Placement
) -> None:
    made = policy(max_frames_per_camera=per_camera)
    assert made.place([rider(number) for number in bound], rider(camera, 1_001)) is expected


@pytest.mark.parametrize(
    ("bound_ms", "frame_ms", "expected"),
    [
        pytest.param([], 1_000, Placement.NEW_ROW, id="nothing to align with"),
        pytest.param([1_000], 1_005, Placement.NEW_ROW, id="just within"),
        pytest.param([1_000], 1_005.001, Placement.WAIT, id="just too new"),
        pytest.param([1_005.001], 1_000, Placement.WAIT, id="just too old"),
        pytest.param([1_000, 1_004], 1_006, Placement.WAIT, id="too new for the oldest"),
        pytest.param([1_000, 1_004], 1_002, Placement.NEW_ROW, id="in between"),
    ],
)
def test_only_frames_captured_together_share_a_batch(
    bound_ms: List[float], frame_ms: float, expected: Placement
) -> None:
    made = policy(align_ms=5)
    bound = [rider(number + 1, ms) for number, ms in enumerate(bound_ms)]
    assert made.place(bound, rider(0, frame_ms)) is expected


def test_a_row_that_is_given_up_does_not_count_for_alignment() -> None:
    made = policy(align_ms=5)
    assert made.place([rider(0, 1_000)], rider(0, 1_500)) is Placement.OWN_ROW
    assert made.place([rider(0, 1_000), rider(1, 1_001)], rider(0, 1_500)) is Placement.WAIT


@pytest.mark.parametrize(
    ("align_ms", "waiting_ms", "expected"),
    [
        pytest.param(5, 1_005.001, CLOSE, id="too new: what could join is late"),
        pytest.param(5, 1_005, until(10), id="still joins"),
        pytest.param(5, 990, until(10), id="too old waits for the next slot"),
        pytest.param(None, 9_999, until(10), id="without alignment"),
    ],
)
def test_a_frame_too_new_for_the_riders_closes_the_slot(
    align_ms: Optional[float], waiting_ms: float, expected: Decision
) -> None:
    made = policy(align_ms=align_ms)
    waiting = [rider(7, waiting_ms)]
    assert made.decide([rider(0, 1_000)], OPENED_NS, waiting, True, OPENED_NS) == expected
    assert made.decide([rider(0, 1_000)], OPENED_NS, waiting, False, OPENED_NS) == IDLE


@pytest.mark.parametrize(
    ("bound", "waiting", "expected"),
    [
        pytest.param([], [(0, 33)], False, id="nothing is bound"),
        pytest.param([(0, 0), (1, 1)], [], False, id="nothing waits"),
        pytest.param([(0, 0), (1, 1)], [(0, 33)], False, id="the newer group is not complete"),
        pytest.param([(0, 0), (1, 1)], [(0, 33), (1, 34)], True, id="it is complete"),
        pytest.param([(0, 0), (1, 1)], [(0, 33), (2, 34)], True, id="as many of other cameras"),
        pytest.param([(0, 0), (1, 1)], [(0, 33), (1, 66)], False, id="not one group"),
        pytest.param([(0, 33), (1, 34)], [(0, 0), (1, 1)], False, id="it is older"),
        pytest.param([(0, 0), (1, 1)], [(0, 5), (1, 5)], False, id="it belongs to the riders"),
        pytest.param([(0, 0), (0, 1)], [(0, 33)], True, id="two frames of one camera are one"),
    ],
)
def test_a_newer_group_of_as_many_cameras_outdates_the_riders(
    bound: List[Tuple[int, float]], waiting: List[Tuple[int, float]], expected: bool
) -> None:
    made = policy(align_ms=5, max_frames_per_camera=2)
    riders_of = [rider(*frame) for frame in bound]
    assert made.is_outdated(riders_of, [rider(*frame) for frame in waiting]) is expected
    unaligned = policy(max_frames_per_camera=2)
    assert not unaligned.is_outdated(riders_of, [rider(*frame) for frame in waiting])


def test_turns_go_to_whoever_waited_longest() -> None:
    turns = TurnOrder()
    for camera in ("a", "b", "c", "a"):
        turns.admitted(camera)
    assert turns.sorted(["a", "b", "c", "new"]) == ["new", "b", "c", "a"]


def test_more_cameras_than_rows_starve_nobody() -> None:
    turns = TurnOrder()
    cameras = [f"cam{number:02d}" for number in range(20)]
    served = dict.fromkeys(cameras, 0)
    for _ in range(10):  # ten slots of eight rows for twenty cameras that always wait
        for camera in turns.sorted(cameras)[:8]:
            turns.admitted(camera)
            served[camera] += 1
    assert set(served.values()) == {4}
