"""How many frames one call to an engine takes at most."""

from __future__ import annotations

from typing import Optional, Tuple

from edge.records import EngineInfo

# Frames of one call by module, where measurement has shown more to be unwise: the Xavier NX shares
# its 8 GB between CPU and GPU.
_MODULE_CAPS = (("Xavier NX", 8),)

# Of the memory that is free at the start: slots, decoders and the rest come out of it too.
_MEMORY_SHARE = 0.25


def affordable_rows(free_bytes: int, row_bytes: int) -> Optional[int]:
    """Frames of one call that a quarter of the free memory is enough for; None where unknown.

    At least one: without any there is nothing to run.
    """
    return max(int(free_bytes * _MEMORY_SHARE) // row_bytes, 1) if row_bytes else None


def batch_cap(
    engine_max: int,
    configured: Optional[int],
    module: Optional[str],
    affordable: Optional[int] = None,
) -> Tuple[int, str]:
    """The largest batch of one call to the engine, and what decided it."""
    limits = [(engine_max, "the engine")]
    if affordable is not None:
        limits.append((affordable, "free memory"))
    limits += [(cap, name) for name, cap in _MODULE_CAPS if module is not None and name in module]
    if configured is not None:
        limits.append((configured, "engine.max_batch"))
    return min(limits)


def cap_of(
    engine: EngineInfo,
    configured: Optional[int],
    module: Optional[str],
    affordable: Optional[int] = None,
) -> Tuple[int, str]:
    """The largest batch of one call to this engine, and what decided it.

    A static engine's own: fewer frames would cost it as much.
    """
    if engine.is_static:
        return engine.max_batch, "the engine"
    return batch_cap(engine.max_batch, configured, module, affordable)
