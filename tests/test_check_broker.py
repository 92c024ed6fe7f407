"""`edge check` at a real broker: it connects as the daemon would, and says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from edge.check import Checker
from edge.config.schema import Config
from edge.demo.show import ASSETS
from tests.certificates import Authority
from tests.mosquitto import Broker, free_port

Look = Callable[..., str]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Broker]:
    """Over TLS, for a user with a password."""
    folder = tmp_path / "guarded"
    folder.mkdir()
    shown = Authority(tmp_path).sign("broker")
    lines = [f"certfile {shown.certificate}", f"keyfile {shown.key}"]
    broker = Broker(folder, {"nx": "right"}, lines)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def look(tmp_path: Path) -> Look:
    def at(port: int, **mqtt: Any) -> str:
        config = Config.model_validate(
            {
                "device": {"id": "nx", "state_dir": tmp_path / "state"},
                "model": {"path": ASSETS / "parts.onnx"},
                "engine": {"backend": "onnxruntime"},
                "cameras": [{"name": "a", "uri": "synthetic://1", "enabled": False}],
                "mqtt": {"host": "localhost", "port": port, **mqtt},
            }
        )
        checker = Checker(config, tmp_path)
        (line,) = [line for line in checker.lines() if "broker " in line]
        assert checker.faults == line.startswith("! ")
        return line

    return at


def test_one_that_lets_us_in(look: Look, broker: Broker) -> None:
    line = look(broker.port)
    assert line == f"broker   localhost:{broker.port}, topics edge/…: accepts the connection"


def test_one_that_wants_to_know_who_we_are(look: Look, guarded: Broker, tmp_path: Path) -> None:
    tls = {"ca_file": tmp_path / "authority.pem"}
    port = guarded.port
    assert look(port, tls=tls, username="nx", password="right") == (
        f"broker   localhost:{port} over TLS, topics edge/…: accepts user 'nx'"
    )
    said = look(port, tls=tls, username="nx", password="wrong")
    assert said.startswith(f"! broker   localhost:{port} over TLS, topics edge/…: refuses the")
    assert "wrong'" not in said
    assert "set mqtt.username and mqtt.password" in look(port, tls=tls)
    assert "set mqtt.tls.ca_file to the file of the authority" in look(port, tls={})
    assert "cannot be read" in look(port, tls={"ca_file": tmp_path / "absent.pem"})
    # It may also be one that is just starting: no fault of the user's for sure.
    assert look(port).endswith(
        "if this is its TLS port, set mqtt.tls (the daemon will keep trying)"
    )


def test_one_that_is_not_there(look: Look) -> None:
    line = look(free_port())
    assert line.endswith("cannot be reached: Connection refused (the daemon will keep trying)")
