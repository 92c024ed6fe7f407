"""What a supervisor hears of the real daemon, and what it does when something hangs."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Callable, Iterator

import pytest

from edge.app import App
from edge.cli import main
from edge.config.schema import Config
from edge.errors import EXIT_CONFIG, EXIT_SOFTWARE, EdgeError
from edge.notify import Supervisor
from edge.records import FrameResult
from tests.building.tiny_detectors import TinyDetector
from tests.e2e.daemon import Edge, write_config
from tests.mosquitto import PATIENCE_S, Broker, Subscriber, wait_for
from tests.supervisor import Ear

CAMERA = {"name": "belt", "uri": "synthetic://1?size=96x64", "fps": 20}


@pytest.fixture
def ear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ear]:
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    listening = Ear(address)
    yield listening
    listening.close()


def test_systemd_follows_the_daemon_from_start_to_end(
    tmp_path: Path, broker: Broker, ear: Ear, edge: Callable[..., Edge]
) -> None:
    config = write_config(tmp_path, broker, [CAMERA])
    daemon = edge("run", "-c", config)
    start = ear.wait_for("READY=1")
    assert start[0] == "EXTEND_TIMEOUT_USEC=3600000000"
    assert "STATUS=building: loading the model" in start
    assert "WATCHDOG=1" not in start
    ear.wait_for("WATCHDOG=1")
    ear.wait_for("STATUS=ready")
    daemon.signal(signal.SIGHUP)
    reload = ear.wait_for("READY=1")
    assert any(message.startswith("RELOADING=1\nMONOTONIC_USEC=") for message in reload)
    ear.wait_for("WATCHDOG=1")
    daemon.signal(signal.SIGTERM)
    end = ear.wait_for("STATUS=stopping")
    assert end.index("STOPPING=1") < end.index("STATUS=stopping")
    assert daemon.process.wait(PATIENCE_S) == 0


def test_a_broker_or_camera_that_is_absent_withholds_nothing(
    tmp_path: Path, broker: Broker, ear: Ear, edge: Callable[..., Edge]
) -> None:
    config = write_config(tmp_path, broker, [{"name": "gone", "uri": "/dev/video4711"}])
    broker.kill()
    edge("run", "-c", config)
    ear.wait_for("READY=1")
    ear.wait_for("WATCHDOG=1")
    ear.heard()
    ear.wait_for("WATCHDOG=1")


def test_who_may_only_look_sees_the_same(
    tmp_path: Path,
    broker: Broker,
    ear: Ear,
    edge: Callable[..., Edge],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "alive"
    monkeypatch.setenv("EDGE_ALIVE_FILE", str(file))
    assert main(["alive", str(file)]) == 1
    edge("run", "-c", write_config(tmp_path, broker, [CAMERA]))
    ear.wait_for("WATCHDOG=1")
    wait_for(file.exists, "the file")
    assert main(["alive", str(file), "--within", "60"]) == 0


def test_a_wrong_configuration_is_never_ready(
    tmp_path: Path, broker: Broker, ear: Ear, edge: Callable[..., Edge]
) -> None:
    daemon = edge("run", "-c", write_config(tmp_path, broker, []))
    assert daemon.process.wait(PATIENCE_S) == EXIT_CONFIG
    assert ear.heard() == []


def test_where_a_watchdog_ended_it_is_in_the_log(
    tmp_path: Path, broker: Broker, ear: Ear, edge: Callable[..., Edge]
) -> None:
    daemon = edge("run", "-c", write_config(tmp_path, broker, [CAMERA]))
    ear.wait_for("READY=1")
    daemon.signal(signal.SIGABRT)
    # Looking at the frames of threads that run may itself fault, once their names are written.
    assert daemon.process.wait(PATIENCE_S) in (-signal.SIGABRT, -signal.SIGSEGV)
    daemon.close()
    assert "Fatal Python error: Aborted" in daemon.stderr
    assert "_main_loop" in daemon.stderr


def test_a_stage_that_hangs_is_told_before_the_end(
    tmp_path: Path,
    broker: Broker,
    ear: Ear,
    subscribe: Callable[..., Subscriber],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.app.SHUTDOWN_S", 3.0)
    config = Config.model_validate(
        {
            "device": {"state_dir": tmp_path / "state", "id": "nx"},
            "model": {"path": TinyDetector().save(tmp_path)},
            "engine": {"stall_s": 1},
            "cameras": [CAMERA],
            "mqtt": {"host": broker.host, "port": broker.port},
        }
    )
    listener = subscribe("edge/nx/state")
    released = threading.Event()

    def hang(result: FrameResult) -> None:
        released.wait(PATIENCE_S)

    supervisor = Supervisor(str(tmp_path / "notify"), 1_000_000)
    app = App(config, tmp_path, threading.Event(), on_result=hang)
    with pytest.raises(EdgeError, match="frames wait, and none has come out for") as caught:
        app.run(supervisor=supervisor)
    released.set()
    assert caught.value.exit_code == EXIT_SOFTWARE
    heard = ear.heard()
    told = [message for message in heard if message.startswith("STATUS=stopping: frames wait")]
    assert len(told) == 1
    listener.wait_for(
        lambda: any("frames wait" in state for state in listener.payloads("edge/nx/state")),
        "the reason over MQTT",
    )
    assert "WATCHDOG=1" not in heard[heard.index("STOPPING=1") :]
