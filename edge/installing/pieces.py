"""Which files an installation consists of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import List, Sequence

from edge.installing.first_config import CONTAINER_ENV, EDGE_ENV, POWER_ENV, first_config

_HERE = Path(__file__).parent
# Not imported from the demo, which needs what only a laptop has.
_MODEL = _HERE.parent / "demo/assets/parts.onnx"
_UNITS = Path("etc/systemd/system")
_SHARED_UNITS = ("edge.slice", "edge-power.service")

# `sudo edge …` does what the service would do: with its user, its secrets, its image.
_COMMAND = """\
#!/bin/sh
exec systemd-run --quiet --collect --wait --pty --pipe --working-directory=/etc/edge \\
  {options} "$@"
"""
_NATIVE = "--uid=edge --property=EnvironmentFile=-/etc/edge/edge.env /opt/edge/bin/edge"
_IN_CONTAINER = (
    "--property=EnvironmentFile=-/etc/edge/container.env "
    "/usr/bin/python3 -I /usr/local/lib/edge/launch_container.py"
)


class Flavour(Enum):
    """How the daemon runs; the value is its unit."""

    NATIVE = "edge"
    CONTAINER = "edge-container"


@dataclass(frozen=True)
class Piece:
    """A file; `path` is relative to the machine's root.

    What `is_users` is put there once, and theirs from then on.
    """

    path: Path
    content: bytes
    mode: int = 0o644
    is_users: bool = False


def pieces(flavour: Flavour, camera_lines: Sequence[str]) -> List[Piece]:
    """All files of an installation, those first that others name."""
    is_container = flavour is Flavour.CONTAINER
    config = first_config(camera_lines, flavour.value)
    command = _COMMAND.format(options=_IN_CONTAINER if is_container else _NATIVE)
    etc = Path("etc/edge")
    found = [
        _copy("sysusers.d/edge.conf", Path("etc/sysusers.d/edge.conf")),
        _copy("tmpfiles.d/edge.conf", Path("etc/tmpfiles.d/edge.conf")),
        *(_copy(name, _UNITS / name) for name in _SHARED_UNITS),
        _users(etc / "config.yaml", config),
        _users(etc / "edge.env", EDGE_ENV),
        _users(etc / "power.env", POWER_ENV),
        Piece(Path("var/lib/edge/models/parts.onnx"), _MODEL.read_bytes()),
        Piece(Path("usr/local/sbin/edge"), command.encode(), 0o755),
    ]
    if is_container:
        launcher = (_HERE / "launch_container.py").read_bytes()
        found.append(Piece(Path("usr/local/lib/edge/launch_container.py"), launcher, 0o755))
        found.append(_users(etc / "container.env", CONTAINER_ENV))
    unit = f"{flavour.value}.service"
    return [*found, _copy(unit, _UNITS / unit)]


def _copy(source: str, path: Path) -> Piece:
    return Piece(path, (_HERE / "systemd" / source).read_bytes())


def _users(path: Path, text: str) -> Piece:
    # Passwords may be written into them.
    return Piece(path, text.encode(), 0o640, is_users=True)
