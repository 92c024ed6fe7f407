from __future__ import annotations

from typing import List

from hypothesis import given
from hypothesis import strategies as st

from edge.clock import NS_PER_S
from edge.commands.rate import RateLimit


def admitted_s(limit: RateLimit, asked_s: List[int]) -> List[int]:
    admitted = []
    for now_s in asked_s:
        if not limit.wait_s(now_s * NS_PER_S):
            limit.admit(now_s * NS_PER_S)
            admitted.append(now_s)
    return admitted


def test_a_minute_has_so_many() -> None:
    limit = RateLimit(2)
    assert admitted_s(limit, [0, 10, 20, 59, 60, 61, 69, 70]) == [0, 10, 60, 70]


def test_how_long_to_wait() -> None:
    limit = RateLimit(1)
    assert admitted_s(limit, [5]) == [5]
    assert limit.wait_s(5 * NS_PER_S) == 60
    assert limit.wait_s(64 * NS_PER_S + 1) == 1
    assert limit.wait_s(65 * NS_PER_S) == 0


@given(
    per_minute=st.integers(1, 5),
    pauses_s=st.lists(st.integers(0, 70), max_size=50),
)
def test_no_minute_has_more_and_none_waits_in_vain(per_minute: int, pauses_s: List[int]) -> None:
    limit = RateLimit(per_minute)
    asked_s = [sum(pauses_s[: i + 1]) for i in range(len(pauses_s))]
    admitted = admitted_s(limit, asked_s)
    for now_s in asked_s:
        in_a_minute = [then for then in admitted if now_s - 60 < then <= now_s]
        assert len(in_a_minute) <= per_minute
        if now_s not in admitted:
            assert len(in_a_minute) == per_minute
