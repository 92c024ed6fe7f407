"""systemd's own judgement of the units, and what the daemon's promises need of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List

import pytest

import edge.app
import edge.errors
from edge.installing.pieces import Flavour, pieces
from edge.installing.placing import Placement

UNITS = Path(__file__).resolve().parents[2] / "systemd"
SERVICES = [flavour.value for flavour in Flavour]
MAX_EXPOSURE = 2.5

SYSTEM_UNITS = Path("/usr/lib/systemd/system")

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed here"
)


def settings(name: str) -> Dict[str, List[str]]:
    """All lines of a unit by their key; a key may come more than once."""
    found: Dict[str, List[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def machine(root: Path) -> Path:
    """A machine with both flavours installed, and the programs that their units start."""
    for flavour in Flavour:
        list(Placement(root).install(pieces(flavour, []), is_dry=False))
    shutil.copytree(SYSTEM_UNITS, root / "usr/lib/systemd/system", symlinks=True)
    (root / "lib").symlink_to("usr/lib")
    docker = root / "etc/systemd/system/docker.service"
    docker.write_text("[Service]\nExecStart=/usr/bin/dockerd\n")
    started = " ".join(
        value
        for unit in (root / "etc/systemd/system").glob("*.service")
        for value in re.findall(r"^Exec\w+=-?(\S+)", unit.read_text(), re.MULTILINE)
    )
    for program in started.split():
        path = root / program[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return root


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@needs_systemd
def test_systemd_takes_every_unit(tmp_path: Path) -> None:
    root = machine(tmp_path)
    units = sorted(path.name for path in UNITS.iterdir() if path.suffix in (".service", ".slice"))
    assert len(units) == 4
    judged = analyze("verify", f"--root={root}", *units)
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")


@needs_systemd
def test_systemd_refuses_a_wrong_unit(tmp_path: Path) -> None:
    """The judge above can say no."""
    unit = machine(tmp_path) / "etc/systemd/system/edge.service"
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSec=often"))
    assert "often" in analyze("verify", f"--root={tmp_path}", "edge.service").stderr


@needs_systemd
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_shut_off(service: str) -> None:
    judged = analyze(
        "security",
        "--offline=true",
        "--no-pager",
        f"--threshold={int(MAX_EXPOSURE * 10)}",
        str(UNITS / f"{service}.service"),
    )
    assert judged.returncode == 0, judged.stdout[-200:] + judged.stderr


@needs_systemd
def test_user_and_folders_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for program, arguments in (("systemd-sysusers", []), ("systemd-tmpfiles", ["--create"])):
        kind = program.replace("systemd-", "") + ".d"
        subprocess.run(
            [program, f"--root={tmp_path}", *arguments, str(UNITS / kind / "edge.conf")],
            check=True,
            capture_output=True,
        )
    users = (tmp_path / "etc/passwd").read_text()
    assert re.search(r"^edge:x:\d+:\d+:.*:/var/lib/edge:\S*nologin$", users, re.MULTILINE)
    groups = (tmp_path / "etc/group").read_text()
    for group in ("video", "render", "jtop"):
        assert re.search(rf"^{group}:x:\d+:edge$", groups, re.MULTILINE)
    uid = int(users.split(":")[2])
    state = (tmp_path / "var/lib/edge").stat()
    assert (state.st_uid, state.st_mode & 0o777) == (uid, 0o750)
    config = (tmp_path / "etc/edge").stat()
    assert (config.st_uid, config.st_mode & 0o777) == (0, 0o750)


@pytest.mark.parametrize("service", SERVICES)
def test_the_supervisor_keeps_the_daemons_promises(service: str) -> None:
    unit = settings(f"{service}.service")
    assert unit["Type"] == ["notify"]
    assert unit["NotifyAccess"] == ["main"]
    assert float(unit["WatchdogSec"][0]) >= 10
    assert unit["Restart"] == ["always"]
    assert unit["RestartPreventExitStatus"] == [str(edge.errors.EXIT_CONFIG)]
    assert unit["StartLimitIntervalSec"] == ["0"]
    # The daemon must have its whole time to bring out what it accepted.
    assert float(unit["TimeoutStopSec"][0]) > edge.app.SHUTDOWN_S + 10
    assert unit["Slice"] == ["edge.slice"]
    assert "nvargus-daemon.service jtop.service" in unit["After"]


def test_only_one_of_both_runs() -> None:
    assert settings("edge.service")["Conflicts"] == ["edge-container.service"]
    assert settings("edge-container.service")["Conflicts"] == ["edge.service"]


def test_a_build_that_runs_out_of_memory_ends_alone() -> None:
    assert settings("edge.service")["OOMPolicy"] == ["continue"]


def test_what_would_take_the_devices_away_is_not_there() -> None:
    unit = settings("edge.service")
    closing = {"PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "PrivateTmp"}
    assert closing.isdisjoint(unit)


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_that_may_never_come_is_waited_for(service: str) -> None:
    """After a power cut there may be no network, and no time server, for hours."""
    words = " ".join(" ".join(values) for values in settings(f"{service}.service").values())
    assert "network-online.target" not in words
    assert "time-sync.target" not in words
