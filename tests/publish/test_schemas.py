from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from edge.config.commands import Verb
from edge.publish.schemas import ASYNCAPI, FOLDER, all_schemas, file_name, render, write_schemas

NAMES = {
    "edge.detections/1",
    "edge.state/1",
    "edge.info/1",
    "edge.engine/1",
    "edge.health/1",
    "edge.outbox/1",
    "edge.governor/1",
    "edge.camera.status/1",
    "edge.camera.stats/1",
    "edge.command.result/1",
    "edge.event/1",
    "edge.alert/1",
}

REQUESTS = {f"edge.command.{verb.value}/1" for verb in Verb}


def test_every_message_has_a_schema() -> None:
    assert set(all_schemas()) == NAMES | REQUESTS


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_a_request_needs_only_an_id_and_what_it_is_about(name: str) -> None:
    schema = all_schemas()[name]
    Draft202012Validator.check_schema(schema)
    assert schema["title"] == name
    assert schema["required"][0] == "id"
    assert set(schema["required"]) <= {"id", "camera", "score"}
    assert '"null"' not in render(schema)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_schema_is_one_and_speaks_for_itself(name: str) -> None:
    schema = all_schemas()[name]
    Draft202012Validator.check_schema(schema)
    assert schema["title"] == name
    header = {"schema", "device", "session", "seq", "ts", "ts_ms"}
    assert header <= set(schema["required"])
    assert '"null"' not in render(schema)


def test_committed_files_are_what_the_code_generates(tmp_path: Path) -> None:
    write_schemas(tmp_path)
    generated = {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.json")}
    committed = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.json")}
    assert set(generated) == {ASYNCAPI, *map(file_name, NAMES | REQUESTS)}
    assert committed == generated, "run python -m edge.publish.schemas"
