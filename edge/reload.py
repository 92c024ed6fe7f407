"""What a new reading of the configuration changes, and what of it only a restart can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Tuple

from edge.config.schema import CameraConfig, Config
from edge.config.section import Section

# Sections that can change as a whole while frames flow, and keys of the others that can.
_LIVE_SECTIONS = ("postprocess", "governor")
_LIVE_KEYS: Dict[str, Tuple[str, ...]] = {
    "batching": ("max_wait_ms",),
    "health": ("interval_s", "alerts"),
}

# How a camera's frames travel, which is no business of whoever reads it.
_ROAD_KEYS = frozenset(
    {"priority", "importance", "max_staleness_ms", "deadline_ms", "score_threshold"}
)


@dataclass(frozen=True)
class Change:
    """From the configuration in use to `config`, which holds only what can change without a
    restart.

    `restart_keys` are those that differ and stay as they were; cameras are told by name.
    """

    config: Config
    added: Tuple[str, ...]
    removed: Tuple[str, ...]
    changed: Tuple[str, ...]
    live_keys: Tuple[str, ...]
    restart_keys: Tuple[str, ...]

    @property
    def words(self) -> str:
        """What changes, in words; empty where nothing does."""
        parts = {
            "added": self.added,
            "removed": self.removed,
            "changed": self.changed,
            "set": self.live_keys,
        }
        said = (f"{verb} {', '.join(names)}" for verb, names in parts.items() if names)
        return "; ".join(said)


def compare(running: Config, wanted: Config) -> Change:
    """What becomes of `running` when the file says `wanted`; cameras are known by their names."""
    before = {camera.name: camera for camera in running.cameras}
    after = {camera.name: camera for camera in wanted.cameras}
    differing = list(_differing(running, wanted))
    live = [key for key in differing if _is_live(key)]
    return Change(
        config=_with_live_keys(running, wanted, live),
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(
            name for name in after if name in before and changed_keys(before[name], after[name])
        ),
        live_keys=tuple(map(".".join, live)),
        restart_keys=tuple(".".join(key) for key in differing if key not in live),
    )


def changed_keys(before: Section, after: Section) -> List[str]:
    """The keys of a section whose values differ."""
    keys = type(before).model_fields
    return [key for key in keys if getattr(before, key) != getattr(after, key)]


def needs_new_reader(before: CameraConfig, after: CameraConfig) -> bool:
    """True where a camera must be closed and opened again."""
    return not _ROAD_KEYS.issuperset(changed_keys(before, after))


def _differing(running: Config, wanted: Config) -> Iterator[Tuple[str, str]]:
    for section in Config.model_fields:
        if section != "cameras":
            for key in changed_keys(getattr(running, section), getattr(wanted, section)):
                yield section, key


def _is_live(key: Tuple[str, str]) -> bool:
    section, name = key
    return section in _LIVE_SECTIONS or name in _LIVE_KEYS.get(section, ())


def _with_live_keys(running: Config, wanted: Config, live: List[Tuple[str, str]]) -> Config:
    sections = {}
    for section in {section for section, _ in live}:
        keys = [key for of, key in live if of == section]
        update = {key: getattr(getattr(wanted, section), key) for key in keys}
        sections[section] = getattr(running, section).model_copy(update=update)
    return running.model_copy(update={"cameras": wanted.cameras, **sections})
