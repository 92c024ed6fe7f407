from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from edge.demo.broker import DEFAULT_PORT, LOOPBACK, DemoBroker, broker_command, free_port
from edge.errors import ConfigError, EdgeError


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        taken_port = taken.getsockname()[1]
        assert free_port(preferred=taken_port) not in (0, taken_port)


def test_runs_between_enter_and_exit() -> None:
    with DemoBroker(free_port(preferred=DEFAULT_PORT)) as broker:
        assert broker.name == "mosquitto"
        assert answers(broker.port)
    assert not answers(broker.port)


def test_a_broker_that_cannot_listen_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        port = taken.getsockname()[1]  # bound but not listening: nobody else can answer there
        with pytest.raises(EdgeError, match=f"did not start on {LOOPBACK}:{port}"):
            DemoBroker(port).__enter__()


def test_without_any_broker_the_message_names_the_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("edge.demo.broker.shutil.which", lambda *_, **__: None)
    monkeypatch.setattr("edge.demo.broker.importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="apt-get install mosquitto mosquitto-clients"):
        broker_command(1883, tmp_path)


def test_a_killed_demo_leaves_no_broker_behind() -> None:
    script = textwrap.dedent(
        """
        import time
        from edge.demo.broker import DemoBroker, free_port
        with DemoBroker(free_port(preferred=0)) as broker:
            print(broker.port, flush=True)
            time.sleep(60)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as demo:
        assert demo.stdout is not None
        port = int(demo.stdout.readline())
        assert answers(port)
        os.kill(demo.pid, signal.SIGKILL)
        demo.wait(10)
    deadline_s = time.monotonic() + 10
    while answers(port) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not answers(port)
