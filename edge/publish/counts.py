"""How many objects of each class every camera shows, and what of that is news; pure."""

from __future__ import annotations

import re
from collections import Counter
from typing import Dict, Iterable, List, Sequence, Set

ALL = "all"
"""The topic level of the sum over all classes."""

# What MQTT reserves, and what would be awkward to type.
_AWKWARD = re.compile(r"[^\w.-]")


def count_level(class_name: str) -> str:
    """The topic level of a class: `traffic light` counts on `traffic_light`."""
    level = _AWKWARD.sub("_", class_name) or "_"
    # A class of this name must not be mistaken for the sum.
    return f"{level}_" if level == ALL else level


class CountBoard:
    """The last told count of every camera and level; a camera that delivers nothing has none.

    `all` and the levels of `expected` are told from a camera's first frame on, every other once
    it was seen: a detector may know classes by the hundred.
    """

    def __init__(self) -> None:
        self._expected: Sequence[str] = ()
        self._delivering: Set[str] = set()
        self._told: Dict[str, Dict[str, int]] = {}

    def expect(self, class_names: Iterable[str]) -> None:
        """Which classes are told also where none was seen yet."""
        self._expected = [count_level(name) for name in class_names]

    def deliver(self, camera: str) -> None:
        """The camera's frames count from here on."""
        self._delivering.add(camera)

    def forget(self, camera: str) -> List[str]:
        """The camera delivers no more: nobody knows what it would show. Returns its levels."""
        self._delivering.discard(camera)
        return list(self._told.pop(camera, ()))

    def news(self, camera: str, class_names: Iterable[str]) -> Dict[str, int]:
        """What a frame with these objects changes, by level."""
        if camera not in self._delivering:
            return {}
        told = self._told.setdefault(camera, {})
        seen = Counter(map(count_level, class_names))
        now = {ALL: sum(seen.values())}
        levels = {*self._expected, *told, *seen} - {ALL}
        now.update({level: seen[level] for level in levels})
        changed = {level: count for level, count in now.items() if told.get(level) != count}
        told.update(changed)
        return changed
