"""What is wrong with a configuration, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, List, Optional, Tuple, Union

from edge.errors import ConfigError

Key = Tuple[Union[str, int], ...]
"""The way to a value from the top of the file: ("cameras", 1, "fps")."""

# A file of another kind under the right name must not fill the terminal.
_MAX_LINES = 50

_MAX_QUOTED = 60


@dataclass(frozen=True)
class Place:
    """A position in the file, both numbers from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Fault:
    """One thing to correct; without a place it is about the whole file."""

    reason: str
    place: Optional[Place] = None
    key: Key = ()


def config_error(file: str, faults: Iterable[Fault]) -> ConfigError:
    """Makes the error whose message has one line per fault, in the order of the file."""
    ordered = sorted(faults, key=lambda f: (f.place.line, f.place.column) if f.place else (0, 0))
    lines = [_line(file, fault) for fault in ordered[:_MAX_LINES]]
    if len(ordered) > _MAX_LINES:
        lines.append(f"{printable(file)}: and {len(ordered) - _MAX_LINES} more")
    return ConfigError("\n".join(lines))


def key_path(key: Key) -> str:
    """Writes ("cameras", 1, "fps") as cameras[1].fps."""
    parts: List[str] = []
    for part in key:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        else:
            parts.append(f".{_shortened(part)}" if parts else _shortened(part))
    return printable("".join(parts))


def quoted(text: str) -> str:
    """A value as a message shows it: short, on one line, numbers without quotes."""
    try:
        float(text)
    except ValueError:
        return f"'{printable(_shortened(text))}'"
    return printable(_shortened(text))


def printable(text: str) -> str:
    """Escapes what a terminal cannot show, or would obey."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def _line(file: str, fault: Fault) -> str:
    where = printable(file)
    if fault.place is not None:
        where += f":{fault.place.line}:{fault.place.column}"
    subject = f" {key_path(fault.key)}" if fault.key else ""
    return f"{where}{subject}: {fault.reason}"


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "…"
