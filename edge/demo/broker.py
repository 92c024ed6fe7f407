"""A broker of the demo's own, as a child process on loopback that ends with its parent."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Iterator, List, Optional, Tuple, Type

from edge.errors import ConfigError, EdgeError

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 1883
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 2.0
_SETTLE_S = 0.2
_PR_SET_PDEATHSIG = 1
# Loaded before any fork: what runs between fork and exec must not take locks.
_LIBC = ctypes.CDLL(None)


def free_port(preferred: int = DEFAULT_PORT) -> int:
    """`preferred` if nothing listens there, else one the kernel picks."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise EdgeError("no free TCP port on loopback")


def broker_command(port: int, folder: Path) -> Tuple[str, List[str]]:
    """Name and command of a broker on `port`: mosquitto, or amqtt where only that is there."""
    # Debian installs mosquitto in /usr/sbin, which is not on a user's PATH.
    mosquitto = shutil.which("mosquitto") or shutil.which(
        "mosquitto", path="/usr/sbin:/usr/local/sbin"
    )
    if mosquitto:
        config = folder / "mosquitto.conf"
        config.write_text(
            f"listener {port} {LOOPBACK}\nallow_anonymous true\npersistence false\n"
            "set_tcp_nodelay true\n" + ("user root\n" if os.geteuid() == 0 else "")
            # Started by root it would change its user, and the kernel forgets the parent-death
            # signal of a process that does.
        )
        return "mosquitto", [mosquitto, "-c", str(config)]
    if importlib.util.find_spec("amqtt") is not None:
        config = folder / "amqtt.yaml"
        config.write_text(
            f"listeners:\n  default:\n    type: tcp\n    bind: {LOOPBACK}:{port}\n"
            "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n"
            "    allow_anonymous: true\n"
        )
        return "amqtt", [sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(config)]
    raise ConfigError("the demo needs an MQTT broker: apt-get install mosquitto mosquitto-clients")


def _die_with_parent() -> None:
    # A demo that is killed must not leave a broker behind.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class DemoBroker:
    """Runs the broker between enter and exit; `name` and `port` say what runs where.

    Without a `port` it takes 1883, or a free one where 1883 is taken.
    """

    def __init__(self, port: Optional[int] = None) -> None:
        self.port = 0
        self.name = ""
        self._wanted_port = port
        self._folder: Optional[tempfile.TemporaryDirectory[str]] = None
        self._process: Optional[subprocess.Popen[bytes]] = None

    def __enter__(self) -> DemoBroker:
        self._folder = tempfile.TemporaryDirectory(prefix="edge-broker-")
        for port in self._ports():
            self.port = port
            self.name, command = broker_command(port, Path(self._folder.name))
            self._process = _spawn(command)
            if _is_serving(self._process, port):
                return self
            self._end()
        self._folder.cleanup()
        raise EdgeError(f"the broker ({self.name}) did not start on {LOOPBACK}:{self.port}")

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._end()
        if self._folder is not None:
            self._folder.cleanup()

    def _ports(self) -> Iterator[int]:
        if self._wanted_port is not None:
            yield self._wanted_port
            return
        # A port that was free may be taken by the time the broker binds it.
        yield free_port()
        yield from (free_port(preferred=0) for _ in range(3))

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def _spawn(command: List[str]) -> subprocess.Popen[bytes]:
    # Its own session: Ctrl-C goes to the whole foreground group, but the broker must outlive the
    # daemon's goodbye.
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )


def _is_serving(process: subprocess.Popen[bytes], port: int) -> bool:
    """Waits until something answers on `port`; False if that is not `process`."""
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        try:
            socket.create_connection((LOOPBACK, port), timeout=1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            # Another broker may have answered, while ours is about to find the port taken.
            time.sleep(_SETTLE_S)
            return process.poll() is None
    return False
