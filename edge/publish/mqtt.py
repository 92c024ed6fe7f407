"""One connection to the broker, from the attempt to the end; the only file that knows paho."""

from __future__ import annotations

import contextlib
import selectors
import socket
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.config.schema import MqttConfig
from edge.errors import PublishError
from edge.publish.retained import Message
from edge.publish.traffic import Ending, Traffic

# Pings and time-outs are paho's, but it must be given the chance to look at the clock.
_TICK_S = 1.0

# Reason codes of MQTT 5, into which paho translates those of 3.1.1.
_CLIENT_ID_REJECTED = 0x85
_BAD_USER_OR_PASSWORD = 0x86
_NOT_AUTHORIZED = 0x87
_UNAVAILABLE = 0x88
_KEEP_ALIVE_TIMEOUT = 0x8D


def refusal_in_words(code: int, config: MqttConfig, client_id: str) -> str:
    """What the broker means by a CONNACK with this MQTT 5 reason code, and what to do."""
    if code in (_BAD_USER_OR_PASSWORD, _NOT_AUTHORIZED) and config.username is None:
        return "it wants a user and a password: set mqtt.username and mqtt.password"
    words = {
        _CLIENT_ID_REJECTED: f"it rejects the client id {client_id!r}: change mqtt.client_id",
        _BAD_USER_OR_PASSWORD: f"wrong user or password for user {config.username!r}: "
        "check mqtt.username and mqtt.password",
        _NOT_AUTHORIZED: f"user {config.username!r} is not authorized: check mqtt.username, "
        "mqtt.password and the broker's access list",
        _UNAVAILABLE: "it is unavailable",
    }
    return words.get(code, f"it gives reason code {code}")


class Connection:
    """A paho client that lives for one connection.

    Nothing of a lost connection may reach the next: paho would send an old retained message
    after the newer one that is sent on connecting, and the broker would remember the old one.
    All of paho runs on the thread that calls `serve`; `wake` becomes readable when there is
    something new to send.
    """

    def __init__(
        self,
        config: MqttConfig,
        client_id: str,
        will: Message,
        traffic: Traffic,
        wake: socket.socket,
    ) -> None:
        self._config = config
        self._client_id = client_id
        self._will = will
        self._traffic = traffic
        self._wake = wake
        self._is_accepted = False
        self._is_greeted = False
        self._refusal = ""
        self._loss = ""
        self._client = self._make_client()

    def serve(self) -> None:
        """Connects and moves messages until the traffic wants an end.

        Raises PublishError, with the reason in words, if it ends in any other way.
        """
        sock = self._open()
        try:
            self._exchange(sock)
            if self._traffic.ending() is Ending.DISCONNECT:
                self._client.disconnect()
                self._client.loop_write()
        finally:
            sock.close()
        if self._traffic.ending() is Ending.STAY:
            raise PublishError(self._why_ended())

    def _make_client(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(0)  # the backlog's window is the limit
        if self._config.username is not None:
            password = self._config.password
            client.username_pw_set(
                self._config.username, password.get_secret_value() if password else None
            )
        will = self._will
        client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        # Its presence alone keeps publish() from writing to the socket, and so from confirming
        # a message before its id is known here.
        client.on_socket_register_write = lambda client, userdata, sock: None
        return client

    def _open(self) -> Any:
        config = self._config
        try:
            self._client.connect(config.host, config.port, config.keepalive_s)
        except (OSError, UnicodeError) as exc:  # UnicodeError: a name that DNS cannot spell
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
                ready = {key.fileobj: events for key, events in selector.select(_TICK_S)}
                if self._wake in ready:
                    _drain(self._wake)
                self._step(ready.get(sock, 0))

    def _goes_on(self, sock: Any) -> bool:
        return self._client.socket() is sock and self._traffic.ending() is Ending.STAY

    def _step(self, events: int) -> None:
        if events & selectors.EVENT_READ:
            self._client.loop_read()
        if events & selectors.EVENT_WRITE:
            self._client.loop_write()
        self._client.loop_misc()
        if self._is_accepted:
            self._hand_over()

    def _hand_over(self) -> None:
        if not self._is_greeted:
            self._traffic.connected()
        while self._client.socket() is not None:
            message = self._traffic.next_message()
            if message is None:
                break
            # The result is of no interest: what is not confirmed by the end of the connection
            # was not sent.
            info = self._client.publish(message.topic, message.payload, message.qos, message.retain)
            self._traffic.sent(info.mid, message)
            self._client.loop_write()
        if not self._is_greeted:
            # Not before the birth messages, or the broker answers with the last run's `offline`.
            self._client.subscribe(self._will.topic, qos=1)
            self._is_greeted = True

    def _why_ended(self) -> str:
        if self._refusal:
            return f"refuses the connection: {self._refusal}"
        if not self._is_accepted:
            return f"answers, but not as an MQTT 3.1.1 broker ({self._loss})"
        return f"connection lost ({self._loss})"

    # --- called by paho ----------------------------------------------------------------------

    def _on_connect(
        self, client: Client, userdata: Any, flags: Any, reason_code: Any, properties: Any
    ) -> None:
        if reason_code.is_failure:
            self._refusal = refusal_in_words(reason_code.value, self._config, self._client_id)
        else:
            self._is_accepted = True

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: Any, reason_code: Any, properties: Any
    ) -> None:
        if reason_code.value == _KEEP_ALIVE_TIMEOUT:
            self._loss = f"silent for {self._config.keepalive_s} s"
        else:
            self._loss = "closed by the other side"

    def _on_publish(
        self, client: Client, userdata: Any, mid: int, reason_code: Any, properties: Any
    ) -> None:
        self._traffic.confirmed(mid)

    def _on_message(self, client: Client, userdata: Any, message: Any) -> None:
        self._traffic.received(message.topic, message.payload)


def _drain(wake: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while wake.recv(4096):
            pass
