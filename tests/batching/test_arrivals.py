from __future__ import annotations

from typing import Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.batching.arrivals import Arrivals
from edge.clock import NS_PER_MS, NS_PER_S

LIMIT_NS = 100 * NS_PER_MS


def seen(rates: Dict[str, float], seconds: float = 3.0) -> Arrivals:
    """What is known after cameras of these rates delivered evenly up to now = `seconds`."""
    arrivals = Arrivals()
    events = sorted(
        (index / fps, camera, index)
        for camera, fps in rates.items()
        for index in range(int(seconds * fps) + 1)
    )
    for at_s, camera, index in events:
        arrivals.admitted(camera, index, int(at_s * NS_PER_S))
    return arrivals


def window_ms(rates: Dict[str, float], target: int) -> float:
    return seen(rates).window_ns(target, LIMIT_NS, 3 * NS_PER_S) / NS_PER_MS


def test_rates_are_measured_and_followed() -> None:
    arrivals = seen({"a": 5.0, "b": 30.0})
    assert sorted(arrivals.rates(3 * NS_PER_S)) == pytest.approx([5.0, 30.0], rel=0.01)
    # The load steps from 5 to 30 frames a second: after the memory only the new rate is left.
    for index in range(1, 91):
        arrivals.admitted("a", 15 + index, 3 * NS_PER_S + index * NS_PER_S // 30)
    assert max(arrivals.rates(6 * NS_PER_S)) == pytest.approx(30.0, rel=0.05)


def test_the_memory_spans_a_pause_of_a_fast_camera() -> None:
    arrivals = seen({"a": 30.0})
    for index in range(91, 106):  # half a second of silence, then on as before
        arrivals.admitted("a", index, 3 * NS_PER_S + (index - 75) * NS_PER_S // 30)
    assert arrivals.rates(4 * NS_PER_S) == pytest.approx([30.0 * 45 / 60], rel=0.05)


def test_frames_that_were_replaced_unseen_count_in_the_rate() -> None:
    arrivals = Arrivals()
    for index in range(0, 60, 6):  # of 30 a second only each sixth was admitted
        arrivals.admitted("a", index, index * NS_PER_S // 30)
    assert arrivals.rates(2 * NS_PER_S) == pytest.approx([30.0])


@pytest.mark.parametrize(
    ("rates", "target", "expected_ms"),
    [
        pytest.param({"a": 30.0}, 8, 0, id="one camera: nobody else will come"),
        pytest.param({"a": 30.0, "b": 30.0}, 2, 1000 / 60, id="two: half a period to the target"),
        pytest.param({"a": 30.0, "b": 30.0}, 8, 1000 / 30, id="two: at most one period"),
        pytest.param({"a": 30.0, "b": 1.0}, 8, 0, id="a slow one is not waited for"),
        pytest.param(
            {f"c{n}": 30.0 for n in range(20)},
            8,
            (7 + 6**0.5) * 1000 / 600,
            id="many: until likely full",
        ),
        pytest.param(
            {"a": 20.0, "b": 12.0, "c": 10.0}, 8, 1000 / 12, id="half the frames are a's and b's"
        ),
        pytest.param({"a": 20.0, "b": 12.0, "c": 7.0}, 8, 1000 / 20, id="half the frames are a's"),
        pytest.param({f"c{n}": 5.0 for n in range(4)}, 8, 100, id="slow ones: the limit"),
    ],
)
def test_the_window_follows_the_rates(
    rates: Dict[str, float], target: int, expected_ms: float
) -> None:
    assert window_ms(rates, target) == pytest.approx(expected_ms, rel=0.05)


def test_nothing_known_yet_waits_for_the_limit() -> None:
    assert Arrivals().window_ns(8, LIMIT_NS, 0) == LIMIT_NS


def test_a_camera_that_pauses_half_a_second_is_still_expected_and_then_is_not() -> None:
    arrivals = seen({"a": 30.0, "b": 30.0})
    at_ns = 3 * NS_PER_S
    assert arrivals.delivering(at_ns + 500 * NS_PER_MS) == 2
    assert arrivals.delivering(at_ns + 1_000 * NS_PER_MS) == 2
    assert arrivals.delivering(at_ns + 1_001 * NS_PER_MS) == 0


@given(
    steps_ms=st.lists(st.integers(0, 2_000), min_size=1, max_size=60),
    cameras=st.integers(1, 5),
    target=st.integers(1, 64),
)
def test_the_window_is_never_negative_nor_above_the_limit(
    steps_ms: List[int], cameras: int, target: int
) -> None:
    arrivals = Arrivals()
    now_ns = 0
    for index, step_ms in enumerate(steps_ms):
        now_ns += step_ms * NS_PER_MS
        arrivals.admitted(f"cam{index % cameras}", index, now_ns)
        assert 0 <= arrivals.window_ns(target, LIMIT_NS, now_ns) <= LIMIT_NS


def test_a_camera_that_is_gone_is_not_waited_for_and_comes_back_as_a_new_one() -> None:
    arrivals = seen({"a": 5.0, "b": 30.0})
    arrivals.forget("b")
    arrivals.forget("nobody")
    assert arrivals.delivering(3 * NS_PER_S) == 1
    assert arrivals.rates(3 * NS_PER_S) == pytest.approx([5.0], rel=0.01)
    # Its new mailbox counts from the start again: no rate comes of both counts.
    arrivals.admitted("b", 1, 3 * NS_PER_S)
    assert arrivals.delivering(3 * NS_PER_S) == 2
    assert min(arrivals.rates(3 * NS_PER_S)) > 0
