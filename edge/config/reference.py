"""The configuration's reference for people: a table of every key, in Markdown."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from edge.config.schema import Config

Schema = Mapping[str, Any]

_TITLE = """\
# Every key of the configuration

`edge schema --markdown` writes this page, `edge schema` the same as a JSON Schema for editors. Only
`model.path` and `cameras` are required. Where the default is empty, the meaning says what holds
without the key. `${NAME}` takes any value from the environment. Relative paths count from the
file's own folder. An unknown key is an error.
"""
_HEADER = "| key | value | default | meaning |\n|---|---|---|---|"

_KINDS = {
    "boolean": "`true` or `false`",
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "object": "section",
}
_FORMATS = {"path": "path", "password": "text, secret"}

_LEAST = {"minimum": "from", "exclusiveMinimum": "above"}
_MOST = {"maximum": "to", "exclusiveMaximum": "below"}


def markdown() -> str:
    """One chapter for each section, one row for each key."""
    schema = Config.model_json_schema()
    definitions: Dict[str, Schema] = schema["$defs"]
    return "\n".join([_TITLE, *_chapters(schema["properties"], definitions)])


def _chapters(sections: Mapping[str, Schema], definitions: Mapping[str, Schema]) -> Iterator[str]:
    for name, given in sections.items():
        section = _resolved(given, definitions)
        is_list = section.get("type") == "array"
        keys = _resolved(section["items"], definitions) if is_list else section
        yield f"## {name}\n"
        yield f"{_escaped(section['description'])}\n"
        yield _HEADER
        yield from _rows(f"{name}[]" if is_list else name, keys, definitions)
        yield ""


def _rows(prefix: str, section: Schema, definitions: Mapping[str, Schema]) -> Iterator[str]:
    required = section.get("required", ())
    for name, given in section["properties"].items():
        key = f"{prefix}.{name}"
        schema = _resolved(given, definitions)
        default = "required" if name in required else _default(schema)
        # What is nothing by default need not be told that it may be.
        can_be_taken_away = "anyOf" in given and given.get("default") is not None
        value = _value(schema, definitions) + (" or `null`" if can_be_taken_away else "")
        yield f"| `{key}` | {value} | {default} | {_escaped(schema.get('description', ''))} |"
        if "properties" in schema:
            yield from _rows(key, schema, definitions)


def _resolved(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """With what it refers to, and without `null`; what is said at the reference goes first."""
    around = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf")}
    inner = schema
    if "anyOf" in schema:
        (inner,) = (kind for kind in schema["anyOf"] if kind.get("type") != "null")
    if "$ref" in inner:
        inner = definitions[inner["$ref"].rpartition("/")[2]]
    return {**inner, **around}


def _value(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if schema["type"] == "array":
        return _list(schema, definitions)
    kind = _FORMATS.get(schema.get("format", ""), _KINDS[schema["type"]])
    return " ".join([kind, *_bounds(schema)])


def _list(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    if "prefixItems" in schema:
        items = schema["prefixItems"]
        return f"list of {len(items)}: {_value(items[0], definitions)}"
    return f"list of: {_value(_resolved(schema['items'], definitions), definitions)}"


def _bounds(schema: Schema) -> Iterator[str]:
    for words in (_LEAST, _MOST):
        bound = _bound(schema, words)
        if bound is not None:
            yield f"{bound[0]} {_number(bound[1])}"


def _bound(schema: Schema, words: Mapping[str, str]) -> Optional[Tuple[str, float]]:
    return next(((word, schema[key]) for key, word in words.items() if key in schema), None)


def _default(schema: Schema) -> str:
    default = schema.get("default")
    if default is None or "properties" in schema:
        return ""
    is_number = isinstance(default, (int, float)) and not isinstance(default, bool)
    words = _number(default) if is_number else json.dumps(default)
    return f"`{words}`"


def _number(value: float) -> str:
    # Of 10 and 10.0 either, as the validator's versions write them differently.
    return f"{value:.12g}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
