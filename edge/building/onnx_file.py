"""Reads the user's ONNX file; every complaint of the onnx package is put into words here."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Tuple

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError  # has no stubs
from onnx import external_data_helper

from edge.errors import ModelError

_EXPORT_HINT = "export the detector to ONNX again"

# What people hand over by mistake, by the file's first bytes.
_MISTAKEN_FOR_ONNX: Tuple[Tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "it is a zip archive, perhaps a PyTorch checkpoint; export it to ONNX first"),
    (b"version https://git-lfs", "it is a Git LFS pointer; run `git lfs pull`"),
    (b"<", "it is a web page or XML; download the model again"),
)


@dataclass(frozen=True)
class OnnxFile:
    """A parsed model with its weights inside, and the sha256 of all it was read from."""

    model: onnx.ModelProto
    sha256: str


def read(path: Path) -> OnnxFile:
    """Reads and checks a model and the external data it refers to; ModelError if it cannot."""
    data = _read_bytes(path)
    model = _parse(data)
    digest = hashlib.sha256(data)
    # The weights decide what is detected: a digest without them would not name the model.
    for data_path in _external_files(model, path.parent):
        digest.update(_read_bytes(data_path))
    _load_external(model, path.parent)
    # A newer file format is no harm: what it added to the operators is found by their opset.
    model.ir_version = min(model.ir_version, onnx.IR_VERSION)
    check(model)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    return OnnxFile(model, digest.hexdigest())


def check(model: onnx.ModelProto) -> None:
    """Raises ModelError where a model breaks ONNX's own rules."""
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ModelError(
            f"not a valid ONNX model ({_first_line(error)}); {_EXPORT_HINT}"
        ) from error


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with every shape that can be told before it runs."""
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        raise ModelError(
            f"its layers do not fit together ({_first_line(error)}); {_EXPORT_HINT}"
        ) from error


def _read_bytes(path: Path) -> bytes:
    try:
        # A pipe or a device would be waited for without end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{path.name} is not a regular file; correct the path")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"no such file {path.name}; copy it there or correct the path") from error
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}") from error
    if not data:
        raise ModelError(f"{path.name} is empty; {_EXPORT_HINT}, or copy it again")
    return data


def _parse(data: bytes) -> onnx.ModelProto:
    for magic, what in _MISTAKEN_FOR_ONNX:
        if data.startswith(magic):
            raise ModelError(f"not an ONNX file: {what}")
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(
            f"not an ONNX file, or cut short at {len(data)} bytes; {_EXPORT_HINT}, or copy it again"
        ) from error
    if not model.graph.node:
        raise ModelError(f"holds no network; {_EXPORT_HINT}, or copy it again")
    return model


def _external_files(model: onnx.ModelProto, folder: Path) -> Iterator[Path]:
    locations = {
        external_data_helper.ExternalDataInfo(tensor).location
        for tensor in model.graph.initializer
        if external_data_helper.uses_external_data(tensor)
    }
    for location in sorted(locations):
        path = folder / location
        if not path.is_file():
            raise ModelError(f"its weights are in {location}, which is missing; copy it to {path}")
        yield path


def _load_external(model: onnx.ModelProto, folder: Path) -> None:
    try:
        external_data_helper.load_external_data_for_model(model, str(folder))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ModelError(f"its external weights cannot be read ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
