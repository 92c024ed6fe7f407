"""The cameras that the kernel knows: USB cameras, capture cards, CSI sensors' raw nodes."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import grp
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from edge.capture import v4l2_abi as abi
from edge.capture.attempt import Attempt
from edge.capture.survey.finding import Finding
from edge.capture.v4l2_node import Ioctl, opened
from edge.errors import CaptureError

CSI_DRIVER = "tegra-video"

_TIMEOUT_S = 5.0
_NODE = re.compile(r"^video(\d+)$")
# A driver that repeats its last entry instead of saying "no more" must not be asked for ever.
_MOST_ENTRIES = 128
_INDEX_BYTES = 4


@dataclass(frozen=True)
class FrameSize:
    """A size in pixels with the rates it comes at, fastest first; none where it does not say."""

    size_wh: Tuple[int, int]
    fps: Tuple[float, ...] = ()


@dataclass(frozen=True)
class PixelFormat:
    """How pixels come, in which sizes; `is_range`: in every size between the two given."""

    fourcc: str
    description: str
    sizes: Tuple[FrameSize, ...]
    is_range: bool = False


@dataclass(frozen=True)
class V4l2Device:
    """A camera's node; `stable_name` stays with the camera, or its socket, when others come."""

    node: Path
    stable_name: Optional[Path] = None
    card: str = ""
    driver: str = ""
    bus: str = ""
    formats: Tuple[PixelFormat, ...] = ()
    trouble: Optional[Finding] = None

    @property
    def is_csi_sensor(self) -> bool:
        """Whether this is the raw end of a Jetson's CSI sensor, in Bayer pixels."""
        return self.driver == CSI_DRIVER


def find_devices(root: Path = Path("/")) -> List[V4l2Device]:
    """Every node that captures video, in order of its number; other nodes are left out."""
    names = stable_names(root)
    attempts = [
        (node, Attempt(f"survey-{node.name}", _inspection(node, root)))
        for node in video_nodes(root)
    ]
    found: List[V4l2Device] = []
    for node, attempt in attempts:
        device = _inspected(node, attempt)
        if device is not None:
            found.append(_with_name(device, names.get(node)))
    return found


def video_nodes(root: Path) -> List[Path]:
    """/dev/video0, /dev/video1 … as far as they are there."""
    folder = root / "dev"
    try:
        found = [path for path in folder.iterdir() if _NODE.match(path.name)]
    except OSError:
        return []
    return sorted(found, key=lambda path: int(path.name[len("video") :]))


def stable_names(root: Path) -> Dict[Path, Path]:
    """By node, the name that udev keeps: the camera's own, else that of its socket."""
    names: Dict[Path, Path] = {}
    for kind in ("by-id", "by-path"):
        with contextlib.suppress(OSError):
            for link in sorted((root / "dev/v4l" / kind).iterdir()):
                names.setdefault(Path(os.path.realpath(link)), link)
    return names


def inspect(node: Path, root: Path = Path("/")) -> Optional[V4l2Device]:
    """What a node is; None if it is no camera. It may hang in a broken driver."""
    try:
        with opened(node) as ioctl:
            return describe(node, ioctl, root)
    except OSError as error:
        if error.errno == errno.ENOTTY or _sysfs(node, root, "index") not in ("", "0"):
            # Not V4L2 at all; or the second node of a camera, which delivers metadata.
            return None
        card = _sysfs(node, root, "name")
        return V4l2Device(node, card=card, trouble=opening_trouble(node, error, root))


def describe(node: Path, ioctl: Ioctl, root: Path) -> Optional[V4l2Device]:
    """What an open node says of itself; None if it is no camera."""
    capability = read_capability(ioctl)
    if not capability.is_camera:
        return None
    trouble = in_use(node, root) if is_busy(ioctl, capability) else None
    return V4l2Device(
        node=node,
        card=capability.card,
        driver=capability.driver,
        bus=capability.bus,
        formats=tuple(read_formats(ioctl, capability)),
        trouble=trouble,
    )


def read_capability(ioctl: Ioctl) -> abi.Capability:
    """What the node is; OSError (ENOTTY) if it is no V4L2 device."""
    request = abi.capability_request()
    ioctl(abi.QUERYCAP, request)
    return abi.parse_capability(bytes(request))


def is_busy(ioctl: Ioctl, capability: abi.Capability) -> bool:
    """Whether another program streams from it."""
    try:
        ioctl(abi.REQBUFS, abi.free_buffers_request(capability.buffer_type))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def read_formats(ioctl: Ioctl, capability: abi.Capability) -> Iterator[PixelFormat]:
    """Every format with its sizes and rates."""
    kind = capability.buffer_type
    for answer in _entries(ioctl, abi.ENUM_FMT, lambda index: abi.format_request(index, kind)):
        entry = abi.parse_format(answer)
        sizes, is_range = _read_sizes(ioctl, entry.code)
        yield PixelFormat(entry.fourcc, entry.description, sizes, is_range)


def in_use(node: Path, root: Path = Path("/")) -> Finding:
    """Says who holds a device, as far as this user may know."""
    by = ", ".join(holders(node, root)) or "another program"
    return Finding(
        f"in use by {by}", "stop that program first (the daemon: sudo systemctl stop edge)"
    )


def holders(node: Path, root: Path = Path("/")) -> List[str]:
    """The programs that have the node open, without this one: name and process id."""
    found = []
    for process in sorted((root / "proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        if process.name != str(os.getpid()) and _has_open(process, node):
            with contextlib.suppress(OSError):
                name = (process / "comm").read_text(errors="replace").strip()
                found.append(f"{name} (process {process.name})")
    return found


def opening_trouble(node: Path, error: OSError, root: Path = Path("/")) -> Finding:
    """Why a node could not be opened."""
    if error.errno in (errno.EACCES, errno.EPERM):
        group = _group_of(node)
        return Finding(
            "no permission to open it",
            f"sudo usermod -aG {group} $USER, then log in again (docker run: --group-add {group})",
        )
    if error.errno == errno.EBUSY:
        return in_use(node, root)
    if error.errno in (errno.ENODEV, errno.ENXIO, errno.EIO):
        return Finding("the device does not answer", "unplug it and plug it in again; see `dmesg`")
    return Finding(f"cannot be opened: {error.strerror}")


def _inspection(node: Path, root: Path) -> Callable[[], List[Optional[V4l2Device]]]:
    return lambda: [inspect(node, root)]


def _inspected(node: Path, attempt: Attempt[List[Optional[V4l2Device]]]) -> Optional[V4l2Device]:
    try:
        result = attempt.result(_TIMEOUT_S)
    except CaptureError as error:
        return V4l2Device(node, trouble=Finding(str(error)))
    if result is None:
        hangs = Finding("its driver hangs", "unplug it and plug it in again, or restart; see dmesg")
        return V4l2Device(node, trouble=hangs)
    return result[0]


def _with_name(device: V4l2Device, name: Optional[Path]) -> V4l2Device:
    return dataclasses.replace(device, stable_name=name)


def _entries(ioctl: Ioctl, number: int, request_at: Callable[[int], bytearray]) -> Iterator[bytes]:
    before = b""
    for index in range(_MOST_ENTRIES):
        data = request_at(index)
        try:
            ioctl(number, data)
        except OSError:  # EINVAL: no more of them; ENOTTY: the driver does not tell
            return
        entry = bytes(data[_INDEX_BYTES:])
        if entry == before:
            return
        before = entry
        yield bytes(data)


def _read_sizes(ioctl: Ioctl, code: int) -> Tuple[Tuple[FrameSize, ...], bool]:
    sizes: List[FrameSize] = []
    requests = _entries(ioctl, abi.ENUM_FRAMESIZES, lambda index: abi.size_request(index, code))
    for answer in requests:
        entry = abi.parse_size(answer)
        if entry.is_range:
            both = (entry.smallest_wh, entry.largest_wh)
            return tuple(FrameSize(wh, _read_rates(ioctl, code, wh)) for wh in both), True
        sizes.append(FrameSize(entry.largest_wh, _read_rates(ioctl, code, entry.largest_wh)))
    return tuple(sizes), False


def _read_rates(ioctl: Ioctl, code: int, size_wh: Tuple[int, int]) -> Tuple[float, ...]:
    rates = set()
    requests = _entries(
        ioctl,
        abi.ENUM_FRAMEINTERVALS,
        lambda index: abi.interval_request(index, code, size_wh),
    )
    for answer in requests:
        entry = abi.parse_interval(answer)
        rates |= {entry.slowest_fps, entry.fastest_fps}
        if entry.is_range:
            break
    return tuple(round(fps, 3) for fps in sorted(rates, reverse=True) if fps > 0)


def _has_open(process: Path, node: Path) -> bool:
    with contextlib.suppress(OSError):  # another user's process, or one that just ended
        return any(os.readlink(link) == str(node) for link in (process / "fd").iterdir())
    return False


def _group_of(node: Path) -> str:
    try:
        return grp.getgrgid(node.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "video"


def _sysfs(node: Path, root: Path, name: str) -> str:
    try:
        return (root / "sys/class/video4linux" / node.name / name).read_text().strip()
    except OSError:
        return ""
