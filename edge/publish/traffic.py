"""Everything on its way to the broker, and how the line to it stands."""

from __future__ import annotations

import logging
import threading
from enum import Enum
from typing import Dict, Optional

from edge.clock import NS_PER_S, Clock
from edge.publish.backlog import Backlog, Loss
from edge.publish.retained import Message, RetainedBook
from edge.records import PublisherCounters

log = logging.getLogger(__name__)


class Ending(Enum):
    """Whether a connection is to go on."""

    STAY = "stay"
    DISCONNECT = "disconnect"
    CUT = "cut"


class Traffic:
    """Where publishing threads and the connection's thread meet; every method returns at once.

    `broker` names the broker in logs. `will` is what the broker sets when the connection breaks.
    """

    def __init__(self, broker: str, will: Message, backlog: int, clock: Clock) -> None:
        self._broker = broker
        self._will = will
        self._clock = clock
        self._lock = threading.Lock()
        self._book = RetainedBook(last_topic=will.topic)
        self._backlog = Backlog(backlog)
        self._retained_in_flight: Dict[int, str] = {}
        self._connected_ns: Optional[int] = None
        self._published = 0
        self._last_error: Optional[str] = None
        self._farewell: Optional[Message] = None
        self._is_farewell_in_book = False
        self._is_cut = False

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

    def finish(self, farewell: Message) -> None:
        """Lets `farewell` follow everything accepted so far, and accepts nothing more."""
        with self._lock:
            self._farewell = farewell

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
            return PublisherCounters(
                connected=self._connected_ns is not None,
                broker=self._broker,
                published=self._published,
                queued=len(self._backlog) + self._book.pending,
                dropped={cause.value: count for cause, count in self._backlog.lost.items()},
                error=self._last_error or "",
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
            return self._book.take_due() or self._backlog.take_next()

    def sent(self, message_id: int, message: Message) -> None:
        """The message is under way with this id."""
        with self._lock:
            if message.retain:
                self._retained_in_flight[message_id] = message.topic
            else:
                self._backlog.sent(message_id, message)

    def confirmed(self, message_id: int) -> None:
        """The message with this id has arrived."""
        with self._lock:
            self._published += 1
            topic = self._retained_in_flight.pop(message_id, None)
            if topic is not None:
                self._book.confirm(topic)
            else:
                self._backlog.confirm(message_id)

    def received(self, topic: str, payload: bytes) -> None:
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

    def _is_settled(self) -> bool:
        return len(self._backlog) == 0 and self._book.pending == 0
