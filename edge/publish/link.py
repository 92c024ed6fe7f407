"""The thread that keeps a connection to the broker."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from typing import Optional, Sequence

from edge.backoff import Backoff
from edge.clock import Clock
from edge.config.schema import MqttConfig
from edge.errors import PublishError
from edge.publish.mqtt import Connection
from edge.publish.outbox.entry import Kind
from edge.publish.outbox.outbox import Outbox
from edge.publish.retained import Message
from edge.publish.subscription import OnInbound, Subscription
from edge.publish.traffic import Traffic
from edge.records import PublisherCounters
from edge.threads import OnFailure, SupervisedThread

# A broker that throws a client out within this time has most likely got another with its id.
_TAKEOVER_S = 5.0

# Between attempts while a broker is away; a site's appliances spread over the second half of it.
_SLOWEST_S = 60.0

# For a thread that was told to cut its connection.
_CUT_S = 0.5


class MqttLink:
    """Publishes over MQTT 3.1.1, whether or not the broker is there; never blocks, never raises.

    Retained messages go out on every connection, the one on `will.topic` last. While connected,
    the link listens to `will.topic` and sends its own message again if somebody sets the will.
    """

    def __init__(
        self,
        config: MqttConfig,
        client_id: str,
        will: Message,
        outbox: Outbox,
        clock: Clock,
        on_failure: OnFailure,
    ) -> None:
        self._config = config
        self._client_id = client_id
        self._will = will
        self._outbox = outbox
        self._traffic = Traffic(config.broker, will, config.backlog, outbox, clock)
        self._thread = SupervisedThread("mqtt", self._run, on_failure)
        self._stopping = threading.Event()
        # A byte through this pair ends the thread's wait for the socket.
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)

    def listen(
        self, filters: Sequence[str], on_inbound: OnInbound, lasts_s: Optional[float] = None
    ) -> None:
        """Has what others publish under these filters handed over; before `start`."""
        for topic_filter in filters:
            self._traffic.listen(Subscription(topic_filter, on_inbound, lasts_s))

    def clear_unknown(self, topic: str) -> None:
        """Has the broker forget what an earlier run left there, unless this one said it anew."""
        self._traffic.clear_unknown(topic)

    def clear_under(self, prefix: str) -> None:
        """Has the broker forget every retained topic that begins with `prefix`."""
        self._traffic.clear_under(prefix)
        self._wake()

    def repeat(self, topic: str, delay_s: float) -> None:
        """Sends a retained message once more, after a while."""
        self._traffic.repeat(topic, delay_s)

    def start(self) -> None:
        """Starts the thread; the broker need not be there yet."""
        self._thread.start()

    def publish(self, message: Message) -> bool:
        """Leaves a message for the broker; False if it was counted as lost."""
        is_accepted = self._traffic.offer(message)
        if is_accepted:
            self._wake()
        return is_accepted

    def keep(self, kind: Kind, topic: str, payload: bytes) -> bool:
        """Leaves a message in the outbox for the broker; False if it was counted as lost."""
        is_accepted = self._outbox.put(kind, topic, payload) is not None
        self._wake()
        return is_accepted

    def stop(self, farewell: Message, deadline_s: float) -> bool:
        """Delivers what waits, then `farewell`, then disconnects so that the will is discarded.

        For half of the time the outbox is drained; what it has left then stays in it. If the rest
        takes longer than `deadline_s`, or if the broker could not be reached, returns False: the
        connection is cut and the broker sets the will. What is left is counted.
        """
        self._traffic.finish(farewell, deadline_s / 2)
        self._stopping.set()
        self._wake()
        # A broker that just failed is not waited for; one that is being tried is.
        is_hopeless = self._traffic.last_error is not None
        if is_hopeless or not self._thread.join(deadline_s):
            self._traffic.cut()
            self._wake()
            self._thread.join(_CUT_S)
        if not self._thread.is_alive:
            self._wake_read.close()
            self._wake_write.close()
        return self._traffic.close()

    @property
    def last_error(self) -> Optional[str]:
        """Why there is no connection, in words; None while there is one or none was tried."""
        return self._traffic.last_error

    def counters(self) -> PublisherCounters:
        """What reached the broker and what did not."""
        return self._traffic.counters()

    def _run(self) -> None:
        backoff = Backoff(random.Random(), limit_s=_SLOWEST_S)
        while True:
            # A short connection is no success: two clients with one id throw each other out as
            # fast as they connect, and that must slow down too.
            if self._connect_and_serve() >= backoff.limit_s:
                backoff.reset()
            if self._stopping.wait(backoff.next_s()):
                return

    def _connect_and_serve(self) -> float:
        traffic = self._traffic
        connection = Connection(
            self._config,
            self._client_id,
            self._will,
            traffic,
            self._wake_read,
            traffic.subscriptions,
        )
        connected_s = 0.0
        try:
            connection.serve()
        except PublishError as error:
            connected_s = self._traffic.connected_s()
            self._traffic.failed(str(error) + self._hint(connected_s))
        finally:
            self._traffic.disconnected()
        return connected_s

    def _hint(self, connected_s: float) -> str:
        if not 0 < connected_s < _TAKEOVER_S:
            return ""
        return f" soon after it was made: does another client use the id {self._client_id!r}?"

    def _wake(self) -> None:
        # A full pipe wakes as well as one more byte, and a closed one has nobody to wake.
        with contextlib.suppress(OSError):
            self._wake_write.send(b"\0")
