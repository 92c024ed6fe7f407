"""A TensorRT made of a snapshot of the real one: what the snapshot lacks raises.

A class of the double has the members of the real class and no others, its methods take the real
parameters and no others, its read-only properties cannot be set. What it does comes from a
`World`: methods named `Class_method` and `Class_property`.
"""

from __future__ import annotations

import enum
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Mapping, Optional, Tuple

HERE = Path(__file__).resolve().parent
VERSIONS = ("8.5.2.2", "8.6.1", "10.3.0", "10.16.1.11", "11.4.0.106")
STRONGLY_TYPED = VERSIONS[-1:]
CALIBRATED = VERSIONS[:-1]

# What Python itself must be able to subclass.
_SUBCLASSED = ("ILogger", "IProgressMonitor", "IInt8EntropyCalibrator2", "IInt8MinMaxCalibrator")
_ALIASES = {"float16": "HALF", "float32": "FLOAT", "int32": "INT32", "uint8": "UINT8"}


def load(version: str) -> Dict[str, Any]:
    """The snapshot of a version."""
    snapshot: Dict[str, Any] = json.loads((HERE / f"{version}.json").read_text("utf-8"))
    return snapshot


def parameters(signature: str) -> List[Tuple[str, bool]]:
    """Names of a signature's parameters but self, and whether each has a default."""
    inside = signature[signature.index("(") + 1 : signature.rindex(")")]
    found = re.findall(r"(\w+): ((?:[^,\[\]<>]|\[[^\]]*\]|<[^>]*>)+)", inside)
    return [(name, "=" in kind) for name, kind in found if name != "self"]


def accepts(signatures: List[str], positional: int, keywords: List[str]) -> bool:
    """Tells whether any overload can be called so."""
    if not signatures:
        return True
    for signature in signatures:
        names = parameters(signature)
        given = {name for name, _ in names[:positional]} | set(keywords)
        known = {name for name, _ in names}
        required = {name for name, has_default in names if not has_default}
        if positional <= len(names) and set(keywords) <= known and required <= given:
            return True
    return False


class World:
    """What the double does; a test's subclass overrides. Unknown calls return None."""

    def __init__(self) -> None:
        self.calls: List[Tuple[str, Tuple[Any, ...]]] = []

    def answer(self, owner: str, name: str, this: Any, arguments: Tuple[Any, ...]) -> Any:
        self.calls.append((f"{owner}.{name}", arguments))
        handler = getattr(self, f"{owner}_{name}", None)
        return None if handler is None else handler(this, *arguments)

    def arguments_of(self, call: str) -> List[Tuple[Any, ...]]:
        """The arguments of each call of this name."""
        return [arguments for name, arguments in self.calls if name == call]


class _Member(enum.Enum):
    def __int__(self) -> int:
        return int(self.value)


def tensorrt_double(version: str, world: World) -> Any:
    """A module with the snapshot's names, of which those used have a behaviour."""
    snapshot = load(version)
    module: Dict[str, Any] = dict.fromkeys(snapshot["names"])
    for name, description in snapshot["classes"].items():
        if "enum" in description:
            members = {member: number for number, member in enumerate(description["enum"])}
            kind: Any = _NamelessMember if name == "ErrorCode" else _Member
            module[name] = kind(name, members)
        else:
            module[name] = _class(name, description["members"], world)
    for alias, member in _ALIASES.items():
        module[alias] = getattr(module["DataType"], member)
    return SimpleNamespace(__version__=version, **module)


class _NamelessMember(_Member):
    """Up to 10.3 a method hides the name of an ErrorCode; only its text tells what it is."""

    @property
    def name(self) -> str:
        raise AttributeError("ErrorCode.name is not the member's name")


class Double:
    """One object of TensorRT's; a subclass for each class of the snapshot."""

    owner = ""
    members: Mapping[str, Mapping[str, Any]] = {}
    world: World

    def __init__(self, *arguments: Any) -> None:
        self.__dict__["values"] = {}
        signatures = self.members.get("__init__", {}).get("signatures", [])
        if self.owner not in _SUBCLASSED and not accepts(signatures, len(arguments), []):
            raise TypeError(f"{self.owner}.__init__ does not take {arguments}")
        self.world.answer(self.owner, "__init__", self, arguments)

    def __getattr__(self, name: str) -> Any:
        member = self.members.get(name)
        if member is None or name.startswith("_"):
            raise AttributeError(f"TensorRT's {self.owner} has no {name}")
        if not _is_initialised(self):
            raise RuntimeError(f"{self.owner}.__init__ was not called")
        if member["kind"] == "method":
            return _method(self.owner, name, member, self, self.world)
        if name in self.values:
            return self.values[name]
        return self.world.answer(self.owner, name, self, ())

    def __setattr__(self, name: str, value: Any) -> None:
        if not self.members.get(name, {}).get("writable"):
            raise AttributeError(f"TensorRT's {self.owner}.{name} cannot be set")
        if isinstance(value, Double) and not _is_initialised(value):
            raise RuntimeError(f"{type(value).__name__}.__init__ does not call its base's")
        self.values[name] = value

    def __bytes__(self) -> bytes:
        if self.owner != "IHostMemory":
            raise TypeError(f"TensorRT's {self.owner} is no bytes")
        return bytes(self.__dict__["data"])


def _class(owner: str, members: Mapping[str, Mapping[str, Any]], world: World) -> Any:
    return type(owner, (Double,), {"owner": owner, "members": members, "world": world})


def _is_initialised(double: Double) -> bool:
    return "values" in double.__dict__


def _method(owner: str, name: str, member: Mapping[str, Any], this: Any, world: World) -> Any:
    def call(*arguments: Any, **keywords: Any) -> Any:
        if not accepts(member["signatures"], len(arguments), list(keywords)):
            raise TypeError(f"{owner}.{name} does not take {arguments} {keywords}")
        return world.answer(owner, name, this, (*arguments, *keywords.values()))

    return call


def host_memory(trt: Any, data: bytes) -> Optional[Any]:
    """An IHostMemory of these bytes."""
    memory = trt.IHostMemory()
    memory.__dict__["data"] = data
    return memory
