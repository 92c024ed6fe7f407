from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Iterator, List

import pytest

from edge.clock import ManualClock
from edge.publish.outbox.age import Timekeeper
from edge.publish.outbox.entry import Kind
from edge.publish.outbox.outbox import Outbox
from edge.publish.retained import Message
from edge.publish.traffic import Ending, Traffic
from tests.publish.outboxes import limits

ONLINE = Message("availability", b"online", qos=1, retain=True)
OFFLINE = Message("availability", b"offline", qos=1, retain=True)
STATE = Message("state", b"ready", qos=1, retain=True)


def passing(number: int, qos: int = 0) -> Message:
    return Message("detections", str(number).encode(), qos, retain=False)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def outbox(clock: ManualClock, tmp_path: Path) -> Iterator[Outbox]:
    times = Timekeeper(clock, "boot", lambda: True)
    outbox = Outbox(tmp_path / "outbox.db", limits(), times, lambda name, error: None)
    yield outbox
    outbox.finish()


@pytest.fixture
def traffic(outbox: Outbox, clock: ManualClock) -> Traffic:
    return Traffic("broker:1883", OFFLINE, 3, outbox, clock)


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


def test_what_is_refused_is_counted_where_it_was_kept(outbox: Outbox, traffic: Traffic) -> None:
    outbox.put(Kind.EVENT, "edge/nx/camera/dock/events", b"{}")
    outbox.work()
    traffic.connected()
    assert traffic.offer(passing(1, qos=1))
    for message_id, message in enumerate(iter(traffic.next_message, None)):
        traffic.sent(message_id, message)
        traffic.refused(message_id, "not authorized")
    dropped = traffic.counters().dropped
    assert (dropped["refused"], dropped["outbox_refused"]) == (1, 1)
    assert outbox.is_empty


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
    traffic.finish(OFFLINE, outbox_s=1)
    assert traffic.ending() is Ending.STAY
    assert send_all(traffic) == ["online", "1", "offline"]
    assert traffic.ending() is Ending.DISCONNECT
    traffic.received("availability", b"offline")
    assert send_all(traffic) == []
    traffic.disconnected()
    assert traffic.close()


def test_after_the_end_nothing_is_accepted(traffic: Traffic) -> None:
    traffic.connected()
    traffic.finish(OFFLINE, outbox_s=1)
    assert not traffic.offer(STATE)
    assert not traffic.offer(passing(1))
    assert traffic.counters().dropped["stopped"] == 2


# --- what the outbox keeps -----------------------------------------------------------------------


def keep(outbox: Outbox, count: int) -> None:
    for number in range(count):
        outbox.put(Kind.EVENT, "events", json.dumps({"number": number}).encode())
    outbox.work()


def test_kept_messages_follow_the_state_and_are_forgotten_once_confirmed(
    traffic: Traffic, outbox: Outbox
) -> None:
    keep(outbox, 2)
    traffic.offer(ONLINE)
    assert traffic.counters().kept == 2
    traffic.connected()
    assert send_all(traffic) == ["online", '{"number": 0}', '{"number": 1}']
    assert (traffic.counters().kept, traffic.counters().published) == (0, 3)


def test_kept_and_passing_messages_take_turns(traffic: Traffic, outbox: Outbox) -> None:
    keep(outbox, 3)
    traffic.connected()
    for number in range(3):
        traffic.offer(passing(number))
    sent = [text[0] for text in send_all(traffic)]
    assert sent in (list("0{1{2{"), list("{0{1{2"))


def test_nothing_is_taken_without_a_connection(traffic: Traffic, outbox: Outbox) -> None:
    keep(outbox, 1)
    assert traffic.next_message() is None
    assert outbox.status().handed == 0


def test_unconfirmed_ones_go_out_again_in_order_and_say_so(
    traffic: Traffic, outbox: Outbox
) -> None:
    keep(outbox, 3)
    traffic.connected()
    for message_id in range(2):
        message = traffic.next_message()
        assert message is not None
        assert (message.qos, message.retain) == (1, False)
        traffic.sent(message_id, message)
    traffic.confirmed(0)
    traffic.disconnected()
    traffic.connected()
    assert send_all(traffic) == ['{"number":1,"replayed":true}', '{"number": 2}']
    assert outbox.is_empty


@pytest.mark.parametrize(
    ("after_ms", "sent"),
    [
        pytest.param(999, ["online", '{"number": 0}', "offline"], id="in time"),
        pytest.param(1_000, ["online", "offline"], id="too late: it stays for the next start"),
    ],
)
def test_the_farewell_waits_for_the_outbox_only_so_long(
    after_ms: int, sent: List[str], traffic: Traffic, outbox: Outbox, clock: ManualClock
) -> None:
    keep(outbox, 1)
    traffic.offer(ONLINE)
    traffic.connected()
    traffic.finish(OFFLINE, outbox_s=1)
    clock.advance_ms(after_ms)
    assert send_all(traffic) == sent
    assert traffic.ending() is Ending.DISCONNECT
    traffic.disconnected()
    assert traffic.close()
    assert outbox.is_empty == ('{"number": 0}' in sent)


def test_losses_of_the_outbox_are_counted_by_cause(traffic: Traffic, outbox: Outbox) -> None:
    outbox.put(Kind.EVENT, "events", bytes(9_000_000))
    dropped = traffic.counters().dropped
    assert {cause: count for cause, count in dropped.items() if count} == {"outbox_too_large": 1}


def test_a_cut_leaves_the_word_to_the_will(traffic: Traffic) -> None:
    traffic.connected()
    traffic.offer(passing(1))
    traffic.finish(OFFLINE, outbox_s=1)
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
