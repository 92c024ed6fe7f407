"""Small files by which the kernel tells of the machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

_CHUNK_BYTES = 64 * 1024


def read_text(path: Path) -> Optional[str]:
    """The file's content without what frames it; None where there is none."""
    # Read some sixty at a time, every other second: a file object would cost ten times as much.
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        content = b"".join(iter(lambda: os.read(descriptor, _CHUNK_BYTES), b""))
    except OSError:  # EAGAIN: the unit it tells of is powered down
        return None
    finally:
        os.close(descriptor)
    # Device-tree strings end with a NUL.
    return content.decode(errors="replace").strip("\0 \n") or None


def read_int(path: Path) -> Optional[int]:
    """The number in the file; None where there is none."""
    try:
        return int(read_text(path) or "")
    except ValueError:
        return None
