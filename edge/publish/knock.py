"""Whether the broker would have this appliance: connects as the daemon does, and hangs up."""

from __future__ import annotations

import socket
from typing import Optional

from edge.clock import NS_PER_S, Clock
from edge.config.mqtt import MqttConfig
from edge.errors import PublishError
from edge.publish.mqtt import Connection
from edge.publish.retained import Message
from edge.publish.traffic import Ending


def knock(config: MqttConfig, client_id: str, clock: Clock, timeout_s: float) -> None:
    """Returns once the broker has accepted a connection, which says nothing and ends at once.

    `client_id` must not be that of a running daemon: the broker would throw that one out.
    Raises PublishError, with the reason in words: BrokerRefuses where only the user can mend it.
    """
    visit = _Visit(clock, timeout_s)
    wake, other_end = socket.socketpair()
    wake.setblocking(False)
    with wake, other_end:
        Connection(config, client_id, None, visit, wake).serve()
    if visit.ending() is not Ending.DISCONNECT:
        raise PublishError(f"does not answer within {timeout_s:.0f} s")


class _Visit:
    """An exchange of no messages."""

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._until_ns = clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        self._is_accepted = False

    def connected(self) -> None:
        self._is_accepted = True

    def connected_s(self) -> float:
        return 0.0

    def next_message(self) -> Optional[Message]:
        return None

    def pause_s(self) -> Optional[float]:
        return None

    def sent(self, message_id: int, message: Message) -> None:
        """Never called: there are none."""

    def confirmed(self, message_id: int) -> None:
        """Never called."""

    def refused(self, message_id: int, reason: str) -> None:
        """Never called."""

    def not_heard(self, topic_filter: str) -> None:
        """Never called: it listens to nothing."""

    def ending(self) -> Ending:
        if self._is_accepted:
            return Ending.DISCONNECT
        return Ending.STAY if self._clock.monotonic_ns() < self._until_ns else Ending.CUT
