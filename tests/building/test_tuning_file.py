from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import pytest

from edge.building.tuning_file import (
    FILE_NAME,
    Tuning,
    TuningKey,
    batch_target,
    save_tuning,
    tuned_target,
    write_file,
)
from edge.config.schema import BatchingConfig
from edge.errors import ConfigError
from edge.records import BatchTarget, DeployedGraph, EngineInfo, Preprocessing, TargetSource

GRAPH = DeployedGraph(b"", "tiny", "ab" * 32, "v8", Preprocessing((64, 48)), ("a",), 8)
ENGINE = EngineInfo("onnxruntime", "1.19.2", "cpu", "fp32", 8)
KEY = TuningKey.of(GRAPH, ENGINE)
DEFAULT = BatchTarget(8, TargetSource.DEFAULT)


def tuning(target: int = 4) -> Tuning:
    return Tuning(
        schema="edge.tuning/1",
        created="2026-11-22T17:00:00.000Z",
        key=KEY,
        target=target,
        table=[{"batch": 1, "throughput_fps": 53.5}],
    )


def saved(**changes: Any) -> Dict[str, Any]:
    content: Dict[str, Any] = json.loads(tuning().model_dump_json(by_alias=True))
    content.update(changes)
    return content


def test_what_was_written_is_what_the_daemon_uses(tmp_path: Path) -> None:
    state_dir = tmp_path / "not" / "there" / "yet"
    path = save_tuning(state_dir, tuning(target=4))
    assert path == state_dir / FILE_NAME
    assert [file.name for file in state_dir.iterdir()] == [FILE_NAME]
    found = batch_target(BatchingConfig(), state_dir, KEY)
    assert found == BatchTarget(4, TargetSource.BENCH)
    content = json.loads(path.read_text("utf-8"))
    assert (content["schema"], content["target"]) == ("edge.tuning/1", 4)
    assert content["key"]["model_sha256"] == "ab" * 32
    assert content["table"] == [{"batch": 1, "throughput_fps": 53.5}]


@pytest.mark.parametrize(
    ("configured", "tuned", "expected"),
    [
        pytest.param(None, None, DEFAULT, id="nobody said anything"),
        pytest.param(None, 2, BatchTarget(2, TargetSource.BENCH), id="tuned"),
        pytest.param(16, 2, BatchTarget(16, TargetSource.CONFIG), id="the config goes first"),
        pytest.param(8, 2, BatchTarget(8, TargetSource.CONFIG), id="the default, but written down"),
        pytest.param(16, None, BatchTarget(16, TargetSource.CONFIG), id="config alone"),
    ],
)
def test_who_decides(
    configured: Optional[int],
    tuned: Optional[int],
    expected: BatchTarget,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    batching = BatchingConfig() if configured is None else BatchingConfig(target=configured)
    if tuned is not None:
        save_tuning(tmp_path, tuning(tuned))
    assert batch_target(batching, tmp_path, KEY) == expected
    assert not caplog.records


def without(name: str) -> bytes:
    content = saved()
    del content[name]
    return json.dumps(content).encode()


def as_bytes(**changes: Any) -> bytes:
    return json.dumps(saved(**changes)).encode()


GARBAGE: Dict[str, bytes] = {
    "empty": b"",
    "binary": b"\x00\xff\xfe\x01",
    "cut short": as_bytes()[:-20],
    "a list": b"[]",
    "null": b"null",
    "another schema": as_bytes(schema="edge.tuning/2"),
    "no schema": without("schema"),
    "no key": without("key"),
    "no target": without("target"),
    "target 0": as_bytes(target=0),
    "target 65": as_bytes(target=65),
    "target negative": as_bytes(target=-1),
    "target in words": as_bytes(target="eight"),
    "target as text": as_bytes(target="8"),
    "target a fraction": as_bytes(target=7.5),
    "target true": as_bytes(target=True),
    "target not a number": as_bytes(target=float("nan")),
    "key of another kind": as_bytes(key="ab" * 32),
    "nested without end": b"[" * 5000,
    "too large": as_bytes(created="x" * 300_000),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_ignored_with_one_warning(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert batch_target(BatchingConfig(), tmp_path, KEY) == DEFAULT
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert str(tmp_path / FILE_NAME) in message
    assert "edge bench --tune" in message
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize("target", [1, 64])
def test_the_bounds_are_good(target: int) -> None:
    assert tuned_target(as_bytes(target=target), KEY) == target


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("model_sha256", "cd" * 32),
        ("input_wh", (64, 64)),
        ("backend", "tensorrt"),
        ("version", "1.20.0"),
        ("device", "Xavier"),
        ("precision", "fp16"),
        ("max_batch", 4),
    ],
)
def test_a_measurement_of_something_else_is_foreign(
    name: str, other: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_tuning(tmp_path, tuning())
    key = KEY.model_copy(update={name: other})
    assert batch_target(BatchingConfig(), tmp_path, key) == DEFAULT
    (record,) = caplog.records
    assert f"{name} was {said(getattr(KEY, name))} and is {said(other)}" in record.getMessage()


def said(value: object) -> str:
    """As the message has it: a digest's beginning, a size as JSON has it."""
    if isinstance(value, str) and len(value) == 64:
        return f"{value[:12]}…"
    return str(list(value)) if isinstance(value, tuple) else str(value)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [a_folder, a_loop])
def test_what_cannot_be_read_is_ignored_with_one_warning(
    make: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path / FILE_NAME)
    assert batch_target(BatchingConfig(), tmp_path, KEY) == DEFAULT
    assert len(caplog.records) == 1


def test_a_folder_that_cannot_be_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"cannot write .*tuning\.json: .*; make its folder"):
        save_tuning(tmp_path / "file" / "state", tuning())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    path.mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        write_file(path, "text")
    assert [file.name for file in tmp_path.iterdir()] == ["plot.svg"]


def test_a_name_no_file_can_have_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="null byte"):
        write_file(Path("a\0b"), "text")
