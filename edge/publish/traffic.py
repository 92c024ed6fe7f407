"""Everything on its way to the broker, and how the line to it stands."""

from __future__ import annotations

import logging
import threading
from enum import Enum
from typing import Dict, List, Optional, Protocol, Set, Union

from edge.clock import NS_PER_S, Clock
from edge.publish.backlog import Backlog, Loss
from edge.publish.late import told_late
from edge.publish.outbox.entry import Entry
from edge.publish.outbox.outbox import Outbox
from edge.publish.retained import Message, RetainedBook
from edge.publish.subscription import Subscription
from edge.records import PublisherCounters

log = logging.getLogger(__name__)


class Ending(Enum):
    """Whether a connection is to go on."""

    STAY = "stay"
    DISCONNECT = "disconnect"
    CUT = "cut"


class Exchange(Protocol):
    """Whose messages a connection moves, and who decides about its end."""

    def connected(self) -> None:
        """The broker has accepted the connection."""

    def connected_s(self) -> float:
        """Seconds since then."""

    def next_message(self) -> Optional[Message]:
        """The next message; whoever takes it reports it `sent`."""

    def pause_s(self) -> Optional[float]:
        """How long until there may be a next message without an event; None: for ever."""

    def sent(self, message_id: int, message: Message) -> None:
        """The message is under way with this id."""

    def confirmed(self, message_id: int) -> None:
        """The message with this id has arrived."""

    def refused(self, message_id: int, reason: str) -> None:
        """The broker will not have the message with this id."""

    def not_heard(self, topic_filter: str) -> None:
        """The broker does not let this appliance listen."""

    def ending(self) -> Ending:
        """Whether the connection is to go on, to be closed, or to be cut."""


class Traffic:
    """Where publishing threads and the connection's thread meet; every method returns at once.

    `broker` names the broker in logs. `will` is what the broker sets when the connection breaks.
    What `outbox` keeps and what passes take turns, so that neither holds up the other.
    """

    def __init__(
        self, broker: str, will: Message, backlog: int, outbox: Outbox, clock: Clock
    ) -> None:
        self._broker = broker
        self._will = will
        self._outbox = outbox
        self._clock = clock
        self._lock = threading.Lock()
        self._book = RetainedBook(last_topic=will.topic)
        self._backlog = Backlog(backlog)
        self._retained_in_flight: Dict[int, str] = {}
        self._tickets_in_flight: Dict[int, int] = {}
        self._connected_ns: Optional[int] = None
        self._published = 0
        self._last_error: Optional[str] = None
        self._farewell: Optional[Message] = None
        self._is_farewell_in_book = False
        self._outbox_until_ns = 0
        self._is_turn_of_passing = False
        self._is_cut = False
        self._complaints: Set[str] = set()
        self._repeat_at_ns: Dict[str, int] = {}
        self.subscriptions: List[Subscription] = [Subscription(will.topic, self.received)]

    def listen(self, subscription: Subscription) -> None:
        """Has what others publish handed over; before the first connection."""
        self.subscriptions.append(subscription)

    # --- for publishing threads --------------------------------------------------------------

    def offer(self, message: Message) -> bool:
        """Accepts a message for the broker; False if it was counted as lost.

        Retained messages wait for a connection, the others are lost without one.
        """
        with self._lock:
            if self._farewell is not None:
                self._backlog.refuse(Loss.STOPPED)
                return False
            if message.retain:
                self._book.put(message)
                return True
            return self._backlog.offer(message, is_connected=self._connected_ns is not None)

    def clear_unknown(self, topic: str) -> None:
        """Has the broker forget what an earlier run left there, unless this one said it anew."""
        with self._lock:
            if topic not in self._book:
                self._book.put(Message(topic, b"", qos=1, retain=True))

    def clear_under(self, prefix: str) -> None:
        """Has the broker forget every retained topic that begins with `prefix`."""
        with self._lock:
            for topic in self._book.under(prefix):
                self._book.put(Message(topic, b"", qos=1, retain=True))

    def repeat(self, topic: str, delay_s: float) -> None:
        """Sends a retained message once more, after a while."""
        with self._lock:
            self._repeat_at_ns[topic] = self._clock.monotonic_ns() + int(delay_s * NS_PER_S)

    def finish(self, farewell: Message, outbox_s: float) -> None:
        """Lets `farewell` follow everything accepted so far, and accepts nothing more.

        What the outbox still has after `outbox_s` stays there.
        """
        with self._lock:
            self._farewell = farewell
            self._outbox_until_ns = self._clock.monotonic_ns() + int(outbox_s * NS_PER_S)

    def cut(self) -> None:
        """Ends the connection without a farewell, so that the broker sets the will."""
        with self._lock:
            self._is_cut = True

    def close(self) -> bool:
        """Counts what is left as lost; True if nothing was and the farewell has arrived."""
        with self._lock:
            is_complete = self._is_farewell_in_book and self._is_settled()
            for _ in range(self._book.untold):
                self._backlog.refuse(Loss.STOPPED)
            self._backlog.close()
            return is_complete

    def counters(self) -> PublisherCounters:
        """What reached the broker and what did not."""
        with self._lock:
            status = self._outbox.status()
            kept = {f"outbox_{cause.value}": n for cause, n in self._outbox.dropped().items()}
            return PublisherCounters(
                connected=self._connected_ns is not None,
                broker=self._broker,
                published=self._published,
                queued=len(self._backlog) + self._book.pending,
                dropped={**{cause.value: n for cause, n in self._backlog.lost.items()}, **kept},
                error=self._last_error or "",
                kept=status.queued,
                outbox_trouble=status.trouble,
                outbox_fill=status.fill,
            )

    @property
    def last_error(self) -> Optional[str]:
        """Why there is no connection, in words; None while there is one or none was tried."""
        return self._last_error

    # --- for the connection's thread ---------------------------------------------------------

    def connected(self) -> None:
        """The broker has accepted the connection."""
        log.info("MQTT broker %s: connected", self._broker)
        with self._lock:
            self._connected_ns = self._clock.monotonic_ns()
            self._last_error = None

    def connected_s(self) -> float:
        """Seconds since the broker's acceptance; 0 without a connection."""
        with self._lock:
            if self._connected_ns is None:
                return 0.0
            return (self._clock.monotonic_ns() - self._connected_ns) / NS_PER_S

    def disconnected(self) -> None:
        """The connection has ended, and nobody knows what of the unconfirmed has arrived."""
        with self._lock:
            self._connected_ns = None
            self._retained_in_flight.clear()
            if not (self._is_farewell_in_book and self._is_settled()):
                self._book.connection_lost()
            self._backlog.connection_lost()
            self._tickets_in_flight.clear()
            self._outbox.give_back()

    def failed(self, reason: str) -> None:
        """Records why there is no connection; logs it unless it is what was logged before."""
        if reason != self._last_error:
            is_ending = self._farewell is not None
            then = "it will hear of the end by the will" if is_ending else "trying again"
            log.warning("MQTT broker %s: %s; %s", self._broker, reason, then)
        self._last_error = reason

    def next_message(self) -> Optional[Message]:
        """The next message, state before passing ones; whoever takes it reports it `sent`."""
        with self._lock:
            if self._farewell is not None and self._is_settled() and not self._is_farewell_in_book:
                self._book.put(self._farewell)
                self._is_farewell_in_book = True
            self._repeat_due()
            found = self._book.take_due() or self._take_turns()
        # Out of the lock, which whoever publishes waits for: it may be long to write anew.
        return _message_of(found) if isinstance(found, Entry) else found

    def pause_s(self) -> Optional[float]:
        """How long until there may be a next message without an event; None: for ever."""
        with self._lock:
            return self._outbox.pause_s()

    def sent(self, message_id: int, message: Message) -> None:
        """The message is under way with this id."""
        with self._lock:
            if message.retain:
                self._retained_in_flight[message_id] = message.topic
            elif message.ticket is not None:
                self._tickets_in_flight[message_id] = message.ticket
            else:
                self._backlog.sent(message_id, message)

    def confirmed(self, message_id: int) -> None:
        """The message with this id has arrived."""
        with self._lock:
            self._published += 1
            topic = self._retained_in_flight.pop(message_id, None)
            ticket = self._tickets_in_flight.pop(message_id, None)
            if topic is not None:
                self._book.confirm(topic)
            elif ticket is not None:
                self._outbox.ack(ticket)
            else:
                self._backlog.confirm(message_id)

    def refused(self, message_id: int, reason: str) -> None:
        """The broker will not have the message with this id; only version 5 of MQTT tells."""
        with self._lock:
            topic = self._retained_in_flight.pop(message_id, None)
            ticket = self._tickets_in_flight.pop(message_id, None)
            if ticket is not None:
                self._outbox.refuse(ticket)
            else:
                if topic is not None:
                    self._book.confirm(topic)
                else:
                    self._backlog.confirm(message_id)
                self._backlog.refuse(Loss.REFUSED)
        self._complain(f"refuses messages: {reason}")

    def not_heard(self, topic_filter: str) -> None:
        """The broker does not let this appliance listen."""
        self._complain(f"does not let us listen to {topic_filter}: check its access list")

    def _complain(self, words: str) -> None:
        if words not in self._complaints:
            self._complaints.add(words)
            log.warning("MQTT broker %s: %s", self._broker, words)

    def received(self, topic: str, payload: bytes, is_retained: bool = False) -> None:
        """Sets right what somebody else has said of this appliance.

        The will of an older connection may come after the birth of the newer one.
        """
        with self._lock:
            is_will = (topic, payload) == (self._will.topic, self._will.payload)
            if is_will and self._farewell is None:
                self._book.mark_due(topic)

    def ending(self) -> Ending:
        """Whether the connection is to go on, to be closed, or to be cut."""
        with self._lock:
            if self._is_cut:
                return Ending.CUT
            is_done = self._is_farewell_in_book and self._is_settled()
            return Ending.DISCONNECT if is_done else Ending.STAY

    def _repeat_due(self) -> None:
        now_ns = self._clock.monotonic_ns()
        for topic in [topic for topic, at_ns in self._repeat_at_ns.items() if at_ns <= now_ns]:
            del self._repeat_at_ns[topic]
            self._book.mark_due(topic)

    def _is_settled(self) -> bool:
        is_told = len(self._backlog) == 0 and self._book.pending == 0
        return is_told and not self._tickets_in_flight and self._is_outbox_done()

    def _is_outbox_done(self) -> bool:
        is_over = self._clock.monotonic_ns() >= self._outbox_until_ns
        return (self._farewell is not None and is_over) or self._outbox.is_empty

    def _take_turns(self) -> Union[Message, Entry, None]:
        self._is_turn_of_passing = not self._is_turn_of_passing
        if self._is_turn_of_passing:
            return self._backlog.take_next() or self._take_kept()
        return self._take_kept() or self._backlog.take_next()

    def _take_kept(self) -> Optional[Entry]:
        if self._connected_ns is None or (self._farewell is not None and self._is_outbox_done()):
            return None
        return self._outbox.take()


def _message_of(entry: Entry) -> Message:
    payload = entry.payload
    if entry.is_replayed or entry.shift_ms:
        payload = told_late(payload, entry.shift_ms, is_replayed=entry.is_replayed)
    return Message(entry.topic, payload, qos=1, retain=False, ticket=entry.ticket)
