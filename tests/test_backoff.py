from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from edge.backoff import Backoff

LONGEST_S = [1, 2, 4, 8, 16, 30, 30, 30]


@given(st.integers(0, 2**32 - 1))
def test_delays_double_up_to_30_s_with_jitter(seed: int) -> None:
    backoff = Backoff(random.Random(seed))
    for longest_s in LONGEST_S:
        assert longest_s / 2 <= backoff.next_s() <= longest_s
    backoff.reset()
    assert 0.5 <= backoff.next_s() <= 1


def test_two_cameras_do_not_retry_in_step() -> None:
    one, other = Backoff(random.Random(1)), Backoff(random.Random(2))
    assert [one.next_s() for _ in range(6)] != [other.next_s() for _ in range(6)]
