"""A program in Docker's place, and the launcher that starts it."""

from __future__ import annotations

import sys
from pathlib import Path

LAUNCH = """
import sys
from pathlib import Path
from edge.installing.launch_container import Launcher
sys.exit(Launcher(Path(sys.argv[1]), sys.argv[2]).run(["docker", "run", "edge"]))
"""

# `docker run` speaks as the daemon does and waits to be stopped; `docker stop` does that.
DOCKER = """#!{python}
import os, pathlib, signal, socket, sys, time
folder = pathlib.Path({folder!r})
if sys.argv[1] == "stop":
    if not (folder / "pid").exists():
        sys.exit(1)
    os.kill(int((folder / "pid").read_text()), signal.SIGUSR1)
    sys.exit(0)
def leave(*_):
    sys.exit(int((folder / "code").read_text()))
signal.signal(signal.SIGUSR1, leave)
if (folder / "is_pulling").exists():
    time.sleep(60)
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.connect(str(folder / "notify"))
out.send(b"READY=1\\nMAINPID=1")
(folder / "pid.new").write_text(str(os.getpid()))
(folder / "pid.new").rename(folder / "pid")
if (folder / "is_short").exists():
    leave()
out.send(b"STATUS=from the container")
for _ in range(120):
    if (folder / "is_lively").exists():
        out.send(b"WATCHDOG=1")
    time.sleep(0.5)
"""


def install_docker(folder: Path) -> None:
    """Puts it into `folder`/bin; the files beside that say how it behaves."""
    program = folder / "bin/docker"
    program.parent.mkdir()
    program.write_text(DOCKER.format(python=sys.executable, folder=str(folder)))
    program.chmod(0o755)
