"""Loads one library and says what it is on stdout, as one JSON object.

`python -m edge.doctor.import_client NAME`

A process of its own, for a library that does not fit may crash the process that loads it, or hang.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import re
import sys
from types import ModuleType
from typing import Any, Callable, Dict, Sequence

CUDA = "cuda"
# Marks the answer among what libraries print while they are loaded.
PREFIX = "edge-doctor "

_GSTREAMER = re.compile(r"^\s*GStreamer:\s+(.+?)\s*$", re.MULTILINE)

_DRIVER = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_NAME_BYTES = 256

Said = Dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Says version and place of the library, or `trouble`."""
    (name,) = arguments
    try:
        said = _driver() if name == CUDA else _library(name)
    except (ImportError, OSError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == name.split(".")[0]
        said = {"trouble": f"{error}" or type(error).__name__, "is_missing": missing}
    sys.stdout.write(f"\n{PREFIX}{json.dumps(said)}\n")
    return 0


def _library(name: str) -> Said:
    module = importlib.import_module(name)
    top = importlib.import_module(name.split(".")[0])
    version = getattr(top, "__version__", None) or getattr(top, "VERSION_TEXT", "")
    place = str(getattr(top, "__file__", "") or "")
    return {"version": str(version), "place": place, **_MORE.get(name, _nothing)(module)}


def _nothing(module: ModuleType) -> Said:
    return {}


def _opencv(module: Any) -> Said:
    found = _GSTREAMER.search(module.getBuildInformation())
    # After OpenCV, which must be seen to load first.
    hardware = importlib.import_module("edge.capture.hardware")
    has_elements = hardware.Abilities.of_this_machine().nvidia_elements
    return {"gstreamer": found.group(1) if found else "NO", "nvidia_elements": has_elements}


def _onnxruntime(module: Any) -> Said:
    return {"providers": list(module.get_available_providers())}


_MORE: Dict[str, Callable[[ModuleType], Said]] = {"cv2": _opencv, "onnxruntime": _onnxruntime}


def _driver() -> Said:
    """The first GPU as CUDA's driver knows it."""
    library = ctypes.CDLL(_DRIVER)
    _check(library, "cuInit", 0)
    device, major, minor, version = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _check(library, "cuDeviceGet", ctypes.byref(device), 0)
    _check(library, "cuDeviceGetName", name, _NAME_BYTES, device)
    _check(library, "cuDeviceGetAttribute", ctypes.byref(major), _MAJOR, device)
    _check(library, "cuDeviceGetAttribute", ctypes.byref(minor), _MINOR, device)
    _check(library, "cuDriverGetVersion", ctypes.byref(version))
    return {
        # 12060 is 12.6
        "version": f"{version.value // 1000}.{version.value % 1000 // 10}",
        "place": name.value.decode(errors="replace"),
        "capability": [major.value, minor.value],
    }


def _check(library: ctypes.CDLL, function: str, *arguments: Any) -> None:
    code = getattr(library, function)(*arguments)
    if code:
        text = ctypes.c_char_p()
        library.cuGetErrorName(code, ctypes.byref(text))
        name = text.value.decode() if text.value else f"CUDA error {code}"
        raise RuntimeError(f"{function} failed: {name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
