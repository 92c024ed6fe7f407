"""What was ever announced to Home Assistant, on the disk: else nobody could take it back."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from edge.atomic_file import replace_text

log = logging.getLogger(__name__)

Components = Mapping[str, str]
"""A device's entities: platforms by their keys."""

_FILE_NAME = "home-assistant.json"


class Announced:
    """The components announced on each topic, over all runs; never raises.

    Without a `state_dir`, or where that is not writable, it forgets with the process.
    """

    def __init__(self, state_dir: Optional[Path] = None) -> None:
        self._path = None if state_dir is None else state_dir / _FILE_NAME
        self._topics: Dict[str, Dict[str, str]] = _read(self._path) if self._path else {}

    def topics(self) -> Mapping[str, Components]:
        """Everything announced so far."""
        return {topic: dict(components) for topic, components in self._topics.items()}

    def add(self, topic: str, components: Components) -> None:
        """Remembers what is announced now beside what was before."""
        known = self._topics.setdefault(topic, {})
        if dict(components).items() <= known.items() and known:
            return
        known.update(components)
        if self._path is None:
            return
        try:
            replace_text(self._path, json.dumps(self._topics, indent=1, sort_keys=True))
        except OSError as error:
            log.warning(
                "%s cannot be written: %s; what Home Assistant knows of cannot be taken back later",
                self._path,
                error.strerror,
            )


def _read(path: Path) -> Dict[str, Dict[str, str]]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read: %s; it is begun anew", path, error)
        return {}
    return _plausible(found)


def _plausible(found: Any) -> Dict[str, Dict[str, str]]:
    topics = found.items() if isinstance(found, dict) else ()
    return {
        topic: {key: platform for key, platform in components.items() if isinstance(platform, str)}
        for topic, components in topics
        if isinstance(components, dict)
    }
