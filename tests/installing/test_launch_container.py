"""The launcher between systemd and Docker, with a program in Docker's place."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List, Optional

import pytest

from edge.installing import launch_container
from edge.installing.launch_container import Host, HostLacks, handed_on, look_around, run_command
from tests.installing.docker_double import LAUNCH, install_docker

PATIENCE_S = 60.0
HOST = Host(
    uid=960,
    gid=961,
    group_ids=(44, 109),
    video_nodes=("/dev/video0", "/dev/video2"),
    paths=("/etc/nv_tegra_release",),
    has_secrets=True,
    l4t_major=35,
)


def options(command: List[str], name: str) -> List[str]:
    return [value for option, value in zip(command, command[1:]) if option == name]


def test_the_container_gets_what_the_daemon_needs() -> None:
    command = run_command(HOST, {"WATCHDOG_USEC": "30000000"})
    assert command[:2] == ["docker", "run"]
    assert command[-1] == "edge:stable"
    assert options(command, "--user") == ["960:961"]
    assert options(command, "--group-add") == ["44", "109"]
    assert options(command, "--device") == ["/dev/video0", "/dev/video2"]
    assert options(command, "--runtime") == ["nvidia"]
    assert options(command, "--env-file") == ["/etc/edge/edge.env"]
    assert options(command, "--env") == [
        "NOTIFY_SOCKET=/run/edge-host/notify",
        "WATCHDOG_USEC=30000000",
    ]
    assert "/etc/nv_tegra_release:/etc/nv_tegra_release:ro" in options(command, "--volume")


def test_the_container_can_write_nowhere_but_to_its_volume() -> None:
    command = run_command(HOST, {})
    assert "--read-only" in command
    writable = [volume for volume in options(command, "--volume") if not volume.endswith(":ro")]
    assert writable == ["/var/lib/edge:/var/lib/edge", "/tmp:/tmp"]
    assert options(command, "--cap-drop") == ["ALL"]
    assert options(command, "--security-opt") == ["no-new-privileges"]
    assert "--privileged" not in command
    assert options(command, "--log-driver") == ["none"]  # journald has it: no second log grows


@pytest.mark.parametrize(
    ("l4t_major", "is_cdi"),
    [
        pytest.param(None, False, id="no Jetson"),
        pytest.param(36, False, id="JetPack 6"),
        pytest.param(38, True, id="JetPack 7"),
    ],
)
def test_from_jetpack_7_on_the_gpu_is_asked_for_by_name(
    l4t_major: Optional[int], is_cdi: bool
) -> None:
    host = Host(1, 1, (), (), (), has_secrets=False, l4t_major=l4t_major)
    asked = "NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=all" in run_command(host, {})
    assert asked == is_cdi


def test_a_site_names_its_image_and_adds_options() -> None:
    environ = {"EDGE_IMAGE": "registry.site/edge:1.2", "EDGE_DOCKER_OPTIONS": "--device '/dev/a b'"}
    command = run_command(HOST, environ)
    assert command[-1] == "registry.site/edge:1.2"
    assert "/dev/a b" in options(command, "--device")


def test_other_commands_run_beside_the_daemon() -> None:
    arguments = ["check", "-c", "/etc/edge/config.yaml"]
    command = run_command(HOST, {"WATCHDOG_USEC": "30000000"}, arguments)
    assert command[-4:] == ["edge:stable", *arguments]
    assert "--name" not in command
    assert "--interactive" in command
    assert options(command, "--env") == []  # the watchdog is not to hear them
    assert options(command, "--env-file") == ["/etc/edge/edge.env"]


def test_a_host_without_docker_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch_container, "NAME", "root")
    monkeypatch.setattr(launch_container, "RUNTIME_DIR", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch_container.main({}, ["schema"]) == 70
    assert "cannot run docker" in capsys.readouterr().err
    monkeypatch.setattr(launch_container, "NAME", "no-such-user")
    assert launch_container.main({}, []) == 78
    assert "systemd-sysusers" in capsys.readouterr().err


def test_without_the_user_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_container, "NAME", "no-such-user")
    with pytest.raises(HostLacks, match="systemd-sysusers"):
        look_around()


def test_the_host_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(launch_container, "NAME", "root")
    for name in ("video10", "video2", "video-dec0"):
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / name).touch()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R35 (release), REVISION: 4.1, GCID: 1\n")
    host = look_around(tmp_path)
    assert (host.uid, host.gid) == (0, 0)
    assert host.video_nodes == ("/dev/video10", "/dev/video2")
    assert host.paths == ("/etc/nv_tegra_release",)
    assert host.l4t_major == 35
    assert not host.has_secrets


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param("READY=1", "READY=1", id="one"),
        pytest.param("READY=1\nSTATUS=ready: a=b", "READY=1\nSTATUS=ready: a=b", id="two"),
        pytest.param("MAINPID=1\nWATCHDOG=1", "WATCHDOG=1", id="another process"),
        pytest.param("FDSTORE=1\nFDNAME=a", "", id="descriptors"),
        pytest.param("READY", "READY", id="no value"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_what_is_handed_on(message: str, expected: str) -> None:
    assert handed_on(message) == expected


def test_what_docker_hides_is_copied(tmp_path: Path) -> None:
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "model").write_text("NVIDIA Jetson Xavier NX\0")
    run = tmp_path / "run"
    run.mkdir()
    launch_container.describe_module(tmp_path, run)
    assert [path.name for path in run.iterdir()] == ["model"]
    assert (run / "model").read_text() == "NVIDIA Jetson Xavier NX\0"


# --- as systemd's process -------------------------------------------------------------------------


class Unit:
    """The launcher as systemd runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        install_docker(folder)
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(folder / "systemd"))
        self.systemd.settimeout(PATIENCE_S)
        self.process: Optional[subprocess.Popen[bytes]] = None

    def start(self, code: int, **files: str) -> subprocess.Popen[bytes]:
        (self.folder / "code").write_text(str(code))
        for name, text in files.items():
            (self.folder / name).write_text(text)
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        environ: Dict[str, str] = {**os.environ, "PATH": path}
        command = [sys.executable, "-c", LAUNCH, str(self.folder), str(self.folder / "systemd")]
        self.process = subprocess.Popen(command, env=environ)
        return self.process

    def wait_for(self, name: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not (self.folder / name).exists() and time.monotonic() < end:
            time.sleep(0.02)
        assert (self.folder / name).exists()

    def close(self) -> None:
        self.systemd.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    running = Unit(tmp_path)
    yield running
    running.close()


@pytest.mark.parametrize("code", [0, 70, 78])
def test_the_daemons_exit_code_is_the_units(code: int, unit: Unit) -> None:
    assert unit.start(code, is_short="").wait(PATIENCE_S) == code


def test_systemd_hears_the_daemon_from_the_launcher(unit: Unit) -> None:
    process = unit.start(0)
    assert unit.systemd.recv(4096) == b"READY=1"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


def test_a_container_that_is_not_there_yet_is_stopped_too(unit: Unit) -> None:
    process = unit.start(0, is_pulling="")
    unit.wait_for("notify")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
