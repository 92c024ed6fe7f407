from __future__ import annotations

from typing import Callable, Dict, List

from hypothesis import given
from hypothesis import strategies as st

from edge.publish.retained import Message, RetainedBook


def message(topic: str, payload: str = "1") -> Message:
    return Message(topic, payload.encode(), qos=1, retain=True)


def take_all(book: RetainedBook) -> List[str]:
    taken: List[str] = []
    for due in iter(book.take_due, None):
        taken.append(f"{due.topic}={due.payload.decode()}")
    return taken


def test_availability_goes_last_whenever_it_was_put() -> None:
    book = RetainedBook(last_topic="availability")
    for topic in ("availability", "state", "info"):
        book.put(message(topic))
    assert take_all(book) == ["state=1", "info=1", "availability=1"]


def test_nothing_is_sent_twice() -> None:
    book = RetainedBook(last_topic="availability")
    book.put(message("state"))
    take_all(book)
    book.confirm("state")
    assert take_all(book) == []
    assert book.pending == 0


def test_changes_under_way_wait_and_only_the_newest_follows() -> None:
    book = RetainedBook(last_topic="availability")
    book.put(message("state", "1"))
    assert take_all(book) == ["state=1"]
    book.put(message("state", "2"))
    book.put(message("state", "3"))
    assert take_all(book) == []
    book.confirm("state")
    assert take_all(book) == ["state=3"]


def test_a_lost_connection_makes_everything_due() -> None:
    book = RetainedBook(last_topic="availability")
    for topic in ("availability", "state", "info"):
        book.put(message(topic))
    take_all(book)
    book.confirm("state")
    book.connection_lost()
    assert take_all(book) == ["state=1", "info=1", "availability=1"]


def test_what_was_overwritten_is_sent_again() -> None:
    book = RetainedBook(last_topic="availability")
    book.put(message("availability"))
    take_all(book)
    book.confirm("availability")
    book.mark_due("availability")
    book.mark_due("never said")
    assert take_all(book) == ["availability=1"]


class Wire:
    """A connection: what is on it, and what has arrived at the other end."""

    def __init__(self, book: RetainedBook) -> None:
        self._book = book
        self._under_way: List[Message] = []
        self.arrived: Dict[str, bytes] = {}

    def take(self) -> bool:
        message = self._book.take_due()
        if message is None:
            return False
        assert message.topic not in {other.topic for other in self._under_way}
        self._under_way.append(message)
        return True

    def confirm(self) -> bool:
        if not self._under_way:
            return False
        message = self._under_way.pop(0)
        self.arrived[message.topic] = message.payload
        self._book.confirm(message.topic)
        return True

    def lose(self) -> bool:
        self._under_way.clear()
        self.arrived.clear()
        self._book.connection_lost()
        return True


@given(steps=st.lists(st.sampled_from(("a", "b", "z", "take", "confirm", "lose")), max_size=40))
def test_the_broker_ends_up_with_the_newest_of_every_topic(steps: List[str]) -> None:
    book = RetainedBook(last_topic="z")
    wire = Wire(book)
    actions: Dict[str, Callable[[], bool]] = {
        "take": wire.take,
        "confirm": wire.confirm,
        "lose": wire.lose,
    }
    newest: Dict[str, bytes] = {}
    for number, step in enumerate(steps):
        if step in actions:
            actions[step]()
        else:
            newest[step] = str(number).encode()
            book.put(message(step, str(number)))
    while wire.take() or wire.confirm():
        pass
    assert wire.arrived == newest
    assert book.pending == 0


def test_what_never_arrived_is_known_but_for_what_the_will_covers() -> None:
    book = RetainedBook(last_topic="availability")
    for topic in ("availability", "state", "info"):
        book.put(message(topic))
    assert book.untold == 2
    take_all(book)
    book.confirm("state")
    assert book.untold == 1
    book.connection_lost()  # due again, but it was told
    assert book.untold == 1
    book.put(message("state", "2"))
    assert book.untold == 2
