from __future__ import annotations

from typing import List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.capture.pacing import Pacer, RateCap

MS = 1_000_000


@pytest.mark.parametrize(
    ("shown_ms", "due_ms"),
    [
        pytest.param([(0, 500)], [500], id="the first is due at once"),
        pytest.param([(0, 500), (100, 510)], [500, 600], id="on time: waits"),
        pytest.param([(0, 500), (100, 650), (200, 651)], [500, 600, 700], id="late: catches up"),
        pytest.param([(0, 0), (100, 1100)], [0, 100], id="1 s late: still catches up"),
        pytest.param([(0, 0), (100, 1101), (200, 1102)], [0, 1101, 1201], id="more: goes on"),
        pytest.param([(0, 0), (100, 60_100), (200, 60_100)], [0, 60_100, 60_200], id="suspended"),
    ],
)
def test_when_pictures_are_due(shown_ms: List[Tuple[int, int]], due_ms: List[int]) -> None:
    pacer = Pacer()
    due_ns = [pacer.due_ns(media / 1000, now * MS) for media, now in shown_ms]
    assert due_ns == [ms * MS for ms in due_ms]


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=60))
def test_never_faster_than_a_second_of_catching_up(delays_ms: List[int]) -> None:
    pacer, now_ns = Pacer(), 0
    for index, delay_ms in enumerate(delays_ms):
        due_ns = pacer.due_ns(index / 10, now_ns)
        assert due_ns >= now_ns - 1000 * MS
        assert due_ns <= now_ns + 100 * MS
        now_ns = max(now_ns, due_ns) + delay_ms * MS


def passed(cap_fps: float, times_ms: List[float]) -> List[float]:
    cap = RateCap(cap_fps)
    return [ms for ms in times_ms if cap.admits(int(ms * MS))]


def every(fps: float, seconds: float) -> List[float]:
    return [n * 1000 / fps for n in range(round(fps * seconds))]


@pytest.mark.parametrize(
    ("camera_fps", "cap_fps", "expected_fps"),
    [
        (30, 30, 30),
        (30, 10, 10),
        (30, 29, 29),
        (30, 31, 30),
        (25, 10, 10),
        (12, 10, 10),
        (5, 30, 5),
    ],
)
def test_rate_of_a_steady_camera(camera_fps: float, cap_fps: float, expected_fps: float) -> None:
    assert len(passed(cap_fps, every(camera_fps, 20))) == pytest.approx(expected_fps * 20, abs=1)


@given(st.lists(st.floats(-16, 16), min_size=60, max_size=60))
def test_jitter_costs_a_camera_at_the_cap_nothing(jitter_ms: List[float]) -> None:
    times_ms = [100 + n * 1000 / 30 + j for n, j in enumerate([0.0, *jitter_ms])]
    assert passed(30, times_ms) == times_ms


@given(
    st.lists(st.floats(0, 500), min_size=1, max_size=100),
    st.sampled_from([0.5, 1.0, 7.0, 30.0, 240.0]),
)
def test_no_arrival_pattern_beats_the_cap(gaps_ms: List[float], cap_fps: float) -> None:
    times_ms: List[float] = [0.0]
    for gap_ms in gaps_ms:
        times_ms.append(times_ms[-1] + gap_ms)
    kept = passed(cap_fps, times_ms)
    for first in range(len(kept)):
        for last in range(first, len(kept)):
            allowed = (kept[last] - kept[first]) * cap_fps / 1000 + 2
            assert last - first + 1 <= allowed + 1e-3


def test_a_pause_is_not_made_up_for() -> None:
    assert passed(10, [0, 100, 5000, 5033, 5067, 5100, 5133, 5167, 5200]) == [
        0,
        100,
        5000,
        5033,
        5100,
        5200,
    ]


def test_without_a_cap_all_pass() -> None:
    cap = RateCap(None)
    assert all(cap.admits(now_ns) for now_ns in (0, 0, 1, 5, 3))
