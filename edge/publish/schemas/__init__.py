"""What is said over MQTT, generated from the payload models and kept beside them: a JSON Schema of
every message, and an AsyncAPI document of all topics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Tuple

from edge import __version__
from edge.publish.schemas.asyncapi import asyncapi
from edge.publish.schemas.channels import CHANNELS

PAYLOADS: Tuple[type, ...] = tuple(
    channel.payload for channel in CHANNELS if isinstance(channel.payload, type)
)

FOLDER = Path(__file__).parent
ASYNCAPI = "asyncapi.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def all_schemas() -> Dict[str, Dict[str, Any]]:
    """JSON Schemas by the name that a message carries in its `schema` key."""
    return {_name(schema): schema for schema in map(_schema, PAYLOADS)}


def document() -> Dict[str, Any]:
    """The AsyncAPI document of all topics and messages."""
    return asyncapi(all_schemas(), __version__)


def file_name(schema_name: str) -> str:
    """The file that holds a schema: edge.state/1 lies in edge.state.1.json."""
    return schema_name.replace("/", ".") + ".json"


def render(schema: Dict[str, Any]) -> str:
    """The text of a schema's file."""
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> None:
    """Writes one file per message, and one of all topics, into an existing folder."""
    for name, schema in all_schemas().items():
        (folder / file_name(name)).write_text(render(schema), "utf-8")
    (folder / ASYNCAPI).write_text(render(document()), "utf-8")


def _schema(payload: Any) -> Dict[str, Any]:
    generated = _without_noise(payload.model_json_schema(by_alias=True))
    name = _name(generated)
    return {"$schema": _DIALECT, "title": name, **generated}


def _name(schema: Dict[str, Any]) -> str:
    return str(schema["properties"]["schema"]["const"])


def _without_noise(node: Any) -> Any:
    """Drops pydantic's titles, and `null`: on the wire an unknown key is absent instead."""
    if isinstance(node, list):
        return [_without_noise(item) for item in node if item != {"type": "null"}]
    if isinstance(node, float) and node.is_integer():
        return int(node)  # a bound of 1.0 or 1, as pydantic's version has it
    if not isinstance(node, dict):
        return node
    kept = {
        key: _without_noise(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str)) and (key, value) != ("default", None)
    }
    if len(kept.get("anyOf", ())) == 1:
        kept.update(kept.pop("anyOf")[0])
    return kept
