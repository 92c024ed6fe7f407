"""The CSI sensors of a Jetson, as its device tree and its drivers tell."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional

from edge.capture.survey.finding import Finding

ARGUS_SOCKET = "tmp/argus_socket"

# The driver names a sensor's node "vi-output, imx219 9-0010": part, I2C bus and address.
_NODE_NAME = re.compile(r"^vi-output, (.+)$")
_MODULES = "proc/device-tree/tegra-camera-platform/modules"


@dataclass(frozen=True)
class CsiSensor:
    """A sensor; `sensor_id` is Argus' number, None where the driver did not find the sensor."""

    name: str
    sensor_id: Optional[int]
    node: Optional[Path]
    trouble: Optional[Finding] = None


def find_sensors(root: Path = Path("/")) -> List[CsiSensor]:
    """The sensors that were found, by number, then those that are only described."""
    nodes = _bound_nodes(root)
    described = _described(root)
    # Argus counts the modules in the device tree's order; a container sees no device tree.
    places = {name: place for place, name in enumerate(described)}
    bound = sorted(nodes, key=lambda name: places.get(name, len(places)))
    found = [
        CsiSensor(name, number, nodes[name], argus_trouble(root))
        for number, name in enumerate(bound)
    ]
    return found + [_unbound(name) for name in described if name not in nodes]


def argus_trouble(root: Path = Path("/")) -> Optional[Finding]:
    """Why no CSI sensor can be opened, if it is for lack of the Argus daemon."""
    if (root / ARGUS_SOCKET).exists():
        return None
    return Finding(
        f"/{ARGUS_SOCKET} is not there: the Argus daemon does not run, or is not reached",
        "sudo systemctl restart nvargus-daemon (docker run: -v /tmp/argus_socket:/tmp/argus_socket "
        "and again after each restart of that daemon)",
    )


def diagnose_csi(sensor_id: int, root: Path = Path("/")) -> Optional[Finding]:
    """Why a sensor does not deliver; None if nothing speaks against it."""
    sensors = find_sensors(root)
    there = {sensor.sensor_id: sensor for sensor in sensors if sensor.sensor_id is not None}
    if sensor_id in there:
        # A sensor that is there and silent is what a restart of Argus mends most often.
        restart = "sudo systemctl restart nvargus-daemon; stop other programs that use the camera"
        return there[sensor_id].trouble or Finding("", restart)
    if there:
        names = ", ".join(f"csi://{number} ({there[number].name})" for number in sorted(there))
        return Finding(f"there is no CSI sensor {sensor_id}", f"there are: {names}")
    trouble = [sensor.trouble for sensor in sensors if sensor.trouble is not None]
    return trouble[0] if trouble else _none_found()


def _none_found() -> Finding:
    return Finding(
        "no CSI sensor was found",
        "check the ribbon cable with the power off, and that the sensor is chosen in "
        "sudo /opt/nvidia/jetson-io/jetson-io.py",
    )


def _unbound(name: str) -> CsiSensor:
    part = name.split()[0]
    trouble = Finding(
        "the device tree names it, but the driver did not find it",
        f"check the ribbon cable with the power off, then `sudo dmesg | grep {part}`",
    )
    return CsiSensor(name, None, None, trouble)


def _bound_nodes(root: Path) -> Dict[str, Path]:
    nodes: Dict[str, Path] = {}
    for file in sorted((root / "sys/class/video4linux").glob("video*/name"), key=_number):
        match = _NODE_NAME.match(_text(file))
        if match:
            nodes[match.group(1)] = root / "dev" / file.parent.name
    return nodes


def _described(root: Path) -> List[str]:
    modules = sorted((root / _MODULES).glob("module*"), key=lambda path: (len(path.name), path))
    names = []
    for module in modules:
        for node in sorted(module.glob("drivernode*")):
            # Only a sensor has one that names part, bus and address; a lens has another driver.
            is_sensor = _text(node / "pcl_id") == "v4l2_sensor"
            if is_sensor and _text(module / "status") != "disabled" and _text(node / "devname"):
                names.append(_text(node / "devname"))
    return names


def _number(file: Path) -> int:
    digits = re.sub(r"\D", "", file.parent.name)
    return int(digits or 0)


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").strip("\0 \n")  # device tree: ends with a NUL
    return ""
