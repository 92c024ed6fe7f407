from __future__ import annotations

from pathlib import Path
from typing import List

import pytest

from edge.cli import main
from edge.clock import NS_PER_S, SystemClock
from edge.notify import Supervisor


def edge(capsys: pytest.CaptureFixture[str], *arguments: str) -> List[str]:
    assert main(arguments) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("flags", "unit", "other"),
    [
        pytest.param([], "edge", "edge-container", id="native"),
        pytest.param(["--container"], "edge-container", "edge", id="container"),
    ],
)
def test_install_and_undo(
    flags: List[str],
    unit: str,
    other: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = ["--root", str(tmp_path)]
    planned = edge(capsys, "install", *root, *flags, "--dry-run")
    assert f"would be  /etc/systemd/system/{unit}.service: put" in planned
    assert list(tmp_path.iterdir()) == []
    lines = edge(capsys, "install", *root, *flags)
    assert f"/etc/systemd/system/{unit}.service: put" in lines
    assert lines[-1].endswith(f"sudo systemctl enable --now --no-block {unit}")
    assert (tmp_path / f"etc/systemd/system/{unit}.service").exists()
    assert not (tmp_path / f"etc/systemd/system/{other}.service").exists()
    again = edge(capsys, "install", *root, *flags)
    assert "/etc/edge/config.yaml: kept: it is yours" in again
    assert not any(line.endswith(": put") for line in again)
    undone = edge(capsys, "install", *root, "--undo")
    assert undone[0] == "first     sudo systemctl disable --now edge edge-container edge-power"
    assert list(tmp_path.iterdir()) == []
    assert "nothing was installed here" in edge(capsys, "install", *root, "--undo")


@pytest.mark.parametrize("is_there", [False, True])
def test_a_missing_program_is_said(
    is_there: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "opt/edge/bin/edge"
    if is_there:
        program.parent.mkdir(parents=True)
        program.touch()
    lines = edge(capsys, "install", "--root", str(tmp_path))
    assert any(line.startswith("missing   /opt/edge/bin/edge") for line in lines) != is_there


def test_a_root_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "file"
    root.write_text("")
    assert main(["install", "--root", str(root)]) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("edge install: cannot write: ")


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [
        pytest.param(0, 0, id="now"),
        pytest.param(100_000, 1, id="long ago"),
        pytest.param(None, 1, id="never"),
    ],
)
def test_alive(age_s: int, expected: int, tmp_path: Path) -> None:
    file = tmp_path / "alive"
    if age_s is not None:
        Supervisor(alive_file=file).alive(SystemClock().monotonic_ns() - age_s * NS_PER_S)
    assert main(["alive", str(file), "--within", "60"]) == expected


@pytest.mark.parametrize("command", ["install", "alive"])
def test_the_commands_explain_themselves(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: edge {command}")
