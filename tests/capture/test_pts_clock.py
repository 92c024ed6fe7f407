from __future__ import annotations

from typing import List, Tuple

from hypothesis import given
from hypothesis import strategies as st

from edge.capture.pts_clock import PtsClock
from edge.clock import NS_PER_MS, NS_PER_S

START_NS = 1000 * NS_PER_S


def captured(*frames: Tuple[float, float]) -> List[float]:
    """Feeds (pts, received) in ms, from one start; returns the capture times in ms."""
    clock = PtsClock()
    return [
        (clock.captured_ns(int(pts * NS_PER_MS), START_NS + int(received * NS_PER_MS)) - START_NS)
        / NS_PER_MS
        for pts, received in frames
    ]


def test_jitter_is_taken_off_after_the_fastest_frame() -> None:
    assert captured((40, 0), (80, 40), (120, 130), (160, 131), (200, 160)) == [
        0, 40, 80, 120, 160,
    ]  # fmt: skip


def test_a_slow_start_is_corrected_by_the_first_faster_frame() -> None:
    # 400 ms of pictures arrive at once; from the last on, the delay is known.
    times = captured(*((40 * n, 400) for n in range(1, 11)), (440, 440), (480, 480))
    assert times == sorted(times)
    assert times[-3:] == [400, 440, 480]


def test_time_that_starts_again_starts_afresh() -> None:
    assert captured((1000, 0), (1040, 40), (40, 90), (80, 130)) == [0, 40, 90, 130]


def test_the_same_stamp_twice_is_no_time() -> None:
    assert captured((40, 0), (40, 40), (40, 80)) == [0, 40, 80]


def test_a_jump_ahead_is_followed_at_once() -> None:
    assert captured((40, 0), (80, 40), (3_600_000, 80), (3_600_040, 120)) == [0, 40, 80, 120]


def test_a_delay_beyond_belief_starts_afresh() -> None:
    assert captured((40, 0), (80, 10_041)) == [0, 10_041]
    assert captured((40, 0), (80, 10_040)) == [0, 40]


def test_a_slower_clock_is_followed() -> None:
    # 1 ms in a second behind: without a window the error would grow to 600 ms.
    frames = [(999.0 * n + 1, 1000.0 * n) for n in range(600)]
    errors = [received - time for (_, received), time in zip(frames, captured(*frames))]
    assert max(errors) <= 61
    assert min(errors) >= 0


@given(st.lists(st.tuples(st.integers(0, 10**11), st.integers(0, 10**10)), max_size=60))
def test_never_in_the_future_and_never_back(steps: List[Tuple[int, int]]) -> None:
    clock, now_ns, before_ns = PtsClock(), START_NS, 0
    for pts_ns, wait_ns in steps:
        now_ns += wait_ns
        captured_ns = clock.captured_ns(pts_ns, now_ns)
        assert before_ns <= captured_ns <= now_ns
        before_ns = captured_ns
