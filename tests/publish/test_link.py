"""The link against servers that misbehave."""

from __future__ import annotations

import socket
import threading
from typing import Callable, Iterator, List

import pytest

from edge.clock import SystemClock
from edge.config.schema import MqttConfig
from edge.publish.link import MqttLink
from edge.publish.outbox.outbox import Outbox
from edge.publish.retained import Message
from tests.mosquitto import Broker, free_port, wait_for
from tests.publish.conftest import Failures

WILL = Message("a/availability", b"offline", qos=1, retain=True)

MakeLink = Callable[..., MqttLink]


@pytest.fixture
def make_link(make_outbox: Callable[..., Outbox]) -> Iterator[MakeLink]:
    made: List[MqttLink] = []

    def make(port: int, failures: Failures, **settings: str) -> MqttLink:
        keys = {"host": "127.0.0.1", "port": port, "username": "nx", **settings}
        config = MqttConfig.model_validate(keys)
        # Shorter than users may choose, to see it run out.
        config = config.model_copy(update={"keepalive_s": 1})
        made.append(
            MqttLink(
                config,
                "nx-id",
                WILL,
                make_outbox(),
                SystemClock(),
                lambda name, error: failures.append((name, error)),
            )
        )
        made[-1].start()
        return made[-1]

    yield make
    for link in made:
        link.stop(WILL, deadline_s=1)


class Impostor:
    """Accepts one connection, reads what comes first, answers with `answer` and hangs up."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._listener:
            connection, _ = self._listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(self._answer)

    def join(self) -> None:
        self._thread.join(30)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(
            b"\x20\x02\x00\x01", "answers, but not as an MQTT 3.1.1 broker", id="1 protocol version"
        ),
        pytest.param(
            b"\x20\x02\x00\x02",
            "it rejects the client id 'nx-id': change mqtt.client_id",
            id="2 id",
        ),
        pytest.param(b"\x20\x02\x00\x03", "it is unavailable", id="3 unavailable"),
        pytest.param(b"\x20\x02\x00\x04", "wrong user or password for user 'nx'", id="4 password"),
        pytest.param(b"\x20\x02\x00\x05", "user 'nx' is not authorized", id="5 not authorized"),
        pytest.param(b"\x20\x02\x00\x63", "it gives reason code 128", id="unheard of"),
        pytest.param(b"HTTP/1.1 400\r\n\r\n", "not as an MQTT 3.1.1 broker", id="a web server"),
        pytest.param(b"", "not as an MQTT 3.1.1 broker", id="hangs up"),
    ],
)
def test_refusals_in_words(
    answer: bytes, words: str, make_link: MakeLink, failures: Failures
) -> None:
    impostor = Impostor(answer)
    link = make_link(impostor.port, failures)
    wait_for(lambda: link.last_error, "the refusal")
    impostor.join()
    assert words in str(link.last_error)
    assert not link.counters().connected


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="a web server"),
        pytest.param(b"\x20\x02\x00\x0a", id="a reason nobody knows"),
        pytest.param(b"\x20\x03\x00\x63\x00", id="another reason nobody knows"),
        pytest.param(b"\x20\x02\x00\x00\x30\x01\x00", id="a message cut short"),
        pytest.param(b"\x20\x02\x00\x00\x30\x05\x00\x02\xff\xfex", id="a topic of no letters"),
        pytest.param(b"\x20\x03\x00\x00\x00\x40\x03\x00\x01\x63", id="a receipt of no meaning"),
    ],
)
def test_garbage_is_told_and_tried_again(
    answer: bytes, version: str, make_link: MakeLink, failures: Failures
) -> None:
    impostor = Impostor(answer)
    link = make_link(impostor.port, failures, version=version)
    wait_for(lambda: link.last_error, "what is wrong")
    impostor.join()
    assert link.last_error
    assert failures == []


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("no-such-host.invalid", id="unknown name"),
        pytest.param("two..dots", id="impossible name"),
    ],
)
def test_names_that_do_not_resolve(host: str, make_link: MakeLink, failures: Failures) -> None:
    link = make_link(free_port(), failures, host=host)
    wait_for(lambda: link.last_error, "the first attempt")
    assert str(link.last_error).startswith("cannot be reached: ")


def test_a_broker_that_goes_silent_is_noticed(
    broker: Broker, make_link: MakeLink, failures: Failures
) -> None:
    link = make_link(broker.port, failures)
    wait_for(lambda: link.counters().connected, "the connection")
    broker.freeze()
    wait_for(lambda: link.last_error, "the silence to be noticed", timeout_s=60)
    assert str(link.last_error).startswith("connection lost (silent for 1 s)")
    assert not link.counters().connected


def test_a_fault_in_the_thread_is_reported(broker: Broker, make_link: MakeLink) -> None:
    died: Failures = []
    link = make_link(broker.port, died)
    wait_for(lambda: link.counters().connected, "the connection")
    link.publish(Message("not/a/+/topic", b"", qos=0, retain=False))
    wait_for(lambda: died, "the report")
    assert [name for name, _ in died] == ["mqtt"]
    assert isinstance(died[0][1], ValueError)
