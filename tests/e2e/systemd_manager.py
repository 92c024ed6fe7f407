"""A real systemd, as a user's manager that nothing else on this machine sees."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List

from tests.mosquitto import PATIENCE_S, wait_for

SYSTEMD = Path("/usr/lib/systemd/systemd")

# It wants /run/systemd/system, the mark of a machine that it has started: in a mount namespace of
# its own, so that nobody else takes this for one.
_START = 'mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec "$0" --user'
_ISOLATED = ["unshare", "--mount", "--propagation", "private"]


def can_run() -> bool:
    """Whether this machine has a systemd and lets us make the namespace."""
    if not SYSTEMD.exists() or shutil.which("unshare") is None:
        return False
    script = ["sh", "-c", "mount -t tmpfs tmpfs /run && test -w /sys/fs/cgroup/systemd"]
    return subprocess.run([*_ISOLATED, *script], capture_output=True, check=False).returncode == 0


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
        self._log = (folder / "systemd.log").open("w")
        self._process = subprocess.Popen(
            [*_ISOLATED, "sh", "-c", _START, str(SYSTEMD)],
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
