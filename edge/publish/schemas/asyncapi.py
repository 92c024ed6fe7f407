"""The AsyncAPI document: every topic, what is said on it, and how."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping

from edge.publish.schemas.channels import CHANNELS, Channel, schema_of

_VERSION = "3.0.0"
_BINDING = "0.2.0"

_LEVELS = {
    "prefix": "mqtt.prefix of the configuration, `edge` unless changed; may be several levels.",
    "device": "device.id of the configuration, or the module's serial number.",
    "camera": "A camera's name.",
    "alert": "What it is about.",
    "class": "A class of the detector, with `_` for what is awkward in a topic, or `all`.",
    "setting": "enabled, priority or score_threshold.",
}

Json = Dict[str, Any]


def asyncapi(schemas: Mapping[str, Json], app_version: str) -> Json:
    """Describes the appliance's side of the conversation.

    `schemas` are JSON Schemas by the name that a message carries in its `schema` key.
    """
    return {
        "asyncapi": _VERSION,
        "info": {
            "title": "edge",
            "version": app_version,
            "description": "Cameras in, detections and health out. A message that is retained "
            "says how something stands; an empty one takes that back.",
        },
        "defaultContentType": "application/json",
        "channels": {channel.name: _channel(channel) for channel in CHANNELS},
        "operations": {
            f"{channel.way.value}_{channel.name}": _operation(channel) for channel in CHANNELS
        },
        "components": {
            "messages": {channel.name: _message(channel) for channel in CHANNELS},
            "schemas": _components(schemas),
        },
    }


def _channel(channel: Channel) -> Json:
    levels = re.findall(r"\{(\w+)\}", channel.address)
    return {
        "address": channel.address,
        "description": channel.summary,
        "parameters": {level: {"description": _LEVELS[level]} for level in levels},
        "messages": {channel.name: {"$ref": f"#/components/messages/{channel.name}"}},
        "x-cleared-by-empty-message": channel.may_be_empty,
    }


def _operation(channel: Channel) -> Json:
    return {
        "action": channel.way.value,
        "summary": channel.summary,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "messages": [{"$ref": f"#/channels/{channel.name}/messages/{channel.name}"}],
        "bindings": {
            "mqtt": {"qos": channel.qos, "retain": channel.retain, "bindingVersion": _BINDING}
        },
    }


def _message(channel: Channel) -> Json:
    name = schema_of(channel)
    return {
        "name": name or channel.name,
        "summary": channel.summary,
        "contentType": channel.content_type,
        "payload": channel.payload if name is None else {"$ref": _reference(name)},
    }


def _components(schemas: Mapping[str, Json]) -> Json:
    """The schemas without the parts inside them, which the whole document may refer to."""
    components: Json = {}
    for name, schema in schemas.items():
        whole = {key: value for key, value in schema.items() if key not in ("$defs", "$schema")}
        components[_key(name)] = _adapted(whole, name)
        for part, definition in schema.get("$defs", {}).items():
            components[_key(name, part)] = _adapted(definition, name)
    return components


def _adapted(node: Any, name: str) -> Any:
    """In the words of AsyncAPI's own schemas, which follow an older JSON Schema (draft 7)."""
    if isinstance(node, list):
        return [_adapted(item, name) for item in node]
    if not isinstance(node, dict):
        return node
    adapted = {key: _adapted(value, name) for key, value in node.items()}
    if isinstance(adapted.get("$ref"), str):
        adapted["$ref"] = _reference(name, adapted["$ref"].rsplit("/", 1)[-1])
    items: List[Any] = adapted.pop("prefixItems", [])
    if items:
        adapted["items"] = items
    return adapted


def _reference(name: str, part: str = "") -> str:
    return f"#/components/schemas/{_key(name, part)}"


def _key(name: str, part: str = "") -> str:
    # AsyncAPI wants letters, digits, dots, dashes and underscores.
    key = name.replace("/", ".")
    return f"{key}.{part}" if part else key
