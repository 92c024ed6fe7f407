"""What needs a person's attention."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional


class AlertSeverity(str, Enum):
    """warning: it will become trouble; critical: it is."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True)
class Alert:
    """Something that has been wrong since `since_unix_ms`, with the reason in words.

    `value` and `limit` are what was measured when it was raised and what it was held against, in
    the unit that the words name; None where there is no number to it.
    """

    id: str
    severity: AlertSeverity
    reason: str
    since_unix_ms: int
    value: Optional[float] = None
    limit: Optional[float] = None
