from __future__ import annotations

from typing import List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import NS_PER_MS, NS_PER_S
from edge.inference.stall import StallWatch

STALL_S = 3.0
# When somebody looked, and since when the device was silent then, in milliseconds.
Looks = List[Tuple[int, Optional[int]]]


def every_250_ms(until_ms: int, since_ms: Optional[int], start_ms: int = 0) -> Looks:
    return [(now, since_ms) for now in range(start_ms, until_ms + 1, 250)]


COURSES = {
    "nothing is asked of it": (every_250_ms(60_000, None), None),
    "just as long as it may be": (every_250_ms(4000, 1000), None),
    "longer": (every_250_ms(4250, 1000), 3.25),
    "it answers, and is silent again": (
        [*every_250_ms(3500, 1000), *every_250_ms(6500, 3600, 3750)],
        None,
    ),
    "it is silent too long after an answer": (
        [*every_250_ms(3500, 1000), *every_250_ms(6750, 3600, 3750)],
        3.15,
    ),
    "idle between": (
        [*every_250_ms(3000, 1000), (3250, None), *every_250_ms(6250, 3300, 3500)],
        None,
    ),
    "we were stopped for a minute": ([*every_250_ms(2000, 1500), (62_000, 1500)], None),
    "we were stopped, and it hangs indeed": (
        [*every_250_ms(2000, 1500), *every_250_ms(64_250, 1500, 62_000)],
        3.25,
    ),
    "the first look is late": ([(90_000, 1000)], None),
}


@pytest.mark.parametrize(("looks", "silent_s"), COURSES.values(), ids=COURSES)
def test_a_device_hangs_once_it_was_seen_to_be_silent_for_too_long(
    looks: Looks, silent_s: Optional[float]
) -> None:
    watch = StallWatch(STALL_S)
    told = [
        watch.look(now * NS_PER_MS, None if since is None else since * NS_PER_MS)
        for now, since in looks
    ]
    assert told[-1] == (None if silent_s is None else pytest.approx(silent_s))
    assert set(told[:-1]) <= {None}


@given(gaps_ms=st.lists(st.integers(1, 100_000), min_size=1, max_size=40))
def test_it_never_counts_more_than_half_a_second_of_a_gap_nor_more_than_passed(
    gaps_ms: List[int],
) -> None:
    watch = StallWatch(STALL_S)
    now_ms, seen_ms = 0, 0
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        seen_ms += min(gap_ms, 500)
        told_s = watch.look(now_ms * NS_PER_MS, 0)
        assert told_s == (seen_ms * NS_PER_MS / NS_PER_S if seen_ms > STALL_S * 1000 else None)
