"""`edge run` over TLS with a password from a credential, and what it says while it is refused."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest

from tests.certificates import Authority
from tests.e2e.daemon import Edge, write_config
from tests.mosquitto import Broker, Subscriber, wait_for

DOCK = {"name": "dock", "uri": "synthetic://2?size=160x120", "fps": 4}

StartEdge = Callable[..., Edge]


class Plant:
    """A guarded broker, and the section of a configuration for it."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        shown = authority.sign("broker")
        lines = [f"certfile {shown.certificate}", f"keyfile {shown.key}"]
        self.broker = Broker(folder, {"nx": "right"}, lines)
        self.broker.host = "localhost"
        self.broker.start()
        self.listener = ["-u", "nx", "-P", "right", "--cafile", str(authority.certificate)]
        self.mqtt: Dict[str, Any] = {
            "host": "localhost",
            "port": self.broker.port,
            "username": "nx",
            "password_file": "credentials/mqtt",
            "tls": {"ca_file": str(authority.certificate)},
            "version": "5",
            "home_assistant": {"discovery": True},
        }


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    folder = tmp_path / "plant"
    folder.mkdir()
    made = Plant(folder)
    yield made
    made.broker.kill()


def test_a_wrong_password_is_explained_and_the_right_one_opens(
    tmp_path: Path, plant: Plant, edge: StartEdge
) -> None:
    (tmp_path / "credentials").mkdir()
    secret = tmp_path / "credentials" / "mqtt"
    secret.write_text("wrong-secret\n")
    config = write_config(tmp_path, plant.broker, [DOCK], mqtt=plant.mqtt)

    check = edge("check", "-c", config)
    assert check.wait() == 78
    assert "! broker " in check.stdout()
    daemon = edge("run", "-c", config)
    wait_for(lambda: "user 'nx' is not authorized" in daemon.stderr, "the refusal in the log")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0

    secret.write_text("right\n")
    check = edge("check", "-c", config)
    assert check.wait() == 0
    assert "over TLS, topics edge/…: accepts user 'nx'" in check.stdout()
    witness = Subscriber(plant.broker, "edge/#", options=plant.listener)
    home = Subscriber(plant.broker, "homeassistant/#", options=plant.listener)
    try:
        second = edge("run", "-c", config)
        topic = "edge/nx/camera/dock/count/all"
        witness.wait_for(lambda: witness.on(topic), f"counts; the daemon says {second.stderr}")
        home.wait_for(lambda: home.messages, "the announcement")
        assert "edge/nx/camera/dock/status" in home.messages[0].payload
        second.signal(signal.SIGTERM)
        assert second.wait() == 0
        witness.wait_for(
            lambda: witness.payloads("edge/nx/availability")[-1:] == ["offline"], "the end"
        )
    finally:
        witness.close()
        home.close()
    for process in (check, daemon, second):
        assert "wrong-secret" not in process.stderr
        assert "Traceback" not in process.stderr


def test_a_password_in_the_clear_is_refused_before_anything_is_sent(
    tmp_path: Path, broker: Broker, edge: StartEdge
) -> None:
    mqtt = {"host": "broker.example", "username": "nx", "password": "secret"}
    daemon = edge("run", "-c", write_config(tmp_path, broker, [DOCK], mqtt=mqtt))
    assert daemon.wait() == 78
    assert "mqtt.password: would travel to broker.example for all to read" in daemon.stderr
    assert "set mqtt.tls" in daemon.stderr
