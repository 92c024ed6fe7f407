"""Small files by which the kernel tells of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Optional


def read_text(path: Path) -> Optional[str]:
    """The file's content without what frames it; None where there is none."""
    try:
        # Device-tree strings end with a NUL.
        return path.read_text(errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def read_int(path: Path) -> Optional[int]:
    """The number in the file; None where there is none."""
    try:
        return int(read_text(path) or "")
    except ValueError:
        return None
