"""A real systemd, as a user's manager that nothing else on this machine sees."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List

from tests.mosquitto import PATIENCE_S, wait_for

SYSTEMD = Path("/usr/lib/systemd/systemd")

# It wants /run/systemd/system, the mark of a machine that it has started: in a mount namespace of
# its own, so that nobody else takes this for one. Its units go into control groups below its own.
_START = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
for group in "$@"; do
  mkdir "$group"
  echo $$ > "$group/cgroup.procs"
done
exec "$0" --user
"""
_numbers = itertools.count(1)

_ISOLATED = ["unshare", "--mount", "--propagation", "private"]


def _hierarchies() -> List[Path]:
    """Where systemd keeps control groups: both in hybrid mode, or the only one."""
    root = Path("/sys/fs/cgroup")
    both = [root / "systemd", root / "unified"]
    return [path for path in both if path.is_dir()] or [root]


def can_run() -> bool:
    """Whether this machine has a systemd, and lets us make the namespace and the groups."""
    if not SYSTEMD.exists() or shutil.which("unshare") is None:
        return False
    group = f"edge-test-{os.getpid()}"
    script = ["mount -t tmpfs tmpfs /run", *(f"mkdir {path / group}" for path in _hierarchies())]
    script += [f"rmdir {path / group}" for path in _hierarchies()]
    command = [*_ISOLATED, "sh", "-c", " && ".join(script)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Manager:
    """Runs units out of `folder`."""

    def __init__(self, folder: Path) -> None:
        self._runtime = folder / "run"
        self._runtime.mkdir(mode=0o700)
        self.units = folder / "home/.config/systemd/user"
        self.units.mkdir(parents=True)
        hidden = ("NOTIFY_SOCKET", "DBUS_SESSION_BUS_ADDRESS")
        self._environ = {key: value for key, value in os.environ.items() if key not in hidden}
        self._environ.update(HOME=str(folder / "home"), XDG_RUNTIME_DIR=str(self._runtime))
        name = f"edge-test-{os.getpid()}-{next(_numbers)}"
        self._groups = [path / name for path in _hierarchies()]
        self._log = (folder / "systemd.log").open("w")
        self._process = subprocess.Popen(
            [*_ISOLATED, "sh", "-c", _START, str(SYSTEMD), *map(str, self._groups)],
            env=self._environ,
            stdout=self._log,
            stderr=self._log,
        )
        wait_for(lambda: (self._runtime / "systemd/private").exists(), "systemd")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`systemctl`, with its answer."""
        return subprocess.run(
            ["systemctl", "--user", *arguments],
            env=self._environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    def shows(self, unit: str, *properties: str) -> List[str]:
        """Properties of a unit."""
        lines = self.run("show", unit, f"--property={','.join(properties)}").stdout.splitlines()
        found: Dict[str, str] = dict(line.split("=", 1) for line in lines)
        return [found[name] for name in properties]

    def close(self) -> None:
        """Ends all units and the manager."""
        self.run("exit")
        try:
            self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()
            for group in self._groups:
                _remove(group)


def _remove(group: Path) -> None:
    """Takes away a control group that nobody is in any more, and those below."""
    for below in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
        below.rmdir()
    group.rmdir()
