"""The publisher at a broker that wants to know who it is."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterator

import pytest

from edge.publish.publisher import Publisher
from tests.mosquitto import Broker, wait_for

MakePublisher = Callable[..., Publisher]


@pytest.fixture
def guarded_broker(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "guarded"
    folder.mkdir()
    broker = Broker(folder, passwords={"nx": "right"})
    broker.start()
    yield broker
    broker.kill()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param(
            {"username": "nx", "password": "wrong-secret"},
            "refuses the connection: user 'nx' is not authorized",
            id="wrong password",
        ),
        pytest.param(
            {"username": "ny"},
            "refuses the connection: user 'ny' is not authorized",
            id="unknown user",
        ),
        pytest.param({}, "refuses the connection: it wants a user and a password", id="no user"),
    ],
)
def test_a_refusal_is_not_a_connection_and_says_what_to_do(
    settings: dict[str, str],
    words: str,
    guarded_broker: Broker,
    make_publisher: MakePublisher,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    publisher = make_publisher(guarded_broker, **settings)
    publisher.start()
    wait_for(lambda: publisher.last_error, "the refusal")
    assert publisher.last_error is not None
    assert publisher.last_error.startswith(words)
    assert "mqtt.password" in publisher.last_error
    assert not publisher.counters().connected
    assert publisher.counters().published == 0
    assert "wrong-secret" not in caplog.text + repr(publisher.counters())


def test_the_right_password(guarded_broker: Broker, make_publisher: MakePublisher) -> None:
    publisher = make_publisher(guarded_broker, username="nx", password="right")
    publisher.start()
    wait_for(lambda: publisher.counters().connected, "the connection")
    assert publisher.counters().broker == f"127.0.0.1:{guarded_broker.port}"
