from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import NS_PER_S
from edge.health.alerts import AlertBook, Observation, Rule
from edge.records import Alert, AlertSeverity

HOT = Rule("temperature", AlertSeverity.CRITICAL, raise_at=90.0, clear_at=85.0, hold_s=10)
FULL = Rule("disk", AlertSeverity.WARNING, raise_at=500.0, clear_at=1000.0, hold_s=0)


def play(rule: Rule, values: Sequence[Optional[float]]) -> List[Tuple[int, str]]:
    """One value a second: when it was raised and cleared."""
    book = AlertBook()
    told = []
    for second, value in enumerate(values):
        news = book.look(second * NS_PER_S, 1000 * second, [Observation(rule, value, "why")])
        told += [(second, "raised") for _ in news.raised] + [
            (second, "cleared") for _ in news.cleared
        ]
    return told


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        pytest.param(HOT, [89.9] * 30, [], id="just below"),
        pytest.param(HOT, [90.0] * 30, [(10, "raised")], id="at the threshold, once it lasted"),
        pytest.param(HOT, [90.0] * 10 + [89.0] + [90.0] * 10, [], id="interrupted"),
        pytest.param(HOT, [90.0] * 5 + [None] * 3 + [90.0] * 5, [(10, "raised")], id="unknown"),
        pytest.param(HOT, [95.0] * 11 + [85.1] * 99, [(10, "raised")], id="not yet below"),
        pytest.param(HOT, [95.0] * 11 + [85.0] * 11, [(10, "raised"), (21, "cleared")], id="below"),
        pytest.param(HOT, [95.0] * 11 + [None] * 99, [(10, "raised")], id="unknown clears nothing"),
        pytest.param(
            HOT, [95.0] * 11 + [80.0] * 9 + [87.0] + [80.0] * 9, [(10, "raised")], id="too short"
        ),
        pytest.param(FULL, [500.1], [], id="just above a lower limit"),
        pytest.param(FULL, [500.0], [(0, "raised")], id="at a lower limit, at once"),
        pytest.param(FULL, [400.0, 999.9], [(0, "raised")], id="more, but not enough"),
        pytest.param(FULL, [400.0, 1000.0], [(0, "raised"), (1, "cleared")], id="enough"),
    ],
)
def test_raised_and_cleared(
    rule: Rule, values: Sequence[Optional[float]], expected: List[Tuple[int, str]]
) -> None:
    assert play(rule, values) == expected


def test_an_alert_tells_what_it_is_about() -> None:
    book = AlertBook()
    news = book.look(0, 1234, [Observation(FULL, 400.0, "400 MiB are left")])
    alert = Alert("disk", AlertSeverity.WARNING, "400 MiB are left", 1234, 400.0, 500.0)
    assert news.raised == book.standing == (alert,)
    assert book.look(1, 1235, [Observation(FULL, 300.0, "300 MiB are left")]).raised == ()


def test_what_is_not_watched_any_more_is_over() -> None:
    book = AlertBook()
    book.look(0, 0, [Observation(FULL, 0.0, "why")])
    assert book.look(1, 1, []).cleared == ("disk",)
    assert book.standing == ()
    assert book.look(2, 2, []).cleared == ()


def test_what_was_about_to_be_raised_begins_anew_once_it_is_watched_again() -> None:
    book = AlertBook()
    hot = [Observation(HOT, 95.0, "why")]
    book.look(0, 0, hot)
    book.look(5 * NS_PER_S, 0, [])
    assert book.look(11 * NS_PER_S, 0, hot).raised == ()
    assert len(book.look(21 * NS_PER_S, 0, hot).raised) == 1


def test_a_rule_needs_a_band() -> None:
    with pytest.raises(ValueError, match="alert x: without a band it would flap at 3"):
        Rule("x", AlertSeverity.WARNING, 3.0, 3.0, 1.0)


@given(values=st.lists(st.one_of(st.none(), st.floats(70, 100)), max_size=120))
def test_it_never_flaps(values: List[Optional[float]]) -> None:
    told = play(HOT, values)
    assert [what for _, what in told] == ["raised", "cleared"] * (len(told) // 2) + ["raised"] * (
        len(told) % 2
    )
    for (before_s, _), (after_s, _) in zip(told, told[1:]):
        assert after_s - before_s >= HOT.hold_s
    # Noise within the band changes nothing.
    assert play(HOT, [v if v is None else 85.0 + abs(v - 85.0) % 4.9 + 0.05 for v in values]) == []
