"""Reads what an earlier start kept as JSON; a file that cannot be believed says why in words."""

from __future__ import annotations

from pathlib import Path
from typing import Type, TypeVar

from pydantic import BaseModel, ValidationError

_Model = TypeVar("_Model", bound=BaseModel)


def read_kept(path: Path, largest_bytes: int) -> bytes:
    """A file's content; ValueError where it is larger than it can be, OSError as it comes."""
    with path.open("rb") as file:
        data = file.read(largest_bytes + 1)
    if len(data) > largest_bytes:
        raise ValueError("too large")
    return data


def parse_kept(data: bytes, model: Type[_Model]) -> _Model:
    """The record that was kept; ValueError with the place of the first fault."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise ValueError(f"{place}: {fault['msg']}" if place else fault["msg"]) from error
