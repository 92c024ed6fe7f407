from __future__ import annotations

import random
from typing import Callable, Optional

import pytest

from edge.clock import NS_PER_S
from edge.health.trend import Trend


def slope(value: Callable[[float], float], seconds: int, every_s: float = 1.0) -> Optional[float]:
    trend = Trend()
    for index in range(int(seconds / every_s) + 1):
        trend.add(int(index * every_s * NS_PER_S), value(index * every_s))
    return trend.per_s()


@pytest.mark.parametrize(
    ("seconds", "is_known"),
    [pytest.param(14, False, id="too short"), pytest.param(15, True, id="long enough")],
)
def test_it_takes_fifteen_seconds(seconds: int, is_known: bool) -> None:
    assert (slope(lambda s: s, seconds) is not None) == is_known


def test_nothing_is_known_of_nothing() -> None:
    assert Trend().per_s() is None


def test_steps_of_half_a_degree_and_noise_do_not_hide_a_slope() -> None:
    noise = random.Random(7)

    def reading(seconds: float) -> float:
        return round((60 + 0.03 * seconds + noise.gauss(0, 0.3)) * 2) / 2

    found = slope(reading, 60)
    assert found == pytest.approx(0.03, abs=0.012)


def test_only_the_last_minute_counts() -> None:
    assert slope(lambda s: 0.0 if s < 100 else s, 160) == pytest.approx(1.0)


def test_after_a_restart_it_begins_anew() -> None:
    trend = Trend()
    for second in range(30):
        trend.add(second * NS_PER_S, second)
    trend.restart()
    assert trend.per_s() is None
    for second in range(30, 51):
        trend.add(second * NS_PER_S, 30 - second)
    assert trend.per_s() == pytest.approx(-1.0)
