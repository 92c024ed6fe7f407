from __future__ import annotations

import json
from typing import Any, Dict

import jsonschema

from edge.publish.governor_payload import governor_payload
from edge.publish.schemas import all_schemas
from edge.records import GovernorChange, GovernorStatus, Step, StepKind
from tests.publish import samples

FPS = Step(StepKind.FPS, "yard", 29.9874, 14.9937, "hot")
WINDOW = Step(StepKind.WINDOW, None, 10.0, 20.0, "hotter")


def sent(status: GovernorStatus) -> Dict[str, Any]:
    message: Dict[str, Any] = json.loads(governor_payload(status, samples.HEADER).to_json())
    jsonschema.validate(message, all_schemas()["edge.governor/1"])
    return message


def test_every_step_and_the_last_change_are_told() -> None:
    change = GovernorChange(WINDOW, is_undone=False, reason="hotter")
    message = sent(GovernorStatus((FPS, WINDOW), change, is_exhausted=True))
    assert message["steps"] == [
        {"action": "fps", "camera": "yard", "before": 29.99, "after": 14.99, "reason": "hot"},
        {"action": "window", "before": 10.0, "after": 20.0, "reason": "hotter"},
    ]
    assert message["change"] == {"action": "window", "undone": False, "reason": "hotter"}
    assert message["exhausted"] is True


def test_what_was_undone_is_told_though_it_holds_no_more() -> None:
    change = GovernorChange(FPS, is_undone=True, reason="cool")
    message = sent(GovernorStatus((), change))
    assert message["steps"] == []
    assert message["change"] == {
        "action": "fps",
        "camera": "yard",
        "undone": True,
        "reason": "cool",
    }


def test_before_the_first_step_there_is_no_change() -> None:
    message = sent(GovernorStatus())
    assert (message["steps"], message["exhausted"]) == ([], False)
    assert "change" not in message
