"""The device nodes and sockets that the appliance opens, and whether this user may."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, List, Sequence, Tuple

from edge.doctor.finding import Finding, absent, fault, ok, warning

_CAMERAS = "video[0-9]*"
# Xavier and Orin open the first ones, Thor and graphics cards the others.
_GPU_NODES = (
    *("nvhost-ctrl-gpu", "nvhost-gpu", "nvmap"),
    # The others beside these are root's, for profilers.
    *("nvgpu/igpu0/ctrl", "nvgpu/igpu0/channel", "nvgpu/igpu0/as"),
    *("nvidia[0-9]*", "nvidiactl", "nvidia-uvm"),
)
_ARGUS = Path("tmp/argus_socket")


@dataclass(frozen=True)
class Node:
    """A device node or socket; `group` is its owner's name or number."""

    path: str
    group: str
    is_open: bool


@dataclass(frozen=True)
class Access:
    """What there is, and who asks."""

    user: str
    cameras: Sequence[Node] = ()
    gpu: Sequence[Node] = ()
    argus: Sequence[Node] = ()


def look_at_access(root: Path = Path("/")) -> Access:
    """Asks the kernel for each node; opens none."""
    return Access(
        _user_name(os.geteuid()),
        _nodes(root / "dev", (_CAMERAS,)),
        _nodes(root / "dev", _GPU_NODES),
        _nodes(root / _ARGUS.parent, (_ARGUS.name,)),
    )


def judge_access(
    access: Access, *, is_jetson: bool, needs_argus: bool, needs_camera: bool
) -> Iterator[Finding]:
    """`needs_argus`, `needs_camera`: the configuration names a CSI camera, or any of /dev."""
    yield _cameras(access, needs_camera)
    yield _gpu(access, is_jetson)
    yield _argus(access, is_jetson, needs_argus)


def _cameras(access: Access, is_needed: bool) -> Finding:
    if not access.cameras:
        words = "no /dev/video*: no USB camera, and none of CSI"
        if is_needed:
            return fault("video nodes", words, "plug it in; docker run: --device /dev/video0")
        return absent("video nodes", words)
    return _openable("video nodes", access.cameras, access.user)


def _gpu(access: Access, is_jetson: bool) -> Finding:
    if access.gpu:
        # Not every release needs all of them: whether CUDA works is told of the GPU itself.
        return _openable("GPU nodes", access.gpu, access.user, warning)
    if is_jetson:
        return fault("GPU nodes", "no GPU among /dev", "docker run: --runtime nvidia")
    return absent("GPU nodes", "no GPU among /dev")


def _argus(access: Access, is_jetson: bool, is_needed: bool) -> Finding:
    if not is_jetson:
        return absent("Argus", "only a Jetson has CSI sensors")
    if access.argus:
        return _openable("Argus", access.argus, access.user)
    words = f"/{_ARGUS} is not there: CSI cameras cannot be opened"
    fix = "sudo systemctl restart nvargus-daemon (docker run: -v /tmp:/tmp)"
    if is_needed:
        return fault("Argus", words, fix)
    return warning("Argus", words, fix)


def _openable(
    subject: str, nodes: Sequence[Node], user: str, grave: Callable[..., Finding] = fault
) -> Finding:
    closed = [node for node in nodes if not node.is_open]
    if not closed:
        return ok(subject, f"{user} may open {_listed(nodes)}")
    groups = ",".join(sorted({node.group for node in closed}))
    return grave(
        subject,
        f"{user} may not open {_listed(closed)}",
        f"sudo usermod -aG {groups} {user}, and log in again (docker run: --group-add {groups})",
    )


def _listed(nodes: Sequence[Node]) -> str:
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    return f"{nodes[0].path}{more}"


def _nodes(folder: Path, patterns: Tuple[str, ...]) -> List[Node]:
    found: List[Node] = []
    for path in (path for pattern in patterns for path in sorted(folder.glob(pattern))):
        with contextlib.suppress(OSError):  # unplugged meanwhile
            group = _group_name(path.stat().st_gid)
            found.append(Node(str(path), group, os.access(path, os.R_OK | os.W_OK)))
    return found


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
