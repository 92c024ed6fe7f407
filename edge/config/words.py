"""What the schema's validator found, in words for whoever wrote the file."""

from __future__ import annotations

import difflib
from typing import Any, Dict, List, Mapping, Optional, Type, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from edge.config.camera import CAMERA_NAME
from edge.config.camera_uri import CameraUri
from edge.config.document import Value
from edge.config.faults import Key, quoted
from edge.config.mqtt import HOST, TOPIC_LEVEL, TOPIC_PREFIX
from edge.config.schema import Config
from edge.config.section import Section

_REASONS = {
    "missing": "is required",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "must be text",
    "string_too_short": "must not be empty",
    "path_type": "must be a path",
    "enum": "must be {expected}",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "model_type": "must be a map of keys",
}

_ALPHABETS = {
    CAMERA_NAME: "must be 1 to 64 characters of a-z, 0-9, '_' and '-'",
    HOST: "must be a name or an address, without scheme or port (mqtt.port holds that)",
    TOPIC_LEVEL: "must be 1 to 64 characters of A-Z, a-z, 0-9, '_', '.' and '-'",
    TOPIC_PREFIX: "must be levels of A-Z, a-z, 0-9, '_', '.' and '-' with one '/' between them",
}

_WITHOUT_VALUE = frozenset({"missing", "too_short", "too_long", "string_too_short"})


def reason_for(error: Mapping[str, Any], given: Value, is_hidden: bool) -> str:
    """Explains one of pydantic's error details.

    `given` is the value it is about; where it is secret, or `is_hidden`, it is not shown.
    """
    key: Key = error["loc"]
    kind: str = error["type"]
    context: Mapping[str, Any] = error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(key)
    if kind == "model_type" and given is None:
        return "is empty: give it keys, or remove it"
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        reason = _ALPHABETS.get(pattern, f"must match {pattern}")
    else:
        reason = _REASONS.get(kind, "is not valid: {msg}").format(**context, msg=error["msg"])
    if kind == "value_error":
        # Our own types' words; they say what to show of the value themselves.
        return str(context["error"])
    if kind == "missing":
        return f"{reason}{_description(key)}"
    if kind in _WITHOUT_VALUE:
        return reason
    return f"{reason} (got {_shown(given, is_hidden or _is_secret(key))})"


def _shown(given: Value, is_hidden: bool) -> str:
    if given is None:
        return "no value"
    if isinstance(given, list):
        return "a list"
    if isinstance(given, dict):
        return "a map of keys"
    return "a value that is not shown" if is_hidden else quoted(given)


def _unknown_key(key: Key) -> str:
    name = str(key[-1])
    siblings = sorted(_fields_of(_section_at(key[:-1])))
    close = difflib.get_close_matches(name.lower(), siblings, n=1, cutoff=0.65)
    if close:
        return f"unknown key, did you mean '{close[0]}'?"
    elsewhere = [section for section in Config.model_fields if name in _fields_beneath(section)]
    if elsewhere:
        return f"unknown key here, it belongs to '{elsewhere[0]}'"
    return f"unknown key (allowed: {', '.join(siblings)})"


def _fields_beneath(section: str) -> Mapping[str, FieldInfo]:
    return _fields_of(_section_in(Config.model_fields[section].annotation))


def _description(key: Key) -> str:
    field = _field_at(key)
    return f": {field.description}" if field is not None and field.description else ""


def _is_secret(key: Key) -> bool:
    field = _field_at(key)
    return field is not None and bool({SecretStr, CameraUri} & set(_types_in(field.annotation)))


def _field_at(key: Key) -> Optional[FieldInfo]:
    return _fields_of(_section_at(key[:-1])).get(str(key[-1])) if key else None


def _section_at(key: Key) -> Optional[Type[Section]]:
    """The section that the value at `key` is to fill; None where it is no section."""
    section: Optional[Type[Section]] = Config
    for name in key:
        if isinstance(name, str):
            field = _fields_of(section).get(name)
            section = None if field is None else _section_in(field.annotation)
    return section


def _section_in(annotation: Any) -> Optional[Type[Section]]:
    for kind in _types_in(annotation):
        if issubclass(kind, Section):
            return kind
    return None


def _types_in(annotation: Any) -> List[Type[Any]]:
    """The classes inside an annotation: [Tuple's int, int] for Optional[Tuple[int, int]]."""
    arguments = get_args(annotation)
    if not arguments:
        return [annotation] if isinstance(annotation, type) else []
    return [kind for argument in arguments for kind in _types_in(argument)]


def _fields_of(section: Optional[Type[Section]]) -> Dict[str, FieldInfo]:
    return {} if section is None else dict(section.model_fields)
