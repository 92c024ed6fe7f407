"""One connection to the broker, from the attempt to the end; the only file that knows paho."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
import struct
from typing import Any, Dict, List, Optional, Sequence, Set

from paho.mqtt.client import Client, topic_matches_sub
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.config.mqtt import MqttConfig, MqttVersion
from edge.errors import BrokerRefuses, ConfigError, PublishError
from edge.publish.about import about
from edge.publish.refusals import is_passing, refusal_in_words
from edge.publish.retained import Message
from edge.publish.security import (
    TlsSocket,
    Unanswered,
    may_pass,
    tls_context,
    tls_failure_in_words,
)
from edge.publish.subscription import Subscription
from edge.publish.traffic import Ending, Exchange

# Pings and time-outs are paho's, but it must be given the chance to look at the clock.
_TICK_S = 1.0

# For the broker to close a connection that was taken leave of.
_HANG_UP_S = 0.5

_KEEP_ALIVE_TIMEOUT = 0x8D

# What paho's decoder raises at bytes that are no MQTT; the last version for Python 3.8 even at an
# unknown reason code.
_UNDECODABLE = (LookupError, TypeError, ValueError, AttributeError, struct.error)

_PROTOCOLS = {
    MqttVersion.V3_1_1: MQTTProtocolVersion.MQTTv311,
    MqttVersion.V5: MQTTProtocolVersion.MQTTv5,
}


class Connection:
    """A paho client that lives for one connection.

    Nothing of a lost connection may reach the next: paho would send an old retained message
    after the newer one that is sent on connecting, and the broker would remember the old one.
    All of paho runs on the thread that calls `serve`; `wake` becomes readable when there is
    something new to send. Without a `will` the broker says nothing when the connection breaks.
    """

    def __init__(
        self,
        config: MqttConfig,
        client_id: str,
        will: Optional[Message],
        traffic: Exchange,
        wake: socket.socket,
        subscriptions: Sequence[Subscription] = (),
    ) -> None:
        self._config = config
        self._client_id = client_id
        self._traffic = traffic
        self._wake = wake
        self._subscriptions: List[Subscription] = list(subscriptions)
        self._asked: Dict[int, str] = {}
        self._is_accepted = False
        self._is_greeted = False
        self._refusal: Optional[PublishError] = None
        self._loss = ""
        # A broker of version 5 says how many messages it takes before it has acknowledged one.
        self._receive_maximum = 65_535
        self._unacknowledged: Set[int] = set()
        self._client = self._make_client(will)

    def serve(self) -> None:
        """Connects and moves messages until the traffic wants an end.

        Raises PublishError, with the reason in words, if it ends in any other way: BrokerRefuses
        where the next attempt will end like this one.
        """
        sock = self._open()
        try:
            self._exchange(sock)
            if self._traffic.ending() is Ending.DISCONNECT:
                self._disconnect(sock)
        finally:
            sock.close()
        if self._traffic.ending() is Ending.STAY:
            raise self._why_ended(sock)

    def _disconnect(self, sock: Any) -> None:
        # paho closes its socket at once. Where something came in that nobody has read, that cuts
        # the connection off, the broker misses the farewell, and sets the will.
        if sock.fileno() < 0:  # paho has closed it: a last write has failed
            return
        with socket.socket(fileno=os.dup(sock.fileno())) as line:
            self._client.disconnect()
            self._client.loop_write()
            _await_end(line)

    def _make_client(self, will: Optional[Message]) -> Client:
        config = self._config
        is_5 = config.version is MqttVersion.V5
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if is_5 else True,  # version 5: unless asked for, none is kept
            protocol=_PROTOCOLS[config.version],
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(0)  # the backlog's window is the limit
        if config.username is not None:
            password = config.password
            client.username_pw_set(
                config.username, password.get_secret_value() if password else None
            )
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        # Its presence alone keeps publish() from writing to the socket, and so from confirming
        # a message before its id is known here.
        client.on_socket_register_write = lambda client, userdata, sock: None
        return client

    def _open(self) -> Any:
        config = self._config
        try:
            if config.tls is not None:
                self._client.tls_set_context(tls_context(config.tls))
                self._client.tls_insecure_set(not config.tls.check_hostname)
            self._client.connect(config.host, config.tcp_port, config.keepalive_s)
        except ConfigError as exc:
            raise BrokerRefuses(f"no TLS: {exc}") from exc
        except (OSError, UnicodeError) as exc:  # UnicodeError: a name that DNS cannot spell
            if isinstance(exc, (ssl.SSLError, ConnectionResetError, Unanswered)):
                kind = PublishError if may_pass(exc) else BrokerRefuses
                raise kind(f"no TLS: {tls_failure_in_words(exc, config)}") from exc
            reason = getattr(exc, "strerror", None) or str(exc)
            raise PublishError(f"cannot be reached: {reason}") from exc
        sock: Any = self._client.socket()
        # Small messages must not wait for the acknowledgement of the ones before (Nagle).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _exchange(self, sock: Any) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            selector.register(sock, selectors.EVENT_READ)
            while self._goes_on(sock):
                interest = selectors.EVENT_READ
                if self._client.want_write():
                    interest |= selectors.EVENT_WRITE
                selector.modify(sock, interest)
                # What TLS has decrypted already, no selector sees.
                has_more = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
                found = selector.select(0 if has_more else self._pause_s())
                ready = {key.fileobj: events for key, events in found}
                if self._wake in ready:
                    _drain(self._wake)
                events = ready.get(sock, 0) | (selectors.EVENT_READ if has_more else 0)
                if events & selectors.EVENT_READ:
                    self._read()
                self._step(events)

    def _pause_s(self) -> float:
        pause_s = self._traffic.pause_s()
        return _TICK_S if pause_s is None else min(pause_s, _TICK_S)

    def _goes_on(self, sock: Any) -> bool:
        return self._client.socket() is sock and self._traffic.ending() is Ending.STAY

    def _read(self) -> None:
        try:
            self._client.loop_read()
        except _UNDECODABLE as exc:
            version = self._config.version.value
            raise PublishError(
                f"sends what is no MQTT {version} ({type(exc).__name__}){self._tls_hint()}"
            ) from exc

    def _step(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._client.loop_write()
        self._client.loop_misc()
        if self._is_accepted:
            self._hand_over()

    def _hand_over(self) -> None:
        if not self._is_greeted:
            self._traffic.connected()
        while self._client.socket() is not None and self._has_room():
            message = self._traffic.next_message()
            if message is None:
                break
            self._send(message)
        if not self._is_greeted:
            # Not before the birth messages, or the broker answers with the last run's `offline`.
            self._subscribe()
            self._is_greeted = True
        self._unsubscribe()

    def _has_room(self) -> bool:
        return len(self._unacknowledged) < self._receive_maximum

    def _send(self, message: Message) -> None:
        # The result is of no interest: what is not confirmed by the end of the connection was
        # not sent.
        info = self._client.publish(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            self._properties(message),
        )
        if message.qos:
            self._unacknowledged.add(info.mid)
        self._traffic.sent(info.mid, message)
        self._client.loop_write()

    def _properties(self, message: Message) -> Optional[Properties]:
        if self._config.version is not MqttVersion.V5 or not message.payload:
            return None
        said = about(message.payload)
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = said.content_type
        if said.schema:
            properties.UserProperty = ("schema", said.schema)
        if said.is_passing and message.ticket is None:  # what the outbox kept is to arrive
            properties.MessageExpiryInterval = self._config.expiry_s
        return properties

    def _subscribe(self) -> None:
        for subscription in self._subscriptions:
            _, message_id = self._client.subscribe(subscription.topic_filter, qos=1)
            if message_id is not None:
                self._asked[message_id] = subscription.topic_filter

    def _unsubscribe(self) -> None:
        connected_s = self._traffic.connected_s()
        for subscription in list(self._subscriptions):
            if subscription.lasts_s is not None and connected_s >= subscription.lasts_s:
                self._client.unsubscribe(subscription.topic_filter)
                self._subscriptions.remove(subscription)

    def _why_ended(self, sock: Any) -> PublishError:
        if self._refusal is not None:
            return self._refusal
        if isinstance(sock, TlsSocket) and sock.failure is not None:
            words = tls_failure_in_words(sock.failure, self._config)
            return BrokerRefuses(f"no TLS: {words}")
        if not self._is_accepted:
            version = self._config.version.value
            return PublishError(
                f"answers, but not as an MQTT {version} broker ({self._loss}){self._tls_hint()}"
            )
        return PublishError(f"connection lost ({self._loss})")

    def _tls_hint(self) -> str:
        tls = self._config.tls
        if tls is None:
            return ": if this is its TLS port, set mqtt.tls"
        if tls.certificate_file is None:
            return ": if it wants a client certificate, set mqtt.tls.certificate_file"
        return ""

    # --- called by paho ----------------------------------------------------------------------

    def _on_connect(
        self, client: Client, userdata: Any, flags: Any, reason_code: Any, properties: Any
    ) -> None:
        if reason_code.is_failure:
            words = refusal_in_words(reason_code.value, self._config, self._client_id)
            kind = PublishError if is_passing(reason_code.value) else BrokerRefuses
            self._refusal = kind(f"refuses the connection: {words}")
            return
        self._is_accepted = True
        self._receive_maximum = getattr(properties, "ReceiveMaximum", self._receive_maximum)

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: Any, reason_code: Any, properties: Any
    ) -> None:
        if reason_code.value == _KEEP_ALIVE_TIMEOUT:
            self._loss = f"silent for {self._config.keepalive_s} s"
        elif flags.is_disconnect_packet_from_server:
            self._loss = str(reason_code).lower()
        else:
            self._loss = "closed by the other side"

    def _on_publish(
        self, client: Client, userdata: Any, mid: int, reason_code: Any, properties: Any
    ) -> None:
        self._unacknowledged.discard(mid)
        if reason_code.is_failure:
            self._traffic.refused(mid, str(reason_code).lower())
        else:
            self._traffic.confirmed(mid)

    def _on_subscribe(
        self, client: Client, userdata: Any, mid: int, reason_codes: Any, properties: Any
    ) -> None:
        topic_filter = self._asked.pop(mid, "")
        if any(code.is_failure for code in reason_codes):
            self._traffic.not_heard(topic_filter)

    def _on_message(self, client: Client, userdata: Any, message: Any) -> None:
        for subscription in self._subscriptions:
            if topic_matches_sub(subscription.topic_filter, message.topic):
                subscription.on_inbound(message.topic, message.payload, message.retain)


def _await_end(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.settimeout(_HANG_UP_S)
        line.shutdown(socket.SHUT_WR)
        while line.recv(4096):
            pass


def _drain(wake: socket.socket) -> None:
    # What is left makes it readable again.
    with contextlib.suppress(BlockingIOError):
        wake.recv(4096)
