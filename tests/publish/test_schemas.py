from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from edge.publish.schemas import FOLDER, all_schemas, file_name, render, write_schemas

NAMES = {
    "edge.detections/1",
    "edge.state/1",
    "edge.info/1",
    "edge.engine/1",
    "edge.health/1",
    "edge.camera.status/1",
    "edge.camera.stats/1",
}


def test_every_message_has_a_schema() -> None:
    assert set(all_schemas()) == NAMES


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
    assert set(generated) == {file_name(name) for name in NAMES}
    assert committed == generated, "run python -m edge.publish.schemas"
