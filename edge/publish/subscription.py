"""What the appliance listens to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional

OnInbound = Callable[[str, bytes, bool], None]
"""Gets topic and payload of a message from others, and whether the broker had it in store; on the
connection's thread, so it must return at once."""


@dataclass(frozen=True)
class Subscription:
    """A topic filter, and who is told; with `lasts_s`, given up so long after connecting."""

    topic_filter: str
    on_inbound: OnInbound
    lasts_s: Optional[float] = None
