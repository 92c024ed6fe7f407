"""What an exporter wrote into the model about itself."""

from __future__ import annotations

import ast
import json
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import onnx

from edge.errors import ModelError

_WAY_OUT = "list them in model.class_names"


def read_metadata(model: onnx.ModelProto) -> Dict[str, str]:
    """The model's metadata by key."""
    return {entry.key: entry.value for entry in model.metadata_props}


def input_wh(metadata: Mapping[str, str]) -> Optional[Tuple[int, int]]:
    """The size the exporter worked with, `imgsz` as YOLO's own writes it (height first)."""
    try:
        size = ast.literal_eval(metadata.get("imgsz", ""))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size):
        return size[1], size[0]
    return None


def class_names(
    configured: Optional[Sequence[str]], metadata: Mapping[str, str], class_count: Optional[int]
) -> Tuple[str, ...]:
    """Names by class id: the user's, else the metadata's, else class_0 and so on.

    ModelError where their number is not the network's number of classes, or where it is None and
    nobody else tells it.
    """
    if configured is not None:
        return _counted(tuple(configured), class_count, "model.class_names", "correct the list")
    if "names" in metadata:
        names = _parse_names(metadata["names"])
        where = "its metadata 'names'"
        return _counted(names, class_count, where, f"{_WAY_OUT} if this is a detector at all")
    if class_count is None:
        raise ModelError(f"its output does not tell how many classes there are; {_WAY_OUT}")
    return tuple(f"class_{class_id}" for class_id in range(class_count))


def _counted(
    names: Tuple[str, ...], class_count: Optional[int], where: str, way_out: str
) -> Tuple[str, ...]:
    if class_count not in (len(names), None):
        raise ModelError(
            f"its output has {class_count} classes, but {where} has {len(names)}; {way_out}"
        )
    return names


def _parse_names(text: str) -> Tuple[str, ...]:
    names = _literal(text)
    if isinstance(names, dict):
        return _by_id(names)
    if isinstance(names, (list, tuple)):
        return tuple(map(str, names))
    raise ModelError(f"its metadata 'names' is neither a list nor a mapping; {_WAY_OUT}")


def _literal(text: str) -> Any:
    """A Python literal as YOLO exporters write it, or JSON as others do."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"its metadata 'names' cannot be read; {_WAY_OUT}") from error


def _by_id(names: Mapping[Any, Any]) -> Tuple[str, ...]:
    by_id = {str(class_id): str(name) for class_id, name in names.items()}
    try:
        return tuple(by_id[str(class_id)] for class_id in range(len(names)))
    except KeyError as error:
        raise ModelError(
            f"its metadata 'names' has no class {error.args[0]} of {len(names)}; {_WAY_OUT}"
        ) from error
