"""The libraries this Python finds, each looked at by a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from edge.doctor.import_client import CUDA, PREFIX
from edge.threads import call_in_thread

NAMES = ("numpy", "cv2", "tensorrt", "pycuda.driver", "onnxruntime", CUDA)

# TensorRT takes some seconds to load from an SD card.
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Library:
    """A library, or the `trouble` it makes when it is loaded; `is_missing` where it is not here.

    `place` is its file; of `cuda`, the GPU's name, and `version` is what the driver can do.
    """

    name: str
    version: str = ""
    place: str = ""
    trouble: str = ""
    is_missing: bool = False
    gstreamer: str = "NO"
    nvidia_elements: bool = False
    providers: Tuple[str, ...] = ()
    capability: Optional[Tuple[int, int]] = None

    @property
    def works(self) -> bool:
        """Whether it could be loaded."""
        return not self.trouble

    @property
    def release(self) -> Tuple[int, int]:
        """Major and minor version; zeros where it does not say."""
        numbers = [int(part) for part in self.version.split(".")[:2] if part.isdecimal()]
        return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


Libraries = Mapping[str, Library]


def survey(names: Sequence[str] = NAMES, timeout_s: float = _TIMEOUT_S) -> Dict[str, Library]:
    """Loads them all side by side, each in a process that is killed after `timeout_s`."""
    answers = {name: call_in_thread(f"load-{name}", _Asking(name, timeout_s)) for name in names}
    return {name: answer.result() for name, answer in answers.items()}


class _Asking:
    def __init__(self, name: str, timeout_s: float) -> None:
        self._name = name
        self._timeout_s = timeout_s

    def __call__(self) -> Library:
        command = [sys.executable, "-m", "edge.doctor.import_client", self._name]
        try:
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Library(self._name, trouble=f"does not load within {self._timeout_s:.0f} s")
        except OSError as error:
            return Library(self._name, trouble=f"no process could be started: {error.strerror}")
        return understood(self._name, ended.returncode, ended.stdout.decode(errors="replace"))


def understood(name: str, code: int, output: str) -> Library:
    """What a client's output and exit code mean."""
    lines = [line[len(PREFIX) :] for line in output.splitlines() if line.startswith(PREFIX)]
    if not lines:
        return Library(name, trouble=_ending(code))
    said: Dict[str, Any] = json.loads(lines[-1])
    for key in ("providers", "capability"):
        if key in said:
            said[key] = tuple(said[key])
    if "trouble" in said:
        said["trouble"] = _first_line(said["trouble"])
    return Library(name, **said)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ends its process with exit code {code} when it is loaded"
    return f"crashes when it is loaded ({signal.strsignal(-code) or -code})"


def _first_line(text: str) -> str:
    lines: List[str] = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "it does not say why"
