"""What is wrong with a camera, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line each, free of credentials; `advice` is empty where there is nothing to advise."""

    reason: str
    advice: str = ""
