"""What MQTT 5 lets a message say about itself, told from its bytes alone.

So it is the same for a message that waited on the disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Tuple

# Every payload model begins with its schema's name.
_SCHEMA = re.compile(rb'\{"schema":"([a-z.]+/\d+)"')
_JPEG = b"\xff\xd8"

# What is of no use to a subscriber that comes back after a while.
_PASSING = ("edge.detections/", "edge.health/", "edge.camera.stats/")


@dataclass(frozen=True)
class About:
    """A message's media type, the schema it follows (empty: none), and whether it may expire."""

    content_type: str
    schema: str
    is_passing: bool


def about(payload: bytes) -> About:
    """Tells what a message is."""
    found = _SCHEMA.match(payload)
    schema = found.group(1).decode() if found else ""
    return About(_content_type(payload), schema, schema.startswith(_PASSING))


def _content_type(payload: bytes) -> str:
    kinds: Tuple[Tuple[bytes, str], ...] = ((b"{", "application/json"), (_JPEG, "image/jpeg"))
    return next((kind for start, kind in kinds if payload.startswith(start)), "text/plain")
