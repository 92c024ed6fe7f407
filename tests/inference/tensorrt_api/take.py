"""Writes down what TensorRT's Python bindings offer, without TensorRT and without a GPU.

    python -m tests.inference.tensorrt_api.take tensorrt-cu13-bindings==10.16.1.11 [OUT.json]
    python -m tests.inference.tensorrt_api.take FOLDER_WITH_TENSORRT_SO OUT.json
    python -m tests.inference.tensorrt_api.take pycuda-2024.1-cp38-cp38-linux_x86_64.whl

The bindings are a shared library of about 4 MB that names symbols of the far larger TensorRT.
Link stubs with those names let it be imported; none of them is ever called.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Dict, List

HERE = Path(__file__).resolve().parent

# Runs in a process of its own: a second TensorRT in one process would be refused.
_DUMP = r"""
import enum, importlib.util, json, os, re, sys

path, wanted = sys.argv[1], set(sys.argv[2].split(","))
sys.setdlopenflags(os.RTLD_LAZY)
spec = importlib.util.spec_from_file_location("tensorrt", path)
trt = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trt)

def signatures(text):
    lines = [line.strip() for line in (text or "").splitlines()]
    found = [line for line in lines if re.match(r"(\d+\. )?\w+\(.*\)( -> .*)?$", line)]
    return [re.sub(r"^\d+\. ", "", line).replace("tensorrt.tensorrt.", "") for line in found]

def member(owner, name):
    value = getattr(owner, name)
    if isinstance(value, property):
        return {"kind": "property", "writable": value.fset is not None}
    if callable(value) and not isinstance(value, owner):
        return {"kind": "method", "signatures": signatures(value.__doc__)}
    return {"kind": "value"}

def of_class(cls):
    if hasattr(cls, "__members__"):
        return {"enum": sorted(cls.__members__)}
    names = [n for n in dir(cls) if not n.startswith("_") or n == "__init__"]
    names = [n for n in names if n != "__init__" or "(self" in (cls.__init__.__doc__ or "")]
    return {"members": {n: member(cls, n) for n in names}}

top = [n for n in dir(trt) if not n.startswith("_")]
classes = {n: getattr(trt, n) for n in top if isinstance(getattr(trt, n), type)}
print(json.dumps({
    "names": sorted(top),
    "classes": {n: of_class(cls) for n, cls in sorted(classes.items()) if n in wanted},
}))
"""

_DUMP_PYCUDA = r"""
import json, os, sys

sys.setdlopenflags(os.RTLD_LAZY)
sys.path.insert(0, sys.argv[1])
import pycuda._driver as driver

kinds = (type, type(driver.Context))
print(json.dumps({
    name: sorted(dir(value)) if isinstance(value, kinds) else []
    for name, value in sorted(vars(driver).items()) if not name.startswith("_")
}))
"""

# What an engine is built and run with; the layers' own classes are the parser's business.
CLASSES = (
    "Builder", "BuilderFlag", "CalibrationAlgoType", "DataType", "DeviceType", "Dims",
    "EngineCapability", "ErrorCode", "IBuilderConfig", "ICudaEngine", "IExecutionContext",
    "IHostMemory", "IInt8Calibrator", "IInt8EntropyCalibrator2", "IInt8MinMaxCalibrator", "ILayer",
    "ILogger", "INetworkDefinition", "IOptimizationProfile", "IProgressMonitor", "ITensor",
    "ITimingCache", "LayerType", "Logger", "MemoryPoolType", "NetworkDefinitionCreationFlag",
    "OnnxParser", "ParserError", "PreviewFeature", "ProfilingVerbosity", "QuantizationFlag",
    "Runtime", "TacticSource", "TensorIOMode",
)  # fmt: skip


def needed_libraries(shared_object: Path) -> List[str]:
    """The libraries of NVIDIA's that the bindings were linked with."""
    text = output("readelf", "-d", str(shared_object))
    return re.findall(r"Shared library: \[(lib(?:nv|cu)[^\]]+)\]", text)


def write_stubs(shared_object: Path, folder: Path) -> None:
    """Makes a library of every needed name; the first has all the missing symbols."""
    listed = output("nm", "-D", "--undefined-only", str(shared_object)).splitlines()
    names = {line.split()[-1] for line in listed if "@" not in line}
    missing = sorted(
        name for name in names if re.match(r"(create|get|init|cu|curand)[A-Z]|_ZN\d+nv", name)
    )
    for library in needed_libraries(shared_object):
        source = folder / "stub.c"
        source.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in missing))
        missing = []
        target = str(folder / library)
        output("gcc", "-w", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", target, str(source))


def snapshot(shared_object: Path, version: str) -> Dict[str, Any]:
    """The names, signatures and enum members of one version's bindings."""
    with tempfile.TemporaryDirectory() as folder:
        # Alone, so that it finds no library beside itself.
        alone = shutil.copy(str(shared_object), folder)
        write_stubs(shared_object, Path(folder))
        wanted = ",".join(CLASSES)
        text = output(sys.executable, "-c", _DUMP, alone, wanted, LD_LIBRARY_PATH=folder)
    return {"version": version, **json.loads(text)}


def pycuda_snapshot(wheel: Path) -> Dict[str, List[str]]:
    """The names in pycuda's driver module, and those in its classes and enumerations."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        (shared_object,) = Path(folder).glob("pycuda/_driver*.so")
        write_stubs(shared_object, Path(folder))
        text = output(sys.executable, "-c", _DUMP_PYCUDA, folder, LD_LIBRARY_PATH=folder)
    names: Dict[str, List[str]] = json.loads(text)
    of_object = set(dir(object)) | set(dir(int))
    keep = {"__int__", "free"}
    return {
        name: [m for m in members if m in keep or (m not in of_object and m[:2] != "__")]
        for name, members in names.items()
    }


def download(requirement: str, folder: Path) -> Path:
    """Fetches a wheel of the bindings for this Python and gives the shared library in it."""
    output(
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--only-binary=:all:", "--dest", str(folder), requirement,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("/tensorrt.so"))
        return Path(archive.extract(name, folder))


def as_text(taken: Dict[str, Any]) -> str:
    """One class a line: small, and a difference shows where it is."""
    names = json.dumps(taken["names"])
    classes = ",\n".join(
        f'    "{name}": {json.dumps(members, sort_keys=True)}'
        for name, members in sorted(taken["classes"].items())
    )
    version = json.dumps(taken["version"])
    return (
        f'{{\n  "version": {version},\n  "names": {names},\n  "classes": {{\n{classes}\n  }}\n}}\n'
    )


def output(*command: str, **environment: str) -> str:
    """What a command prints; CalledProcessError where it fails."""
    everything = {**os.environ, **environment}
    result = subprocess.run(command, env=everything, stdout=subprocess.PIPE, check=True)
    return result.stdout.decode()


def main(what: str, *out: str) -> None:
    """Takes the snapshot of a requirement, or of a folder with a tensorrt.so in it."""
    folder = Path(what)
    if folder.name.startswith("pycuda-") and folder.suffix == ".whl":
        version = folder.name.split("-")[1]
        text = json.dumps(pycuda_snapshot(folder), indent=0)
        (HERE / f"pycuda-{version}.json").write_text(text + "\n", encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as scratch:
        if folder.is_dir():
            (shared_object,) = folder.rglob("tensorrt.so")
            found = re.search(r'__version__ = "([^"]+)"', _init_of(shared_object))
            taken = snapshot(shared_object, found.group(1) if found else "?")
        else:
            taken = snapshot(download(what, Path(scratch)), what.split("==")[1])
    target = Path(out[0]) if out else HERE / f"{taken['version']}.json"
    target.write_text(as_text(taken), encoding="utf-8")


def _init_of(shared_object: Path) -> str:
    return (shared_object.parent / "__init__.py").read_text(encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
