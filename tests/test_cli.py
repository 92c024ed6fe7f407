"""The command line: help, exit codes, and bad input as one clear line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
import yaml

from edge import __version__
from edge.cli import main
from edge.demo.show import ASSETS

MODEL = str(ASSETS / "parts.onnx")
CAMERA = {"name": "belt", "uri": str(ASSETS / "belt.mp4")}


def write(folder: Path, **changes: Any) -> Path:
    config: Dict[str, Any] = {
        "device": {"id": "nx", "state_dir": str(folder / "state")},
        "model": {"path": MODEL},
        "cameras": [CAMERA],
        "mqtt": {"port": 1},  # nothing listens there
    }
    config.update(changes)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize(
    "command", [[], ["run"], ["check"], ["cameras"], ["bench"], ["demo"], ["schema"]]
)
def test_every_command_explains_itself(
    command: List[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: edge")
    assert len(text.splitlines()) > 5


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"edge {__version__}"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="no command"),
        pytest.param(["fly"], id="unknown command"),
        pytest.param(["run"], id="no config"),
        pytest.param(["cameras", "--timeout", "0"], id="no time"),
        pytest.param(["demo", "--seconds", "-1"], id="negative seconds"),
        pytest.param(["demo", "--seconds", "inf"], id="endless seconds"),
        pytest.param(["demo", "--seconds", "soon"], id="seconds in words"),
    ],
)
def test_wrong_use_is_exit_2(arguments: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: edge" in capsys.readouterr().err


def test_schema_is_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    config = json.loads(capsys.readouterr().out)
    assert config["properties"]["cameras"]
    assert main(["schema", "--mqtt"]) == 0
    mqtt = json.loads(capsys.readouterr().out)
    assert mqtt["asyncapi"] == "3.0.0"
    address = "{prefix}/{device}/camera/{camera}/detections"
    assert mqtt["channels"]["camera_detections"]["address"] == address
    assert "edge.detections.1" in mqtt["components"]["schemas"]


def test_check_explains_what_would_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", str(write(tmp_path))]) == 0
    text = capsys.readouterr().out
    for expected in ("device   nx", "320x320", "1280x720", "the daemon will keep trying", "ok"):
        assert expected in text
    assert "batches  full at 8 (default), up to 8 frames at once (the engine)" in text


def test_check_says_who_decides_about_batches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"batching": {"target": 6}, "engine": {"max_batch": 2}}
    assert main(["check", "-c", str(write(tmp_path, **changes))]) == 0
    expected = "batches  full at 6 (config), up to 2 frames at once (engine.max_batch)"
    assert expected in capsys.readouterr().out


def test_check_names_keys_that_do_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"batching": {"window": "auto", "max_wait_ms": 0}}
    assert main(["check", "-c", str(write(tmp_path, **changes))]) == 0
    expected = "warning  batching.window does nothing: max_wait_ms is 0, so no batch waits at all"
    assert expected in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("host", ["broker..local", "b" * 64, "no-such-host.invalid"])
def test_check_survives_a_broker_that_is_no_host(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "-c", str(write(tmp_path, mqtt={"host": host}))]) == 0
    assert f"broker   {host}:1883" in capsys.readouterr().out


def test_an_unexpected_error_is_one_line_and_exit_70(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("edge.config.load.load", fail)
    assert main(["run", "-c", str(write(tmp_path))]) == 70
    seen = capsys.readouterr().err
    assert "internal error: ZeroDivisionError('planted')" in seen
    assert "Traceback" not in seen


def truncated_model(folder: Path) -> str:
    path = folder / "truncated.onnx"
    path.write_bytes(Path(MODEL).read_bytes()[:5000])
    return str(path)


def not_a_video(folder: Path) -> str:
    path = folder / "notes.mp4"
    path.write_text("these are notes")
    return str(path)


BAD: Dict[str, Any] = {
    "model missing": ("run", {"model": {"path": "none.onnx"}}, "none.onnx"),
    "model truncated": ("run", {"model": {"path": truncated_model}}, "truncated.onnx"),
    "model is a video": ("run", {"model": {"path": CAMERA["uri"]}}, "belt.mp4"),
    "unknown class": (
        "run",
        {"postprocess": {"classes": ["bolts"]}},
        "bolts",
    ),
    "unknown key": ("run", {"camras": []}, "camras"),
    "wrong type": ("run", {"batching": {"target": "many"}}, "batching.target"),
    "no cameras": ("run", {"cameras": []}, "cameras"),
    "duplicate names": ("run", {"cameras": [CAMERA, CAMERA]}, "belt"),
    "unknown scheme": (
        "run",
        {"cameras": [{"name": "a", "uri": "ftp://host/video"}]},
        "ftp://",
    ),
    "check: camera file missing": (
        "check",
        {"cameras": [{"name": "a", "uri": "none.mp4"}]},
        "none.mp4",
    ),
    "check: a path longer than any": (
        "check",
        {"cameras": [{"name": "a", "uri": "x" * 300}]},
        "File name too long",
    ),
    "check: not a video": (
        "check",
        {"cameras": [{"name": "a", "uri": not_a_video}]},
        "notes.mp4",
    ),
}


def filled_in(value: Any, folder: Path) -> Any:
    """The value with every function in it called on `folder`."""
    if callable(value):
        return value(folder)
    if isinstance(value, dict):
        return {key: filled_in(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled_in(inner, folder) for inner in value]
    return value


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_said_in_a_line_and_exit_78(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command, changes, expected = BAD[name]
    path = write(tmp_path, **filled_in(changes, tmp_path))
    assert main(["--log-level", "error", command, "-c", str(path)]) == 78
    seen = capfd.readouterr()
    text = seen.out + seen.err
    assert expected in text
    assert "Traceback" not in text
    if command == "run":
        assert len(seen.err.strip().splitlines()) == 1, seen.err


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(None, "config.yaml", id="missing"),
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"\x00\xff\xfe", "config.yaml", id="binary"),
        pytest.param(b"cameras: [", "config.yaml:1", id="garbled"),
        pytest.param(b"\tmodel: x", "config.yaml:1:1", id="tab"),
        pytest.param(b"just words", "config.yaml", id="a scalar"),
    ],
)
def test_a_file_that_is_no_config_is_exit_78(
    content: Optional[bytes],
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    assert main(["run", "-c", str(path)]) == 78
    seen = capsys.readouterr().err
    assert expected in seen
    assert "Traceback" not in seen


def test_signal_handlers_are_put_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    main(["schema"])
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"set -o pipefail; {sys.executable} -m edge schema | head -n 1"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0
    assert ended.stderr == ""


@pytest.mark.parametrize(
    ("redirection", "command", "expected"),
    [
        pytest.param(">&-", "schema", 0, id="stdout closed"),
        pytest.param("2>&-", "schema", 0, id="stderr closed"),
        pytest.param("<&- >&- 2>&-", "schema", 0, id="all closed"),
        pytest.param("2>&-", "check -c no-such-file.yaml", 78, id="the exit code stays"),
        pytest.param(">/dev/full", "schema", 70, id="nowhere to write"),
    ],
)
def test_odd_streams_change_nothing(redirection: str, command: str, expected: int) -> None:
    line = f"{sys.executable} -m edge {command} {redirection}"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert ended.returncode == expected, ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout


def test_an_old_terminal_gets_escapes_not_an_error(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "edge", "check", "-c", str(write(tmp_path))]
    ended = subprocess.run(command, capture_output=True, timeout=60, env=environ)
    assert ended.returncode == 0, ended.stderr
    assert b"broker" in ended.stdout


def test_a_pipe_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    assert main(["run", "-c", str(write(tmp_path, model={"path": "pipe.onnx"}))]) == 78
    assert "not a regular file" in capsys.readouterr().err


def test_check_sees_a_state_folder_that_cannot_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    device = {"id": "nx", "state_dir": str(tmp_path / "file" / "state")}
    assert main(["check", "-c", str(write(tmp_path, device=device))]) == 78
    assert "! device   nx" in capsys.readouterr().out


@pytest.mark.parametrize("host", ["tcp://10.0.0.5", "localhost:1884", "a b", "u@h"])
def test_a_host_is_a_host(host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", str(write(tmp_path, mqtt={"host": host}))]) == 78
    assert "mqtt.port holds that" in capsys.readouterr().err


def test_the_readmes_example_of_a_mistake_is_true(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text("camras: []\nmodel: {path: x.onnx}\n")
    assert main(["check", "-c", str(tmp_path / "config.yaml")]) == 78
    assert "camras: unknown key, did you mean 'cameras'?" in capsys.readouterr().err
