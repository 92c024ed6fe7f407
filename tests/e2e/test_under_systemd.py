"""The unit under a real systemd: what it does when the daemon starts, hangs and fails."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Iterator

import pytest

from tests.e2e import systemd_manager
from tests.e2e.daemon import write_config
from tests.e2e.systemd_manager import Manager
from tests.installing.docker_double import LAUNCH, install_docker
from tests.mosquitto import Broker, wait_for

ROOT = Path(__file__).resolve().parents[2]
CAMERA = {"name": "belt", "uri": "synthetic://1?size=96x64", "fps": 10}

# What a user's manager cannot do, or a container cannot, and where this machine keeps its files;
# times made short. The rest of the sandbox is as it is shipped.
DROP_IN = """\
[Service]
User=
Group=
Slice=
ProtectHome=no
ProtectKernelTunables=no
ProtectKernelLogs=no
Environment=TMPDIR=/tmp HOME={home} PYTHONPATH={root}
WorkingDirectory={root}
ExecStart=
ExecStart={python} {program} {config}
WatchdogSec={watchdog_s}
TimeoutAbortSec=1
RestartSec=100ms
StandardError=append:{folder}/daemon.log
"""

PROGRAM = "-m edge run --config"

# The daemon with a consumer of its results that never returns.
HANGING = """\
import sys, threading
from edge.app import App
from edge.cli import main
def hanging(self, on_tick=None, read=None, supervisor=None):
    self._on_result = lambda result: threading.Event().wait()
    run(self, on_tick, read, supervisor)
run, App.run = App.run, hanging
sys.exit(main(sys.argv[1:]))
"""

pytestmark = pytest.mark.skipif(
    not systemd_manager.can_run(), reason="needs systemd, and the right to make a mount namespace"
)


class Unit:
    """edge.service of this repository, with its times shortened."""

    def __init__(self, folder: Path, manager: Manager, config: Path) -> None:
        self.manager = manager
        self._folder = folder
        self._config = config
        unit = (ROOT / "systemd/edge.service").read_text()
        (manager.units / "edge.service").write_text(unit)
        self.runs(PROGRAM)

    def runs(self, program: str, watchdog_s: int = 20) -> None:
        """Lets it start Python with this program and the configuration."""
        drop_in = self.manager.units / "edge.service.d/test.conf"
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_text(
            DROP_IN.format(
                python=sys.executable,
                program=program,
                watchdog_s=watchdog_s,
                config=self._config,
                folder=self._folder,
                home=self._folder,
                root=ROOT,
            )
        )
        self.manager.run("daemon-reload")

    def is_now(self, **properties: str) -> bool:
        """Whether these properties are so."""
        return self.manager.shows("edge", *properties) == list(properties.values())

    def wait_until(self, **properties: str) -> None:
        wait_for(lambda: self.is_now(**properties), f"{properties} in {self!r}")

    def wait_for_restart(self) -> None:
        wait_for(lambda: int(self.manager.shows("edge", "NRestarts")[0]) >= 1, "a restart")

    def __repr__(self) -> str:
        log = self._folder / "daemon.log"
        tail = log.read_text()[-3000:] if log.exists() else ""
        return f"{self.manager.run('status', 'edge').stdout}\n{tail}"


@pytest.fixture
def unit(tmp_path: Path, broker: Broker) -> Iterator[Unit]:
    config = write_config(tmp_path, broker, [CAMERA])
    manager = Manager(tmp_path)
    yield Unit(tmp_path, manager, config)
    manager.close()


def test_it_starts_reloads_and_stops(unit: Unit) -> None:
    started = unit.manager.run("start", "edge")
    assert started.returncode == 0, unit
    assert unit.is_now(ActiveState="active", SubState="running", NRestarts="0")
    unit.wait_until(StatusText="ready")
    (pid,) = unit.manager.shows("edge", "MainPID")
    assert unit.manager.run("reload", "edge").returncode == 0
    unit.wait_until(ActiveState="active", SubState="running", MainPID=pid)
    assert unit.manager.run("stop", "edge").returncode == 0
    assert unit.is_now(ActiveState="inactive", Result="success", ExecMainStatus="0")


def test_one_that_stands_still_is_started_again(unit: Unit) -> None:
    unit.runs(PROGRAM, watchdog_s=3)
    assert unit.manager.run("start", "edge").returncode == 0, unit
    (pid,) = unit.manager.shows("edge", "MainPID")
    os.kill(int(pid), signal.SIGSTOP)
    unit.wait_for_restart()


def test_one_whose_stage_hangs_is_started_again(unit: Unit, tmp_path: Path, broker: Broker) -> None:
    write_config(tmp_path, broker, [CAMERA], engine={"stall_s": 1})
    (tmp_path / "hanging.py").write_text(HANGING)
    unit.runs(f"{tmp_path / 'hanging.py'} run --config")
    unit.manager.run("start", "--no-block", "edge")
    unit.wait_for_restart()
    log = (tmp_path / "daemon.log").read_text()
    assert "frames wait, and none has come out" in log


def test_one_whose_configuration_is_wrong_is_not(unit: Unit, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("camras: []\n")
    assert unit.manager.run("start", "edge").returncode != 0
    unit.wait_until(ActiveState="failed", SubState="failed", ExecMainStatus="78", NRestarts="0")


# --- the container's unit -------------------------------------------------------------------------

CONTAINER_DROP_IN = """\
[Unit]
Requires=
After=
[Service]
Slice=
ProtectHome=no
ProtectKernelTunables=no
ProtectKernelLogs=no
ProtectClock=no
Environment=PATH={folder}/bin:/usr/bin:/bin PYTHONPATH={root}
ReadWritePaths={folder}
ExecStart=
ExecStart={python} {folder}/launch.py {folder}
ExecStopPost=
WatchdogSec=6
TimeoutAbortSec=1
RestartSec=100ms
"""


class ContainerUnit:
    """edge-container.service of this repository; a program is in Docker's place."""

    def __init__(self, folder: Path, manager: Manager) -> None:
        self.manager = manager
        self.folder = folder
        install_docker(folder)
        (folder / "launch.py").write_text(
            "import os\n" + LAUNCH.replace("sys.argv[2]", 'os.environ["NOTIFY_SOCKET"]')
        )
        unit = (ROOT / "systemd/edge-container.service").read_text()
        unit = unit.replace("Requires=docker.service\n", "")  # cannot be reset in a drop-in
        (manager.units / "edge-container.service").write_text(unit)
        drop_in = manager.units / "edge-container.service.d/test.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(
            CONTAINER_DROP_IN.format(python=sys.executable, folder=folder, root=ROOT)
        )
        manager.run("daemon-reload")

    def start(self, code: int, *files: str) -> bool:
        """Starts it; whether it became ready."""
        (self.folder / "code").write_text(str(code))
        for name in files:
            (self.folder / name).write_text("")
        return self.manager.run("start", "edge-container").returncode == 0

    def wait_until(self, **properties: str) -> None:
        def is_so() -> bool:
            shown = self.manager.shows("edge-container", *properties)
            return shown == list(properties.values())

        status = self.manager.run("status", "edge-container").stdout
        wait_for(is_so, f"{properties} in {status}")


@pytest.fixture
def container(tmp_path: Path) -> Iterator[ContainerUnit]:
    manager = Manager(tmp_path)
    yield ContainerUnit(tmp_path, manager)
    manager.close()


def test_a_container_is_ready_when_its_daemon_says_so(container: ContainerUnit) -> None:
    assert container.start(0, "is_lively")
    container.wait_until(ActiveState="active", StatusText="from the container", NRestarts="0")
    assert container.manager.run("stop", "edge-container").returncode == 0
    container.wait_until(ActiveState="inactive", Result="success")


def test_a_container_that_is_silent_is_started_again(container: ContainerUnit) -> None:
    assert container.start(0)
    wait_for(
        lambda: int(container.manager.shows("edge-container", "NRestarts")[0]) >= 1, "a restart"
    )


def test_a_container_with_a_wrong_configuration_is_not(container: ContainerUnit) -> None:
    container.start(78, "is_short")
    container.wait_until(ActiveState="failed", ExecMainStatus="78", NRestarts="0")
