"""A visit to the broker that says one thing where the appliance would, and listens for it."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Optional

from edge.clock import NS_PER_S, Clock
from edge.config.mqtt import MqttConfig
from edge.doctor.road import Rehearsal
from edge.errors import PublishError
from edge.publish.mqtt import Connection
from edge.publish.retained import Message
from edge.publish.subscription import Subscription
from edge.publish.traffic import Ending

_PAYLOAD = b'{"schema":"edge.doctor.visit/1"}'
# For the broker to hand a message back that it has acknowledged.
_ECHO_S = 1.5
_POLL_S = 0.2


def rehearse(
    config: MqttConfig, client_id: str, topic: str, clock: Clock, timeout_s: float
) -> Rehearsal:
    """Publishes once to `topic`, not retained, while subscribed to it.

    Raises PublishError, with the reason in words, where the broker cannot be visited.
    """
    visit = _Visit(topic, clock, timeout_s)
    wake, other_end = socket.socketpair()
    wake.setblocking(False)
    listening = [Subscription(topic, visit.heard)]
    with wake, other_end:
        Connection(config, client_id, None, visit, wake, listening).serve()
    if not visit.is_accepted:
        raise PublishError(f"does not answer within {timeout_s:.0f} s")
    return visit.told


class _Visit:
    """An exchange of one message."""

    def __init__(self, topic: str, clock: Clock, timeout_s: float) -> None:
        self._message = Message(topic, _PAYLOAD, 1, False)
        self._clock = clock
        self._until_ns = clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        self._asked = 0
        self.is_accepted = False
        self.told = Rehearsal()

    def connected(self) -> None:
        self.is_accepted = True

    def connected_s(self) -> float:
        return 0.0

    def next_message(self) -> Optional[Message]:
        # The first time it is asked before it has subscribed.
        self._asked += 1
        return self._message if self._asked == 2 else None

    def pause_s(self) -> Optional[float]:
        return _POLL_S

    def sent(self, message_id: int, message: Message) -> None:
        """Of no interest before it is confirmed."""

    def confirmed(self, message_id: int) -> None:
        self.told = replace(self.told, is_confirmed=True)
        soon_ns = self._clock.monotonic_ns() + int(_ECHO_S * NS_PER_S)
        self._until_ns = min(self._until_ns, soon_ns)

    def refused(self, message_id: int, reason: str) -> None:
        self.told = replace(self.told, refusal=reason)

    def not_heard(self, topic_filter: str) -> None:
        self.told = replace(self.told, may_listen=False)

    def heard(self, topic: str, payload: bytes, is_stored: bool) -> None:
        """Also another doctor's: it shows as much."""
        self.told = replace(self.told, is_heard=True)

    def ending(self) -> Ending:
        told = self.told
        answered = told.is_confirmed and (told.is_heard or not told.may_listen)
        if answered or told.refusal:
            return Ending.DISCONNECT
        if self._clock.monotonic_ns() < self._until_ns:
            return Ending.STAY
        return Ending.DISCONNECT if self.is_accepted else Ending.CUT
