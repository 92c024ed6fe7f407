"""Reads the user's ONNX file; every complaint of the onnx package is put into words here."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, Set, Tuple

import onnx
import onnx.inliner
import onnx.version_converter
from google.protobuf.message import DecodeError  # has no stubs
from onnx import external_data_helper

from edge.building.heads.suppression import refuse_suppression
from edge.building.opset import NEWEST_OPSET, opset_of
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
    # ONNX knows no plugins: it would only call them invalid, without a way out.
    refuse_suppression(model.graph)
    _sort(model.graph)
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
        return onnx.shape_inference.infer_shapes(_told_by_newer_rules(model), data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        raise ModelError(
            f"its layers do not fit together ({_first_line(error)}); {_EXPORT_HINT}"
        ) from error


def _told_by_newer_rules(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in opset 17, where possible: by older rules no computed shape can be told."""
    if opset_of(model) >= NEWEST_OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, NEWEST_OPSET)
    except (onnx.version_converter.ConvertError, RuntimeError, ValueError, IndexError):
        return model  # the converter gives up on more than the runtimes do


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


def _sort(graph: onnx.GraphProto) -> None:
    """Puts every node behind those it needs; converters to half precision append theirs.

    What cannot be sorted stays as it is, for the checker to name.
    """
    made = {name for node in graph.node for name in node.output}
    ranks: Dict[str, int] = {}
    waiting, count = list(graph.node), 0
    while waiting and len(waiting) != count:
        count, later = len(waiting), []
        for node in waiting:
            if _needs(node) & made <= ranks.keys():
                ranks.update((name, len(ranks)) for name in node.output)
            else:
                later.append(node)
        waiting = later
    if not waiting:
        graph.node.sort(key=lambda node: [ranks[name] for name in node.output])


def _needs(node: onnx.NodeProto) -> Set[str]:
    needed = set(node.input)
    for attribute in node.attribute:
        for subgraph in (attribute.g, *attribute.graphs):
            for inner in subgraph.node:
                needed |= _needs(inner)
    return needed


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
