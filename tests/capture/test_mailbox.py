from __future__ import annotations

import threading
from typing import List

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.capture.mailbox import Mailbox
from edge.records import DropCause, Frame, FrameInfo, TimestampSource

IMAGE = np.zeros((2, 3, 3), np.uint8)


def frame(frame_id: int) -> Frame:
    info = FrameInfo("gate", frame_id, (3, 2), frame_id, frame_id, TimestampSource.RECEIVE)
    return Frame(info, IMAGE)


def ignore() -> None:
    """Nobody waits for frames."""


@given(st.lists(st.booleans(), max_size=60))
def test_each_frame_is_taken_once_or_counted(puts: List[bool]) -> None:
    mailbox, taken, put_count = Mailbox("gate", ignore), [], 0
    for is_put in puts:
        if is_put:
            mailbox.put(frame(put_count))
            put_count += 1
            continue
        got = mailbox.take()
        if got is not None:
            assert got.info.frame_id == put_count - 1
            taken.append(got.info.frame_id)
    waiting = mailbox.peek() is not None
    assert taken == sorted(set(taken))
    assert len(taken) + mailbox.dropped.get(DropCause.SUPERSEDED, 0) + waiting == put_count


def test_what_was_received_counts_replaced_frames_but_none_that_never_came_in() -> None:
    mailbox = Mailbox("gate", ignore)
    for frame_id in (0, 3, 6):  # of each three, two are above the rate cap
        mailbox.put(frame(frame_id))
        mailbox.count_drop(DropCause.RATE_CAP)
        mailbox.count_drop(DropCause.RATE_CAP)
    assert mailbox.received == 3
    assert mailbox.dropped == {DropCause.SUPERSEDED: 2, DropCause.RATE_CAP: 6}


def test_once_closed_it_counts_every_frame_as_aborted() -> None:
    told: List[str] = []
    mailbox = Mailbox("gate", lambda: told.append("frame"))
    mailbox.put(frame(0))
    mailbox.close()
    mailbox.put(frame(1))  # of a camera that could not be stopped
    mailbox.close()
    assert mailbox.take() is None
    assert (mailbox.received, mailbox.dropped) == (2, {DropCause.ABORTED: 2})
    assert told == ["frame"]


def test_nothing_is_lost_or_doubled_between_threads() -> None:
    count, taken = 5000, []
    mailbox, is_done = Mailbox("gate", ignore), threading.Event()

    def take_all() -> None:
        while not (is_done.is_set() and mailbox.peek() is None):
            got = mailbox.take()
            if got is not None:
                taken.append(got.info.frame_id)

    taker = threading.Thread(target=take_all)
    taker.start()
    for frame_id in range(count):
        mailbox.put(frame(frame_id))
    is_done.set()
    taker.join(60)
    assert not taker.is_alive()
    assert taken == sorted(set(taken))
    assert taken[-1] == count - 1
    assert len(taken) + mailbox.dropped.get(DropCause.SUPERSEDED, 0) == count


def test_tells_of_a_frame_when_it_can_be_taken() -> None:
    taken: List[object] = []
    mailbox = Mailbox("gate", lambda: taken.append(mailbox.take()))
    only = frame(0)
    mailbox.put(only)
    assert taken == [only]
    assert mailbox.take() is None


def test_drops_are_counted_by_cause_and_handed_out_as_a_copy() -> None:
    mailbox = Mailbox("gate", ignore)
    mailbox.count_drop(DropCause.RATE_CAP)
    mailbox.count_drop(DropCause.RATE_CAP)
    mailbox.dropped[DropCause.STALE] = 9
    assert mailbox.dropped == {DropCause.RATE_CAP: 2}


def test_two_mailboxes_share_nothing() -> None:
    one, other = Mailbox("one", ignore), Mailbox("other", ignore)
    one.put(frame(0))
    one.count_drop(DropCause.STALE)
    assert other.take() is None
    assert other.dropped == {}


def test_repr_shows_the_state() -> None:
    mailbox = Mailbox("gate", ignore)
    assert repr(mailbox) == "<Mailbox gate: empty>"
    mailbox.put(frame(6))
    mailbox.put(frame(7))
    assert repr(mailbox) == "<Mailbox gate: frame 7, 1 superseded>"


def test_only_the_expected_frame_is_taken() -> None:
    mailbox = Mailbox("gate", lambda: None)
    mailbox.put(frame(0))
    peeked = mailbox.peek()
    assert peeked is not None
    mailbox.put(frame(1))  # a newer one came in between
    assert mailbox.take(peeked) is None
    newer = mailbox.peek()
    assert newer is not None
    taken = mailbox.take(newer)
    assert taken is not None
    assert taken.info.frame_id == 1
    assert mailbox.dropped == {DropCause.SUPERSEDED: 1}


def test_the_next_frame_is_shown_once_and_goes_its_way() -> None:
    mailbox, shown = Mailbox("gate", ignore), []
    mailbox.put(frame(0))
    mailbox.show_next(lambda one: shown.append(one.info.frame_id))
    mailbox.show_next(lambda one: shown.append(-one.info.frame_id))
    assert shown == []
    mailbox.put(frame(1))
    mailbox.put(frame(2))
    assert shown == [1, -1]
    taken = mailbox.take()
    assert taken is not None
    assert taken.info.frame_id == 2
    assert (mailbox.received, mailbox.dropped) == (3, {DropCause.SUPERSEDED: 2})


def test_a_closed_mailbox_shows_nothing() -> None:
    mailbox, shown = Mailbox("gate", ignore), []
    mailbox.show_next(lambda one: shown.append(one.info.frame_id))
    mailbox.close()
    mailbox.put(frame(0))
    assert shown == []
