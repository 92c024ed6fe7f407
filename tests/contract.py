"""Holds messages that were seen on the wire against the AsyncAPI document in the package."""

from __future__ import annotations

import functools
import json
import re
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Pattern

from jsonschema import Draft202012Validator

from edge.publish.schemas import ASYNCAPI, FOLDER, all_schemas
from tests.mosquitto import Received

# What others ask may be anything at all: the answer is what counts.
REQUEST = re.compile(r".+/cmd/(?!result$)[^/]*|.+/camera/[^/]*/[^/]*/set")


class Rule(NamedTuple):
    """What one channel allows."""

    name: str
    address: Pattern[str]
    content_type: str
    schema: Dict[str, Any]
    may_be_empty: bool


def shipped() -> Dict[str, Any]:
    """The document as it lies in the package."""
    document: Dict[str, Any] = json.loads((FOLDER / ASYNCAPI).read_text("utf-8"))
    return document


@functools.lru_cache(maxsize=None)
def rules() -> List[Rule]:
    """One for each channel, the deeper first: a prefix of several levels could hide them."""
    document = shipped()
    messages = document["components"]["messages"]
    found = [_rule(name, channel, messages[name]) for name, channel in document["channels"].items()]
    return sorted(found, key=lambda rule: (-_depth(rule), rule.address.pattern.count("[^/]")))


def _depth(rule: Rule) -> int:
    return rule.address.pattern.replace("[^/]", "").count("/")


def _rule(name: str, channel: Dict[str, Any], message: Dict[str, Any]) -> Rule:
    # A prefix may be several levels.
    address = channel["address"].replace("{prefix}", r".+")
    # The package's own schemas: those in the document are in AsyncAPI's words.
    is_named = "$ref" in message["payload"]
    return Rule(
        name,
        re.compile(re.sub(r"\{\w+\}", r"[^/]+", address)),
        message["contentType"],
        all_schemas()[message["name"]] if is_named else message["payload"],
        channel["x-cleared-by-empty-message"],
    )


def rule_for(topic: str) -> Optional[Rule]:
    """The channel of a topic."""
    return next((rule for rule in rules() if rule.address.fullmatch(topic)), None)


def check_message(message: Received) -> None:
    """Fails the test where a message breaks the contract."""
    rule = rule_for(message.topic)
    assert rule is not None, f"{message.topic} is no channel of the contract"
    if not message.payload:
        assert rule.may_be_empty, f"{message.topic} is empty"
    elif rule.content_type != "image/jpeg":
        is_json = rule.content_type == "application/json"
        body = message.json() if is_json else message.payload
        errors = list(Draft202012Validator(rule.schema).iter_errors(body))
        assert not errors, f"{message}: {errors[0].message}"


def check_contract(messages: Iterable[Received]) -> int:
    """Checks every message of the appliance; returns how many there were."""
    checked = [message for message in messages if not REQUEST.fullmatch(message.topic)]
    for message in checked:
        check_message(message)
    return len(checked)
