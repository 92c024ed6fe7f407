"""Which machine this is: module, serial number, L4T release."""

from __future__ import annotations

import platform
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from edge.health.sysfs import read_text

# /etc/nv_tegra_release starts with: # R35 (release), REVISION: 4.1, GCID: ...
_L4T = re.compile(r"^# R(\d+) \(release\), REVISION: ([\d.]+)")
_NOT_A_TOPIC_LEVEL = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Machine:
    """What is known of the machine; None where it says nothing."""

    name: str
    platform: str
    python: str
    module: Optional[str]
    serial: Optional[str]
    l4t: Optional[str]
    boot_id: Optional[str]

    @property
    def default_device_id(self) -> str:
        """A name that survives reinstallation: the module's serial, else the host name."""
        name = _NOT_A_TOPIC_LEVEL.sub("-", self.serial or self.name).strip("-")
        return name[:64] or "edge"


def read_machine(root: Path = Path("/")) -> Machine:
    """Reads the files a Jetson has; anything else simply lacks them."""
    # A container cannot mount /proc/device-tree: who starts it copies the model to /tmp, as
    # NVIDIA's scripts do, or both files to /run/edge-host, as edge's own does.
    tree, copied = root / "proc/device-tree", root / "run/edge-host"
    models = (tree / "model", copied / "model", root / "tmp/nv_jetson_model")
    module = next(filter(None, map(read_text, models)), None)
    release = _L4T.match(read_text(root / "etc/nv_tegra_release") or "")
    return Machine(
        name=socket.gethostname(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        module=module,
        serial=read_text(tree / "serial-number") or read_text(copied / "serial-number"),
        l4t=f"{release.group(1)}.{release.group(2)}" if release else None,
        boot_id=read_text(root / "proc/sys/kernel/random/boot_id"),
    )
