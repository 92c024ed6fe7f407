from __future__ import annotations

import json
from typing import Optional

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from edge.commands.parsing import MAX_PAYLOAD_BYTES, parse
from edge.commands.refusal import Refused
from edge.config.camera import CAMERA_NAME
from edge.config.commands import Verb
from edge.records.commands import (
    REQUESTS,
    Disable,
    Enable,
    Inbound,
    Prioritize,
    Rebuild,
    Reload,
    Request,
    Restart,
    Setting,
    Snapshot,
    Threshold,
)


@pytest.mark.parametrize(
    ("topic", "payload", "expected"),
    [
        pytest.param("cmd/reload", b'{"id": "1"}', Reload(id="1"), id="reload"),
        pytest.param("cmd/restart", b' {"id":"1"}\n', Restart(id="1"), id="white space"),
        pytest.param("cmd/rebuild", b'{"id": "a b \xc3\xbc"}', Rebuild(id="a b ü"), id="any id"),
        pytest.param(
            "cmd/rebuild",
            b'{"id": "1", "schema": "edge.command.rebuild/1"}',
            Rebuild(id="1"),
            id="with its schema",
        ),
        pytest.param(
            "cmd/snapshot",
            b'{"id": "1", "camera": "dock"}',
            Snapshot(id="1", camera="dock"),
            id="snapshot",
        ),
        pytest.param(
            "cmd/enable",
            b'{"id": "1", "camera": "dock"}',
            Enable(id="1", camera="dock"),
            id="enable",
        ),
        pytest.param(
            "cmd/prioritize",
            b'{"id": "1", "camera": "dock"}',
            Prioritize(id="1", camera="dock", priority=True),
            id="prioritize",
        ),
        pytest.param(
            "cmd/prioritize",
            b'{"id": "1", "camera": "dock", "priority": false}',
            Prioritize(id="1", camera="dock", priority=False),
            id="not prioritize",
        ),
        pytest.param(
            "cmd/threshold", b'{"id": "1", "score": 0.4}', Threshold(id="1", score=0.4), id="all"
        ),
        pytest.param(
            "cmd/threshold",
            b'{"id": "1", "score": 1, "camera": "dock"}',
            Threshold(id="1", score=1, camera="dock"),
            id="one, a whole number",
        ),
        pytest.param("camera/dock/enabled/set", b"ON", Enable(camera="dock"), id="set on"),
        pytest.param("camera/dock/enabled/set", b"off\n", Disable(camera="dock"), id="set off"),
        pytest.param("camera/dock/enabled/set", b"true", Enable(camera="dock"), id="set true"),
        pytest.param(
            "camera/dock/priority/set",
            b"OFF",
            Prioritize(camera="dock", priority=False),
            id="set priority",
        ),
        pytest.param(
            "camera/dock/score_threshold/set",
            b"0.25",
            Threshold(camera="dock", score=0.25),
            id="set score",
        ),
    ],
)
def test_what_is_asked_for(topic: str, payload: bytes, expected: Request) -> None:
    assert parse(Inbound(topic, payload)) == expected


LONGEST_ID = b'{"id": "%s"}' % (b"x" * 64)


@pytest.mark.parametrize(
    ("topic", "payload", "words", "request_id"),
    [
        pytest.param("cmd/dance", b'{"id": "1"}', "there is no such command; there", None, id="?"),
        pytest.param("cmd/", b'{"id": "1"}', "there is no such command", None, id="no verb"),
        pytest.param("cmd/reload/now", b"{}", "nothing can be asked for", None, id="too deep"),
        pytest.param("health", b"{}", "nothing can be asked for", None, id="elsewhere"),
        pytest.param("cmd/reload", b"", "the request is not JSON", None, id="empty"),
        pytest.param("cmd/reload", b"\xff", "the request is not JSON", None, id="no text"),
        pytest.param("cmd/reload", b"[" * 4000, "the request is not JSON", None, id="deep"),
        pytest.param("cmd/reload", b"[]", "no JSON object", None, id="list"),
        pytest.param("cmd/reload", b"{}", "id is required", None, id="no id"),
        pytest.param("cmd/reload", b'{"id": null}', "id is required", None, id="null id"),
        pytest.param("cmd/reload", b'{"id": 1}', "id: Input should be a valid", None, id="number"),
        pytest.param("cmd/reload", b'{"id": ""}', "id: String should have", None, id="empty id"),
        pytest.param(
            "cmd/reload",
            LONGEST_ID.replace(b"x", b"xx", 1),
            "id: String should have at most 64",
            None,
            id="long id",
        ),
        pytest.param(
            "cmd/reload",
            b'{"id": "\\ud800"}',
            "the request is not JSON",
            None,
            id="half a character",
        ),
        pytest.param(
            "cmd/reload",
            b'{"id": "1", "now": true}',
            "now: unknown key (allowed: schema, id)",
            "1",
            id="unknown key",
        ),
        pytest.param(
            "cmd/reload",
            b'{"id": "1", "schema": "edge.command.restart/1"}',
            "schema: Input should be 'edge.command.reload/1'",
            "1",
            id="another's schema",
        ),
        pytest.param(
            "cmd/reload", b'{"id": "1", "a\\u001b": 1}', "a\\x1b: unknown", "1", id="escape"
        ),
        pytest.param("cmd/enable", b'{"id": "1"}', "camera: is required", "1", id="no camera"),
        pytest.param(
            "cmd/enable", b'{"id": "1", "camera": "D/#"}', "camera: String", "1", id="no name"
        ),
        pytest.param(
            "cmd/threshold",
            b'{"id": "1", "score": 1.01}',
            "score: Input should be less than or equal to 1",
            "1",
            id="above 1",
        ),
        pytest.param(
            "cmd/threshold", b'{"id": "1", "score": -0.01}', "greater than or", "1", id="below 0"
        ),
        pytest.param(
            "cmd/threshold", b'{"id": "1", "score": "0.5"}', "a valid number", "1", id="text"
        ),
        pytest.param("cmd/threshold", b'{"id": "1", "score": NaN}', "not JSON", None, id="NaN"),
        pytest.param(
            "cmd/reload",
            b'{"id": "1", "a": 1, "b": 2, "c": 3, "d": 4}',
            "and 1 more",
            "1",
            id="many faults",
        ),
        pytest.param(
            "camera/dock/fps/set",
            b"3",
            "there is no such setting; there are: enabled, priority, score_threshold",
            None,
            id="no setting",
        ),
        pytest.param(
            "camera/dock/enabled/set", b"2", "must be ON or OFF (got '2')", None, id="neither"
        ),
        pytest.param(
            "camera/dock/enabled/set", b"\xff", "must be ON or OFF", None, id="no text, set"
        ),
        pytest.param("camera/D/enabled/set", b"ON", "camera: String", None, id="no name, set"),
        pytest.param(
            "camera/dock/score_threshold/set", b"low", "a number from 0 to 1", None, id="a word"
        ),
        pytest.param(
            "camera/dock/score_threshold/set", b"1.5", "score: Input", None, id="above 1, set"
        ),
        pytest.param(
            "camera/dock/score_threshold/set", b"[1]", "score: Input", None, id="a list, set"
        ),
    ],
)
def test_why_it_is_no_request(
    topic: str, payload: bytes, words: str, request_id: Optional[str]
) -> None:
    with pytest.raises(Refused) as caught:
        parse(Inbound(topic, payload))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.request_id == request_id


@pytest.mark.parametrize("extra", [0, 1])
def test_what_is_too_long_is_not_read(extra: int) -> None:
    payload = b'{"id": "1"}'.ljust(MAX_PAYLOAD_BYTES + extra)
    if not extra:
        assert parse(Inbound("cmd/reload", payload)) == Reload(id="1")
        return
    with pytest.raises(Refused, match="longer than 4096 bytes"):
        parse(Inbound("cmd/reload", payload))


def test_the_longest_id() -> None:
    assert len(parse(Inbound("cmd/reload", LONGEST_ID)).id or "") == 64


def test_every_verb_has_a_request_and_every_setting_a_verb() -> None:
    assert set(REQUESTS) == set(Verb)
    assert all(kind.__doc__ for kind in REQUESTS.values())
    assert all(setting.verbs for setting in Setting)


# --- anything at all ---------------------------------------------------------------------------

LEVELS = st.sampled_from(
    ["cmd", "camera", "set", "state", "dock", "", "#", *Verb, *Setting, "result", "\x00"]
)
TOPICS = st.one_of(
    st.lists(st.one_of(LEVELS, st.text()), max_size=6).map("/".join),
    st.sampled_from([f"cmd/{verb.value}" for verb in Verb]),
    st.sampled_from([f"camera/dock/{setting.value}/set" for setting in Setting]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)
KEYS = st.dictionaries(
    st.one_of(st.sampled_from(["id", "camera", "score", "priority", "schema"]), st.text()),
    VALUES,
    max_size=5,
)
NAMES = st.from_regex(CAMERA_NAME, fullmatch=True)
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
SCORES = st.floats(0, 1)
REQUESTS_AT_ALL = st.one_of(
    st.sampled_from([Rebuild, Reload, Restart]).flatmap(lambda kind: st.builds(kind, id=IDS)),
    st.sampled_from([Snapshot, Enable, Disable]).flatmap(
        lambda kind: st.builds(kind, id=IDS, camera=NAMES)
    ),
    st.builds(Prioritize, id=IDS, camera=NAMES, priority=st.booleans()),
    st.builds(Threshold, id=IDS, camera=st.none() | NAMES, score=SCORES),
)
SCHEMAS = {
    verb: Draft202012Validator(kind.model_json_schema(by_alias=True))
    for verb, kind in REQUESTS.items()
}
PAYLOADS = st.one_of(st.binary(), st.text().map(str.encode), st.floats().map(lambda x: b"%f" % x))


@given(topic=TOPICS, payload=PAYLOADS)
@example(topic="cmd/reload", payload=b'{"id":' + b"[" * 300)
@example(topic="camera/dock/score_threshold/set", payload=b"9" * 4000)
def test_any_message_is_a_request_or_is_refused_in_words(topic: str, payload: bytes) -> None:
    assert_request_or_words(Inbound(topic, payload))


def refusal_of(message: Inbound) -> Optional[str]:
    try:
        parse(message)
    except Refused as refusal:
        return str(refusal)
    return None


def assert_request_or_words(message: Inbound) -> None:
    words = refusal_of(message)
    if words is not None:
        assert 0 < len(words.encode()) < 1000


@given(verb=st.sampled_from(Verb), keys=KEYS)
def test_nothing_is_taken_that_the_schema_forbids(verb: Verb, keys: object) -> None:
    try:
        payload = json.dumps(keys, allow_nan=False).encode()
    except ValueError:
        return
    message = Inbound(f"cmd/{verb.value}", payload)
    assert_request_or_words(message)
    # Not the other way round: half a character, as in "\ud800", is text to the schema only.
    if refusal_of(message) is None:
        assert SCHEMAS[verb].is_valid(json.loads(payload))


@given(request=REQUESTS_AT_ALL)
def test_what_the_schema_allows_is_taken(request: Request) -> None:
    text = request.model_dump_json(by_alias=True, exclude_none=True)
    assert SCHEMAS[request.verb].is_valid(json.loads(text))
    assert parse(Inbound(f"cmd/{request.verb.value}", text.encode())) == request
