"""A real RTSP server as a process that is killed, frozen and started again."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path
from typing import Dict, Optional

import pytest

SYSTEM_PYTHON = "/usr/bin/python3"
_SCRIPT = Path(__file__).with_name("serve.py")
_PATIENCE_S = 30.0


def require() -> None:
    """Skips where the system has no GStreamer RTSP server."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0')"
    command = [SYSTEM_PYTHON, "-c", probe]
    if (
        not Path(SYSTEM_PYTHON).exists()
        or subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode
    ):
        pytest.skip("needs python3-gi and gir1.2-gst-rtsp-server-1.0")


class RtspServer:
    """Serves recordings by name at rtsp://127.0.0.1:port/name, on the same port after a restart."""

    def __init__(self, mounts: Dict[str, str], user: Optional[str] = None) -> None:
        self._mounts = mounts
        self._user = user
        self.port = _free_port()
        self._process: Optional[subprocess.Popen[str]] = None

    def url(self, name: str, user: Optional[str] = None) -> str:
        """Where a recording is; `user` is name:password."""
        return f"rtsp://{user + '@' if user else ''}127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Starts it and waits until it listens."""
        mounts = [f"{name}={recording}" for name, recording in self._mounts.items()]
        user = ["--user", self._user] if self._user else []
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, str(_SCRIPT), str(self.port), *mounts, *user],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the server does not start"

    def kill(self) -> None:
        """Ends it as a power cut would; its connections are closed by the kernel."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_PATIENCE_S)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def freeze(self) -> None:
        """Lets it send nothing more, its connections staying open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
