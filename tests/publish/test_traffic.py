from __future__ import annotations

import logging
from typing import List

import pytest

from edge.clock import ManualClock
from edge.publish.retained import Message
from edge.publish.traffic import Ending, Traffic

ONLINE = Message("availability", b"online", qos=1, retain=True)
OFFLINE = Message("availability", b"offline", qos=1, retain=True)
STATE = Message("state", b"ready", qos=1, retain=True)


def passing(number: int, qos: int = 0) -> Message:
    return Message("detections", str(number).encode(), qos, retain=False)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def traffic(clock: ManualClock) -> Traffic:
    return Traffic("broker:1883", OFFLINE, 3, clock)


def send_all(traffic: Traffic, *, confirm: bool = True) -> List[str]:
    sent: List[str] = []
    for message_id, message in enumerate(iter(traffic.next_message, None)):
        traffic.sent(message_id, message)
        if confirm:
            traffic.confirmed(message_id)
        sent.append(message.payload.decode())
    return sent


def test_birth_comes_before_passing_messages_and_ends_with_availability(traffic: Traffic) -> None:
    assert traffic.offer(ONLINE)
    assert traffic.offer(STATE)
    traffic.connected()
    assert traffic.offer(passing(1))
    assert send_all(traffic) == ["ready", "online", "1"]
    assert traffic.counters().published == 3


def test_offline_messages_are_counted_and_retained_ones_wait(traffic: Traffic) -> None:
    assert not traffic.offer(passing(1))
    assert traffic.offer(STATE)
    counters = traffic.counters()
    assert (counters.connected, counters.queued, counters.dropped["offline"]) == (False, 1, 1)


def test_a_broker_that_does_not_answer_makes_nothing_grow(traffic: Traffic) -> None:
    traffic.connected()
    for number in range(10):
        traffic.offer(passing(number))
        traffic.offer(STATE)
    send_all(traffic, confirm=False)
    counters = traffic.counters()
    assert (counters.queued, counters.dropped["backlog"]) == (3 + 1, 7)


def test_everything_retained_and_qos_1_goes_out_again_on_the_next_connection(
    traffic: Traffic,
) -> None:
    traffic.offer(ONLINE)
    traffic.connected()
    traffic.offer(passing(1, qos=1))
    traffic.offer(passing(2))
    send_all(traffic, confirm=False)
    traffic.disconnected()
    assert traffic.counters().dropped["connection_lost"] == 1
    traffic.connected()
    assert send_all(traffic) == ["online", "1"]


@pytest.mark.parametrize(
    ("topic", "payload", "answer"),
    [
        pytest.param("availability", b"offline", ["online"], id="the will of an older connection"),
        pytest.param("availability", b"online", [], id="its own birth"),
        pytest.param("other", b"offline", [], id="another topic"),
    ],
)
def test_availability_heals(
    topic: str, payload: bytes, answer: List[str], traffic: Traffic
) -> None:
    traffic.offer(ONLINE)
    traffic.connected()
    send_all(traffic)
    traffic.received(topic, payload)
    assert send_all(traffic) == answer


def test_the_farewell_follows_everything_and_is_not_healed(traffic: Traffic) -> None:
    traffic.offer(ONLINE)
    traffic.connected()
    traffic.offer(passing(1))
    traffic.finish(OFFLINE)
    assert traffic.ending() is Ending.STAY
    assert send_all(traffic) == ["online", "1", "offline"]
    assert traffic.ending() is Ending.DISCONNECT
    traffic.received("availability", b"offline")
    assert send_all(traffic) == []
    traffic.disconnected()
    assert traffic.close()


def test_after_the_end_nothing_is_accepted(traffic: Traffic) -> None:
    traffic.connected()
    traffic.finish(OFFLINE)
    assert not traffic.offer(STATE)
    assert not traffic.offer(passing(1))
    assert traffic.counters().dropped["stopped"] == 2


def test_a_cut_leaves_the_word_to_the_will(traffic: Traffic) -> None:
    traffic.connected()
    traffic.offer(passing(1))
    traffic.finish(OFFLINE)
    traffic.cut()
    assert traffic.ending() is Ending.CUT
    traffic.disconnected()
    assert not traffic.close()
    assert traffic.counters().dropped["connection_lost"] == 1


def test_the_connection_is_timed(traffic: Traffic, clock: ManualClock) -> None:
    assert traffic.connected_s() == 0
    traffic.connected()
    clock.advance_ms(2500)
    assert traffic.connected_s() == 2.5
    traffic.disconnected()
    assert traffic.connected_s() == 0


def test_each_change_is_logged_once(traffic: Traffic, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for reason in ("unreachable", "unreachable", "refused", "refused"):
        traffic.failed(reason)
    assert traffic.last_error == "refused"
    traffic.connected()
    assert traffic.last_error is None
    traffic.failed("refused")
    assert [record.getMessage() for record in caplog.records] == [
        "MQTT broker broker:1883: unreachable; trying again",
        "MQTT broker broker:1883: refused; trying again",
        "MQTT broker broker:1883: connected",
        "MQTT broker broker:1883: refused; trying again",
    ]
