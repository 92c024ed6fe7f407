"""What a GPU can still be given."""

from __future__ import annotations

import re
from pathlib import Path

from edge.inference.cuda import Context

_AVAILABLE = re.compile(r"^MemAvailable: +(\d+) kB$", re.MULTILINE)
_BYTES_PER_KB = 1024


def free_bytes(context: Context) -> int:
    """Bytes that the GPU can get; the context must be current."""
    free = context.memory_info().free
    # Where memory is shared, the driver takes the kernel's page cache for used, which is nearly all
    # of it after some days; the kernel gives it up for whoever asks.
    return max(free, available_bytes()) if context.is_integrated else free


def available_bytes(root: Path = Path("/")) -> int:
    """Bytes the machine can give without swapping; 0 where it does not say."""
    try:
        text = (root / "proc/meminfo").read_text("ascii")
    except OSError:
        return 0
    found = _AVAILABLE.search(text)
    return int(found.group(1)) * _BYTES_PER_KB if found else 0
