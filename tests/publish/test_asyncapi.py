"""The document that says what is said, against the code that says it."""

from __future__ import annotations

import re
from typing import Any, Iterator

import pytest

from edge import __version__
from edge.publish.schemas import PAYLOADS, all_schemas, document
from edge.publish.schemas.channels import CHANNELS
from edge.publish.topics import Topics
from tests.contract import check_message, rule_for, shipped
from tests.mosquitto import Received


def references(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)


def test_every_reference_leads_somewhere() -> None:
    whole = document()
    found = set(references(whole))
    assert len(found) > len(CHANNELS)
    for reference in found:
        node = whole
        for part in reference[2:].split("/"):
            node = node[part]


def test_it_is_of_this_version_and_describes_every_level() -> None:
    described = document()
    assert described["info"]["version"] == __version__
    for channel in described["channels"].values():
        assert set(re.findall(r"\{(\w+)\}", channel["address"])) == set(channel["parameters"])
    names = [channel.name for channel in CHANNELS]
    assert len(set(names)) == len(names)


def test_every_payload_has_a_channel_and_a_schema() -> None:
    assert len(PAYLOADS) == len(all_schemas())
    named = {message.get("name") for message in document()["components"]["messages"].values()}
    assert set(all_schemas()) <= named


TOPICS = Topics("site/a", "nx")


@pytest.mark.parametrize(
    ("topic", "channel"),
    [
        (TOPICS.availability(), "availability"),
        (TOPICS.state(), "state"),
        (TOPICS.outbox(), "outbox"),
        (TOPICS.alert("gpu_hot"), "alert"),
        (TOPICS.camera_status("a"), "camera_status"),
        (TOPICS.camera_count("a", "traffic_light"), "camera_count"),
        (TOPICS.camera_events("a"), "camera_events"),
        (TOPICS.camera_snapshot("a"), "camera_snapshot"),
        (TOPICS.camera_setting("a", "enabled"), "setting_enabled"),
        (TOPICS.command_result(), "command_result"),
        ("site/a/nx/cmd/reload", "request_reload"),
        ("site/a/nx/camera/a/enabled/set", "setting_request"),
        ("site/a/nx/cmd/nonsense", None),
        ("site/a/nx/camera/a", None),
    ],
)
def test_topics_and_channels_are_the_same(topic: str, channel: str) -> None:
    rule = rule_for(topic)
    assert (None if rule is None else rule.name) == channel


RETAINED = ("availability", "state", "info", "engine", "outbox", "alert", "camera_status")


def test_what_is_retained_comes_surely_and_what_passes_may_be_lost() -> None:
    said = {name: op["bindings"]["mqtt"] for name, op in shipped()["operations"].items()}
    for name in (*RETAINED, "camera_count", "setting_enabled"):
        assert said[f"send_{name}"] == {"qos": 1, "retain": True, "bindingVersion": "0.2.0"}
    for name in ("health", "camera_stats", "camera_detections", "camera_snapshot"):
        assert (said[f"send_{name}"]["qos"], said[f"send_{name}"]["retain"]) == (0, False)
    for name in ("send_camera_events", "send_command_result", "receive_request_restart"):
        assert (said[name]["qos"], said[name]["retain"]) == (1, False)


BROKEN = {
    "a topic that nobody knows": ("edge/nx/nonsense", "{}"),
    "an empty state": ("edge/nx/state", ""),
    "text that is not one of two": ("edge/nx/availability", "maybe"),
    "a count that is no number": ("edge/nx/camera/a/count/all", "-1"),
    "a state without its keys": ("edge/nx/state", '{"schema":"edge.state/1"}'),
    "a schema in the wrong place": ("edge/nx/info", '{"schema":"edge.state/1"}'),
}


@pytest.mark.parametrize(("topic", "payload"), BROKEN.values(), ids=BROKEN)
def test_the_contract_catches(topic: str, payload: str) -> None:
    with pytest.raises(AssertionError):
        check_message(Received(topic, payload, retain=False))


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("edge/nx/availability", "online"),
        ("edge/nx/camera/a/count/all", "12"),
        ("edge/nx/camera/a/count/all", ""),
        ("edge/nx/alert/hot", ""),
        ("edge/nx/camera/a/status", ""),
    ],
)
def test_the_contract_lets_through(topic: str, payload: str) -> None:
    check_message(Received(topic, payload, retain=False))
