"""The files that the broker's section names: their paths made absolute, their secrets read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple, Type, TypeVar

from pydantic import SecretStr

from edge.config.faults import Key
from edge.config.mqtt import MqttConfig, TlsConfig
from edge.config.section import Section

AnySection = TypeVar("AnySection", bound=Section)

Trouble = Tuple[Key, str]
"""The way to a key from the section, and why its file will not do."""

_MAX_BYTES = 4096


def with_files(mqtt: MqttConfig, base_dir: Path) -> Tuple[MqttConfig, List[Trouble]]:
    """The section with absolute paths and the secrets of its files, and what is wrong with those.

    Relative paths count from `base_dir`. Certificates are not opened: they may be renewed while
    the appliance runs, so each connection reads them anew.
    """
    troubles: List[Trouble] = []
    mqtt = _absolute(mqtt, base_dir)
    update, found = _secrets(mqtt, ("username", "password"))
    troubles += found
    if mqtt.tls is not None:
        tls = _absolute(mqtt.tls, base_dir)
        of_tls, found = _secrets(tls, ("key_password",))
        troubles += [(("tls", *key), reason) for key, reason in found]
        update["tls"] = tls.model_copy(update=of_tls)
    return mqtt.model_copy(update=update), troubles


def file_keys() -> Iterator[Key]:
    """The way to every key that names a file."""
    yield from ((key,) for key in _file_keys_of(MqttConfig))
    yield from (("tls", key) for key in _file_keys_of(TlsConfig))


def _file_keys_of(section: Type[Section]) -> List[str]:
    return [key for key in section.model_fields if key.endswith("_file")]


def _absolute(section: AnySection, base_dir: Path) -> AnySection:
    given = {key: getattr(section, key) for key in _file_keys_of(type(section))}
    return section.model_copy(update={key: base_dir / path for key, path in given.items() if path})


def _secrets(section: Section, names: Sequence[str]) -> Tuple[Dict[str, Any], List[Trouble]]:
    values: Dict[str, Any] = {}
    troubles: List[Trouble] = []
    for name in names:
        path = getattr(section, f"{name}_file")
        if path is None:
            continue
        try:
            line = _first_line(path)
            values[name] = line if name == "username" else SecretStr(line)
        except ValueError as error:
            troubles.append(((f"{name}_file",), str(error)))
    return values, troubles


def _first_line(path: Path) -> str:
    """Raises ValueError with the reason, which never quotes the file."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise ValueError(f"cannot be read: {why}") from None
    try:
        line = data.split(b"\n", 1)[0].rstrip(b"\r").decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    if not line or "\0" in line:
        raise ValueError("must hold the value in its first line")
    return line
