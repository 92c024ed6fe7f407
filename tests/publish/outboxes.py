"""Outboxes as tests want them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, List

from edge.config.outbox import OutboxConfig
from edge.publish.outbox.entry import Entry, Limits
from edge.publish.outbox.outbox import Outbox


def limits(**changes: Any) -> Limits:
    """The default limits but for `changes`, which are keys of the configuration or of Limits."""
    keys = OutboxConfig.model_fields
    config = OutboxConfig(**{key: changes.pop(key) for key in list(changes) if key in keys})
    return replace(Limits.of(config), **changes)


def take(outbox: Outbox, limit: int) -> List[Entry]:
    """What may be taken now, at most `limit`."""
    entries: List[Entry] = []
    while len(entries) < limit:
        entry = outbox.take()
        if entry is None:
            break
        entries.append(entry)
    return entries
