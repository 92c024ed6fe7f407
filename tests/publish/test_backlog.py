from __future__ import annotations

from typing import List

import pytest

from edge.publish.backlog import Backlog, Loss
from edge.publish.retained import Message


def message(number: int, qos: int = 0) -> Message:
    return Message("t", str(number).encode(), qos, retain=False)


def fill(backlog: Backlog, count: int, qos: int = 0) -> List[bool]:
    return [backlog.offer(message(number, qos), is_connected=True) for number in range(count)]


def send_all(backlog: Backlog) -> List[int]:
    numbers: List[int] = []
    for next_message in iter(backlog.take_next, None):
        numbers.append(int(next_message.payload))
        backlog.sent(numbers[-1], next_message)
    return numbers


@pytest.mark.parametrize(
    ("offered", "accepted"),
    [
        pytest.param(2, 2, id="below the limit"),
        pytest.param(3, 3, id="at the limit"),
        pytest.param(4, 3, id="one too many"),
    ],
)
def test_limit(offered: int, accepted: int) -> None:
    backlog = Backlog(limit=3)
    assert sum(fill(backlog, offered)) == len(backlog) == accepted
    assert backlog.lost[Loss.BACKLOG] == offered - accepted


def test_messages_under_way_count_towards_the_limit() -> None:
    backlog = Backlog(limit=3)
    fill(backlog, 3)
    assert send_all(backlog) == [0, 1, 2]
    assert fill(backlog, 1) == [False]
    assert backlog.confirm(0)
    assert fill(backlog, 1) == [True]


def test_without_a_connection_nothing_is_accepted() -> None:
    backlog = Backlog(limit=3)
    assert not backlog.offer(message(1), is_connected=False)
    assert backlog.lost[Loss.OFFLINE] == 1


def test_the_window_bounds_what_is_under_way() -> None:
    backlog = Backlog(limit=9, window=2)
    fill(backlog, 3)
    assert send_all(backlog) == [0, 1]
    backlog.confirm(1)
    assert send_all(backlog) == [2]


def test_an_unknown_confirmation_is_refused() -> None:
    assert not Backlog(limit=1).confirm(5)


def test_a_lost_connection_keeps_qos_1_in_order_and_counts_qos_0() -> None:
    backlog = Backlog(limit=9, window=3)
    for number in range(6):
        backlog.offer(message(number, qos=number % 2), is_connected=True)
    assert send_all(backlog) == [0, 1, 2]
    backlog.connection_lost()
    assert send_all(backlog) == [1, 3, 5]
    assert backlog.lost[Loss.CONNECTION_LOST] == 3


def test_closing_counts_what_is_left() -> None:
    backlog = Backlog(limit=9, window=1)
    fill(backlog, 3)
    send_all(backlog)
    backlog.close()
    assert len(backlog) == 0
    assert backlog.lost[Loss.STOPPED] == 3
