"""What the broker is to remember, and what of it the broker does not know yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional


@dataclass(frozen=True)
class Message:
    """One MQTT publication; `ticket` is the outbox's, of what it keeps."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    ticket: Optional[int] = None


class _Page:
    """One topic's newest message, and whether the broker has it."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.is_in_flight = False
        self.is_told = False


class RetainedBook:
    """The newest message of every retained topic; pure, the caller does the sending.

    At most one message per topic is under way: what changes meanwhile waits and only the newest
    is sent, so a broker that stopped answering cannot make the book grow.
    """

    def __init__(self, last_topic: str) -> None:
        # `online` must not be believed before the state it stands for has arrived.
        self._last_topic = last_topic
        self._pages: Dict[str, _Page] = {}
        # Topics to send, in order: there may be a thousand counts of which one has changed.
        self._due: Dict[str, None] = {}

    def put(self, message: Message) -> None:
        """Makes `message` its topic's newest."""
        page = self._pages.get(message.topic)
        if page is None:
            self._pages[message.topic] = _Page(message)
        else:
            page.message = message
            page.is_told = False
        self._due[message.topic] = None

    def __contains__(self, topic: str) -> bool:
        return topic in self._pages

    def under(self, prefix: str) -> List[str]:
        """The topics that begin with `prefix` and say something."""
        return [
            topic
            for topic, page in self._pages.items()
            if topic.startswith(prefix) and page.message.payload
        ]

    def mark_due(self, topic: str) -> None:
        """Has the topic sent again: somebody else has overwritten it."""
        if topic in self._pages:
            self._due[topic] = None

    def take_due(self) -> Optional[Message]:
        """The next message to send, now under way; None when nothing can go out at the moment."""
        sendable = (topic for topic in self._due if not self._pages[topic].is_in_flight)
        topic = next((topic for topic in sendable if topic != self._last_topic), self._last_topic)
        if topic not in self._due or self._pages[topic].is_in_flight:
            return None
        del self._due[topic]
        self._pages[topic].is_in_flight = True
        return self._pages[topic].message

    def confirm(self, topic: str) -> None:
        """The broker has acknowledged the topic's message under way."""
        page = self._pages[topic]
        page.is_in_flight = False
        page.is_told = topic not in self._due

    def connection_lost(self) -> None:
        """Everything is due again: a broker without persistence forgets on restart."""
        self._due = dict.fromkeys(self._pages)
        for page in self._pages.values():
            page.is_in_flight = False

    @property
    def untold(self) -> int:
        """Topics whose newest message never arrived; of `last_topic` the will takes care."""
        topics = [topic for topic, page in self._pages.items() if not page.is_told]
        return sum(topic != self._last_topic for topic in topics)

    @property
    def pending(self) -> int:
        """Topics whose newest message the broker has not acknowledged."""
        return sum(topic in self._due or page.is_in_flight for topic, page in self._pages.items())
