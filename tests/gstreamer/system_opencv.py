"""The system's own OpenCV, in its own interpreter: GStreamer for tests."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np

PYTHON = "/usr/bin/python3"
_WORKER = Path(__file__).with_name("worker.py")
_PROBE = "import cv2; print('GStreamer:                   YES' in cv2.getBuildInformation())"


def why_not() -> str:
    """Why there is no such OpenCV here; empty if there is."""
    try:
        done = subprocess.run([PYTHON, "-c", _PROBE], capture_output=True, text=True, timeout=60)
    except OSError as error:
        return f"{PYTHON}: {error.strerror}"
    if done.stdout.strip() == "True":
        return ""
    return f"{PYTHON} has no OpenCV with GStreamer: apt-get install python3-opencv"


class SystemCapture:
    """A cv2.VideoCapture of the other interpreter; opening it again releases what was open."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [PYTHON, "-I", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._is_open = False

    def open(self, line: str) -> None:
        """Opens a launch line."""
        self._is_open = bool(self._call("open", line))

    def isOpened(self) -> bool:
        return self._is_open

    def get(self, prop: int) -> float:
        return float(self._call("get", prop))

    def read(self) -> Tuple[bool, Any]:
        shape: List[int] = self._call("read")
        if shape is None:
            return False, None
        assert self._process.stdout is not None
        data = self._process.stdout.read(int(np.prod(shape)))
        return True, np.frombuffer(data, np.uint8).reshape(shape)

    def release(self) -> None:
        self._is_open = False
        self._call("release")

    def quit(self) -> None:
        """Ends the interpreter, whatever it does."""
        self._process.kill()
        self._process.communicate()

    def _call(self, call: str, argument: object = None) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([call, argument]).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())
