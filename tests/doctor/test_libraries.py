"""Libraries are loaded in processes of their own: real ones, and some that go wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from edge.doctor.import_client import PREFIX
from edge.doctor.libraries import NAMES, Library, survey, understood
from tests.health.sysfs_files import write_files

PATIENT_S = 120.0


def test_those_of_this_machine() -> None:
    found = survey(timeout_s=PATIENT_S)
    assert tuple(found) == NAMES
    assert found["numpy"].works
    assert found["numpy"].version == np.__version__
    assert found["cv2"].gstreamer
    assert found["onnxruntime"].providers
    assert found["tensorrt"].works or found["tensorrt"].trouble


BROKEN: Dict[str, Any] = {
    "crashes": ("import os\nos.kill(os.getpid(), 11)", "crashes when it is loaded (Segmentation f"),
    "leaves": ("import os\nos._exit(3)", "ends its process with exit code 3"),
    "is of another kind": ("syntax error", "ends its process with exit code 1"),
    "lacks a symbol": ("raise ImportError('no symbol\\nmore')", "no symbol"),
    "says nothing": ("raise ImportError()", "ImportError"),
    "fails": ("raise RuntimeError('driver')", "driver"),
}


@pytest.mark.parametrize(("text", "trouble"), BROKEN.values(), ids=BROKEN)
def test_one_that_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, trouble: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(write_files(tmp_path, {"broken.py": text})))
    found = survey(["broken"], PATIENT_S)["broken"]
    assert found.trouble.startswith(trouble)
    assert not found.works
    assert not found.is_missing


def test_one_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import threading\nthreading.Event().wait()"
    monkeypatch.setenv("PYTHONPATH", str(write_files(tmp_path, {"broken.py": text})))
    assert survey(["broken"], 1.0)["broken"].trouble == "does not load within 1 s"


def test_one_that_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "print('hello', end='')\n__version__ = '1.2.3'"
    monkeypatch.setenv("PYTHONPATH", str(write_files(tmp_path, {"chatty.py": text})))
    found = survey(["chatty"], PATIENT_S)["chatty"]
    assert (found.version, found.release) == ("1.2.3", (1, 2))
    assert found.place == str(tmp_path / "chatty.py")


def test_missing_is_not_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import no_such_thing"
    monkeypatch.setenv("PYTHONPATH", str(write_files(tmp_path, {"needy.py": text})))
    found = survey(["needy", "no_such_library.part"], PATIENT_S)
    assert not found["needy"].is_missing
    assert found["no_such_library.part"].is_missing


def test_a_gpu_is_understood() -> None:
    said = {"version": "12.6", "place": "Orin", "capability": [8, 7]}
    found = understood("cuda", 0, f"chatter\n{PREFIX}{json.dumps(said)}\n")
    assert found == Library("cuda", "12.6", "Orin", capability=(8, 7))


@pytest.mark.parametrize(
    ("version", "release"),
    [("8.5.2.2", (8, 5)), ("2024.1", (2024, 1)), ("", (0, 0)), ("dev", (0, 0)), ("2", (0, 0))],
)
def test_release(version: str, release: object) -> None:
    assert Library("x", version).release == release


# Of CUDA's driver, what the doctor asks; CODE is what cuInit returns.
DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return CODE; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Orin", size); return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    *value = which == 75 ? 8 : which == 76 ? 7 : -1;
    return 0;
}
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuGetErrorName(int code, const char **name) { *name = "CUDA_ERROR_NO_DEVICE"; return 0; }
"""


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param(0, Library("cuda", "12.6", "Orin", capability=(8, 7)), id="a GPU"),
        pytest.param(
            100, Library("cuda", trouble="cuInit failed: CUDA_ERROR_NO_DEVICE"), id="no device"
        ),
    ],
)
def test_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: Library
) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is needed to build a driver")
    write_files(tmp_path, {"driver.c": DRIVER})
    command = ["gcc", "-w", "-shared", "-fPIC", f"-DCODE={code}", "-o", "libcuda.so.1", "driver.c"]
    subprocess.run(command, check=True, cwd=tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert survey(["cuda"], PATIENT_S)["cuda"] == expected


def test_the_driver_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path, {"libcuda.so.1": "no library"})
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert "libcuda.so.1" in survey(["cuda"], PATIENT_S)["cuda"].trouble
