"""Every event by id, through a real broker, whatever fails in between."""

from __future__ import annotations

from pathlib import Path
from typing import List, Set

import pytest

from benchmarks.outages import (
    INCIDENTS,
    Balance,
    Heard,
    Told,
    balance,
    fill_and_drain,
    go_through,
)

# Seconds on a machine that has nothing else to do, which this one may have.
pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("times", [5, pytest.param(50, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", INCIDENTS)
def test_no_event_is_lost_doubled_or_overtaken(name: str, times: int, tmp_path: Path) -> None:
    result = go_through(INCIDENTS[name], times, tmp_path)
    assert result.events > 5 * times
    assert (result.lost, result.duplicated, result.disordered) == (0, 0, 0), result
    assert result.dropped == {}
    if name != "broker_sigkill":
        assert result.lost_by_broker == 0, result


@pytest.mark.parametrize("megabytes", [0.5, pytest.param(10, marks=pytest.mark.soak)])
def test_what_piled_up_is_drained_while_new_events_come(megabytes: float, tmp_path: Path) -> None:
    drain = fill_and_drain(megabytes, tmp_path)
    assert drain.queued_mb >= megabytes
    assert (drain.balance.lost, drain.balance.duplicated, drain.balance.disordered) == (0, 0, 0)


def heard(*numbers: int, is_replayed: bool = False) -> List[Heard]:
    return [Heard(number, False, is_replayed) for number in numbers]


def count(promised: Set[int], acknowledged: Set[int], heard: List[Heard]) -> Balance:
    return balance(Told(set(promised), set(promised), acknowledged), heard)


def test_the_count_finds_what_it_is_to_find() -> None:
    assert count({1, 2, 3}, {3}, heard(1)).lost == 1
    assert count({1, 2, 3}, {3}, heard(1)).lost_by_broker == 1
    assert count({1}, set(), heard(1, 1)).duplicated == 1
    assert count({1}, set(), [*heard(1), *heard(1, is_replayed=True)]).repeated == 1
    assert count({1, 5}, set(), heard(5, 1)).disordered == 1
    assert count({1, 2}, set(), heard(2, 1)).disordered == 0  # of two cameras


def test_what_a_killed_process_had_not_committed_nobody_was_promised() -> None:
    told = Told(accepted={1, 2, 1_000_001}, committed={1})
    assert told.promised() == {1, 1_000_001}
