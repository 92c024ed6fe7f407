"""Fixtures that several rooms and the end-to-end tests share."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, Iterator, List

import pytest
from hypothesis import settings

from tests.mosquitto import Broker, Subscriber, wait_for

StartService = Callable[..., "subprocess.Popen[bytes]"]

# A loaded machine may be slow; no test judges by the clock.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running mosquitto that lets everybody in and remembers nothing over a restart."""
    folder = tmp_path / "broker"
    folder.mkdir()
    running = Broker(folder)
    running.start()
    yield running
    running.kill()


@pytest.fixture
def subscribe(broker: Broker) -> Iterator[Callable[..., Subscriber]]:
    """Makes subscribers of `broker`: subscribe(topic="#", qos=1)."""
    subscribers: List[Subscriber] = []

    def make(topic: str = "#", qos: int = 1) -> Subscriber:
        subscribers.append(Subscriber(broker, topic, qos))
        return subscribers[-1]

    yield make
    for subscriber in subscribers:
        subscriber.close()


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder with a short name: a socket's path has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="edge-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def start_service(root: Path) -> Iterator[StartService]:
    """Starts a service of jetson-stats at `root`/run/jtop.sock; it answers on return."""
    pytest.importorskip("jtop", reason="jetson-stats is not installed")
    running = []

    def start(*options: str) -> subprocess.Popen[bytes]:
        socket = root / "run/jtop.sock"
        socket.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            socket.unlink()
        command = [sys.executable, "-m", "tests.health.probes.jtop_service", str(socket), *options]
        process = subprocess.Popen(command)
        running.append(process)
        wait_for(lambda: socket.exists() or process.poll() is not None, "the service")
        assert process.poll() is None
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
