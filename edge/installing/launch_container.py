"""Runs the appliance's container for systemd, and hands on what the daemon in it says.

systemd takes notifications only from the control group of the unit, and a container has its own.
So this process is the unit's: it listens in the daemon's place for NOTIFY_SOCKET, and passes on.

Installed on hosts that have nothing but Docker and Python 3.8: it imports the standard library.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import shlex
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

NAME = "edge"
DEFAULT_IMAGE = "edge:stable"
RUNTIME_DIR = Path("/run/edge-container")

_EXIT_SOFTWARE = 70
_EXIT_CONFIG = 78
_STOP_S = 20
_POLL_S = 0.5
_LONGEST_MESSAGE = 4096

# What the daemon says of itself; of other processes and descriptors it may say nothing.
_HANDED_ON = frozenset(
    {
        *("READY", "RELOADING", "STOPPING", "MONOTONIC_USEC", "STATUS", "WATCHDOG"),
        "EXTEND_TIMEOUT_USEC",
    }
)

# The owners of device nodes and sockets that the daemon opens.
_GROUPS = ("video", "render", "jtop")

# Mounted where the host has them.
_HOST_FILES = (
    *("/etc/nv_tegra_release", "/etc/enctune.conf", "/run/jtop.sock"),
    *("/dev/v4l", "/etc/localtime"),
)

# video4linux, for cameras that come back under another number.
_V4L2_RULE = "c 81:* rmw"
_L4T_MAJOR = re.compile(r"^# R(\d+) ")
# From here on the GPU's nodes are listed by the Container Device Interface.
_FIRST_CDI_L4T = 38


class HostLacks(Exception):
    """Something must be installed first."""


@dataclass(frozen=True)
class Host:
    """What the container's options depend on; `paths` are those of the optional files there are."""

    uid: int
    gid: int
    group_ids: Tuple[int, ...]
    video_nodes: Tuple[str, ...]
    paths: Tuple[str, ...]
    has_secrets: bool
    l4t_major: Optional[int]


def look_around(root: Path = Path("/")) -> Host:
    """Asks the host; HostLacks without the user edge."""
    try:
        user = pwd.getpwnam(NAME)
    except KeyError as error:
        raise HostLacks("there is no user edge: run systemd-sysusers") from error
    group_ids = []
    for name in _GROUPS:
        with contextlib.suppress(KeyError):
            group_ids.append(grp.getgrnam(name).gr_gid)
    nodes = sorted(str(node.relative_to(root)) for node in (root / "dev").glob("video[0-9]*"))
    return Host(
        user.pw_uid,
        user.pw_gid,
        tuple(group_ids),
        tuple(f"/{node}" for node in nodes),
        tuple(path for path in _HOST_FILES if (root / path[1:]).exists()),
        (root / "etc/edge/edge.env").exists(),
        _l4t_major(root / "etc/nv_tegra_release"),
    )


def run_command(host: Host, environ: Mapping[str, str], arguments: Sequence[str] = ()) -> List[str]:
    """The command that runs the container in the foreground: the daemon, or `edge ARGUMENTS`.

    EDGE_IMAGE names the image, EDGE_DOCKER_OPTIONS adds what a site needs.
    """
    options = [
        *(("--interactive",) if arguments else ("--name", NAME)),
        *("--rm", "--init", "--log-driver", "none"),
        *("--runtime", "nvidia", "--network", "host"),
        *("--user", f"{host.uid}:{host.gid}"),
        *_each("--group-add", map(str, host.group_ids)),
        *("--read-only", "--tmpfs", f"/run/edge:mode=0750,uid={host.uid},gid={host.gid}"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--cgroup-parent", "edge.slice", "--pids-limit", "1024", "--oom-score-adj", "-200"),
        *_each("--device", host.video_nodes),
        *("--device-cgroup-rule", _V4L2_RULE),
        *_each("--volume", _volumes(host)),
        *_each("--env", _variables(host)),
        *(() if arguments else _each("--env", _supervision(environ))),
    ]
    if host.has_secrets:
        options += ["--env-file", "/etc/edge/edge.env"]
    options += shlex.split(environ.get("EDGE_DOCKER_OPTIONS", ""))
    image = environ.get("EDGE_IMAGE", "") or DEFAULT_IMAGE
    return ["docker", "run", *options, image, *arguments]


def handed_on(message: str) -> str:
    """What systemd gets of a notification; empty if nothing."""
    lines = [line for line in message.splitlines() if line.split("=")[0] in _HANDED_ON]
    return "\n".join(lines)


class Launcher:
    """One run of the container; `run` returns its exit code."""

    def __init__(self, runtime_dir: Path, notify_socket: Optional[str]) -> None:
        self._socket_path = runtime_dir / "notify"
        self._address = notify_socket
        self._is_stopping = False
        self._stop: Optional[subprocess.Popen[bytes]] = None

    def run(self, command: Sequence[str]) -> int:
        """Runs the container until it ends, stopped in order where SIGTERM or SIGINT comes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        with self._listening() as ear:
            container = subprocess.Popen(command)
            while container.poll() is None:
                self._hand_on(ear)
                if self._is_stopping:
                    self._stop_container(container)
            code = container.returncode
        return code if code >= 0 else 128 - code  # by a signal: as a shell says it

    def _on_signal(self, number: int, frame: Optional[FrameType]) -> None:
        self._is_stopping = True

    @contextlib.contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        with contextlib.suppress(FileNotFoundError):
            self._socket_path.unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as ear:
            ear.bind(str(self._socket_path))
            self._socket_path.chmod(0o666)  # the daemon is another user
            ear.settimeout(_POLL_S)
            yield ear

    def _hand_on(self, ear: socket.socket) -> None:
        try:
            message = handed_on(ear.recv(_LONGEST_MESSAGE).decode(errors="replace"))
        except socket.timeout:  # on Python 3.8 it is no TimeoutError
            return
        if message and self._address:
            address = self._address
            name = "\0" + address[1:] if address.startswith("@") else address
            out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            with out, contextlib.suppress(OSError):  # systemd is being replaced, say
                out.sendto(message.encode(), name)

    def _stop_container(self, container: subprocess.Popen[bytes]) -> None:
        if self._stop is None:
            self._stop = subprocess.Popen(["docker", "stop", "--time", str(_STOP_S), NAME])
        elif self._stop.poll():
            container.terminate()  # there is none yet: the image is being fetched, say


def describe_module(root: Path, runtime_dir: Path) -> None:
    """Copies what tells the module and its number: Docker hides them from containers."""
    for name in ("model", "serial-number"):
        with contextlib.suppress(OSError):
            data = (root / "proc/device-tree" / name).read_bytes()
            (runtime_dir / name).write_bytes(data)


def main(environ: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Runs the daemon's container until it ends, or `edge ARGUMENTS` in one of its own.

    Returns the exit code; 78 where the host lacks something.
    """
    try:
        command = run_command(look_around(), environ, arguments)
        RUNTIME_DIR.mkdir(exist_ok=True)
        describe_module(Path("/"), RUNTIME_DIR)
        if arguments:
            return subprocess.run(command, check=False).returncode
        return Launcher(RUNTIME_DIR, environ.get("NOTIFY_SOCKET")).run(command)
    except HostLacks as error:
        sys.stderr.write(f"edge container: {error}\n")
        return _EXIT_CONFIG
    except OSError as error:
        sys.stderr.write(f"edge container: cannot run docker: {error}\n")
        return _EXIT_SOFTWARE


def _volumes(host: Host) -> Iterator[str]:
    yield "/etc/edge:/etc/edge:ro"
    yield "/var/lib/edge:/var/lib/edge"
    yield f"{RUNTIME_DIR}:/run/edge-host:ro"
    # All of it: Argus makes its socket anew when it is restarted.
    yield "/tmp:/tmp"
    for path in host.paths:
        yield f"{path}:{path}:ro"


def _supervision(environ: Mapping[str, str]) -> Iterator[str]:
    yield "NOTIFY_SOCKET=/run/edge-host/notify"
    if environ.get("WATCHDOG_USEC"):
        yield f"WATCHDOG_USEC={environ['WATCHDOG_USEC']}"


def _variables(host: Host) -> Iterator[str]:
    if host.l4t_major is not None and host.l4t_major >= _FIRST_CDI_L4T:
        yield "NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=all"


def _each(option: str, values: Iterable[str]) -> Iterator[str]:
    for value in values:
        yield option
        yield value


def _l4t_major(release: Path) -> Optional[int]:
    with contextlib.suppress(OSError):
        found = _L4T_MAJOR.match(release.read_text("utf-8"))
        return int(found.group(1)) if found else None
    return None


if __name__ == "__main__":
    # Nothing of the environment is known to be ours but what `main` reads.
    sys.exit(main(os.environ, sys.argv[1:]))
