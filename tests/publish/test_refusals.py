"""What a broker means by turning somebody away, and one that lets nobody listen."""

from __future__ import annotations

import socket
import threading
from typing import BinaryIO, Callable

import pytest

from edge.config.mqtt import MqttConfig
from edge.publish.publisher import Publisher
from edge.publish.refusals import is_passing, refusal_in_words
from tests.mosquitto import wait_for

NX = MqttConfig(username="nx")

CODES = {
    0x84: "it does not speak MQTT 3.1.1: change mqtt.version",
    0x85: "it rejects the client id 'nx-1': change mqtt.client_id",
    0x86: "wrong user or password for user 'nx': check mqtt.username and mqtt.password",
    0x87: "user 'nx' is not authorized: check mqtt.username, mqtt.password and the broker's",
    0x88: "it is unavailable",
    0x89: "it is busy",
    0x8A: "it has banned the client id 'nx-1' or this address",
    0x97: "its quota is used up",
    0x9F: "too many connect to it at once",
    0x99: "it gives reason code 153",
}


@pytest.mark.parametrize(("code", "words"), CODES.items())
def test_codes_in_words(code: int, words: str) -> None:
    assert refusal_in_words(code, NX, "nx-1").startswith(words)
    assert is_passing(code) == (code in (0x88, 0x89, 0x97, 0x9F))


@pytest.mark.parametrize("code", [0x86, 0x87])
def test_who_gave_no_user_is_asked_for_one(code: int) -> None:
    words = refusal_in_words(code, MqttConfig(), "nx-1")
    assert words == "it wants a user and a password: set mqtt.username and mqtt.password"


class Deaf:
    """A broker of one connection that acknowledges everything and refuses every subscription."""

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self._listener = socket.create_server((self.host, 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(30)

    def _serve(self) -> None:
        with self._listener:
            connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as stream:
            while True:
                head = stream.read(1)
                if not head or head[0] >> 4 == 14:  # DISCONNECT
                    return
                body = stream.read(_length(stream))
                connection.sendall(_answer(head[0], body))


def _length(stream: BinaryIO) -> int:
    length = shift = 0
    while True:
        (byte,) = stream.read(1)
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return length


def _answer(head: int, body: bytes) -> bytes:
    kind, qos = head >> 4, head >> 1 & 3
    if kind == 1:
        return b"\x20\x02\x00\x00"
    if kind == 3 and qos:
        topic = int.from_bytes(body[:2], "big")
        return b"\x40\x02" + body[2 + topic : 4 + topic]
    if kind == 8:
        return b"\x90\x03" + body[:2] + b"\x80"
    return b"\xd0\x00" if kind == 12 else b""


def test_a_broker_that_lets_nobody_listen_is_named_once_and_served_on(
    make_publisher: Callable[..., Publisher], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    deaf = Deaf()
    publisher = make_publisher(deaf)
    publisher.start()
    words = "does not let us listen to edge/nx/availability: check its access list"
    wait_for(lambda: any(words in record.getMessage() for record in caplog.records), words)
    wait_for(lambda: publisher.counters().queued == 0, "everything to be acknowledged")
    assert publisher.counters().connected
    assert publisher.stop(deadline_s=10)
    deaf.join()
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if words in line]) == 1
