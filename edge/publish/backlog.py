"""The passing messages: bounded, first in first out, nothing lost without being counted."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Deque, Dict, Optional

from edge.publish.retained import Message


class Loss(str, Enum):
    """Why a message never reached the broker."""

    OFFLINE = "offline"
    BACKLOG = "backlog"
    CONNECTION_LOST = "connection_lost"
    REFUSED = "refused"
    STOPPED = "stopped"


class Backlog:
    """Accepted messages the broker does not have yet, at most `limit`; pure.

    QoS 0 is done when it is written to the socket, QoS 1 when it is acknowledged. At most
    `window` are under way at a time: MQTT has 65,535 message ids, a backlog may be longer.
    """

    def __init__(self, limit: int, window: int = 256) -> None:
        self._limit = limit
        self._window = window
        self._waiting: Deque[Message] = deque()
        self._in_flight: Dict[int, Message] = {}
        self._lost: Dict[Loss, int] = dict.fromkeys(Loss, 0)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    @property
    def lost(self) -> Dict[Loss, int]:
        """How many messages were lost, by cause."""
        return dict(self._lost)

    def offer(self, message: Message, *, is_connected: bool) -> bool:
        """Accepts the message, or counts it as lost and returns False."""
        if not is_connected:
            self.refuse(Loss.OFFLINE)
            return False
        if len(self) >= self._limit:
            self.refuse(Loss.BACKLOG)
            return False
        self._waiting.append(message)
        return True

    def refuse(self, cause: Loss) -> None:
        """Counts a message that was not accepted."""
        self._lost[cause] += 1

    def take_next(self) -> Optional[Message]:
        """The oldest waiting message, or None; whoever takes it must report it `sent`."""
        if not self._waiting or len(self._in_flight) >= self._window:
            return None
        return self._waiting.popleft()

    def sent(self, message_id: int, message: Message) -> None:
        """The message is under way with this id."""
        self._in_flight[message_id] = message

    def confirm(self, message_id: int) -> bool:
        """The message has arrived; False if no such message is under way."""
        return self._in_flight.pop(message_id, None) is not None

    def connection_lost(self) -> None:
        """Keeps what QoS 1 promises to deliver, in order; counts the rest as lost."""
        unsent = [*self._in_flight.values(), *self._waiting]
        promised = [message for message in unsent if message.qos > 0]
        self._lost[Loss.CONNECTION_LOST] += len(unsent) - len(promised)
        self._in_flight.clear()
        self._waiting = deque(promised)

    def close(self) -> None:
        """Counts everything that is left as lost."""
        self._lost[Loss.STOPPED] += len(self)
        self._in_flight.clear()
        self._waiting.clear()
