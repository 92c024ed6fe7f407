"""`edge install`, in lines for people."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

from edge.installing.first_config import connected_cameras
from edge.installing.pieces import Flavour, pieces
from edge.installing.placing import Deed, Placement

# Where the units look for a native installation.
_PREFIX = Path("opt/edge/bin/edge")

_ACTIVATE = (
    "sudo systemd-sysusers && sudo systemd-tmpfiles --create && sudo systemctl daemon-reload && "
    "sudo systemctl enable --now --no-block {unit}"
)


class Installation:
    """One call of `edge install`, on the machine whose files lie under `root`."""

    def __init__(self, root: Path, is_container: bool, *, is_dry: bool) -> None:
        self._root = root.absolute()
        self._flavour = Flavour.CONTAINER if is_container else Flavour.NATIVE
        self._is_dry = is_dry

    def install(self) -> Iterator[str]:
        """Puts everything in place; one line for each file, and what to do next."""
        placement = Placement(self._root)
        cameras = connected_cameras(self._root)
        for step in placement.install(pieces(self._flavour, cameras), is_dry=self._is_dry):
            yield self._line(step.deed, step.path)
        if self._flavour is Flavour.NATIVE and not (self._root / _PREFIX).exists():
            yield (
                f"missing   /{_PREFIX}, which the unit starts: "
                "python3 -m venv --system-site-packages /opt/edge && /opt/edge/bin/pip install …"
            )
        yield f"next      {_ACTIVATE.format(unit=self._flavour.value)}"

    def undo(self) -> Iterator[str]:
        """Takes away what was put in place; what the daemon wrote stays."""
        yield "first     sudo systemctl disable --now edge edge-container edge-power"
        steps = list(Placement(self._root).undo(is_dry=self._is_dry))
        if not steps:
            yield "nothing was installed here"
        for step in steps:
            yield self._line(step.deed, step.path)
        yield "kept      /var/lib/edge: engines, and messages that were not delivered"

    def _line(self, deed: Deed, path: Path) -> str:
        would = "would be  " if self._is_dry else ""
        return f"{would}{path}: {deed.value}"
