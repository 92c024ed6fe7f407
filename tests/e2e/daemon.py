"""The real `edge` command as a child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional

import yaml

from edge.demo.show import ASSETS
from tests.mosquitto import PATIENCE_S, Broker

MODEL = ASSETS / "parts.onnx"


def write_config(
    folder: Path, broker: Broker, cameras: List[Dict[str, Any]], **sections: Any
) -> Path:
    """A config file in `folder` for the bundled model."""
    config = {
        "device": {"id": "nx", "state_dir": str(folder / "state")},
        "model": {"path": str(MODEL)},
        "cameras": cameras,
        "mqtt": {"host": broker.host, "port": broker.port, "empty_frames": True},
        "health": {"interval_s": 1},
        **sections,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


class Edge:
    """One running `edge`; what it prints is kept."""

    def __init__(self, *arguments: str, cwd: Optional[Path] = None) -> None:
        environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "edge", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=environ,
            start_new_session=True,
        )
        self._stderr: List[str] = []
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()

    @property
    def stderr(self) -> str:
        return "".join(self._stderr)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Waits for the end; returns the exit code."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"edge still runs after {timeout_s} s:\n{self.stderr}") from None
        self._reader.join(PATIENCE_S)
        return code

    def stdout(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        self._stderr.extend(iter(self.process.stderr.readline, ""))
