"""What to write into the configuration for cameras that are connected and not in it."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import AbstractSet, Iterator, List, Sequence, Set, Tuple

from edge.capture.survey.csi_sensors import CsiSensor
from edge.capture.survey.v4l2_devices import V4l2Device
from edge.config.camera_uri import CsiSpec, V4l2Spec
from edge.config.schema import CameraConfig

# YAML reads these as they are: no quote, no space, no mark with a meaning.
_PLAIN = re.compile(r"^[A-Za-z/][A-Za-z0-9_/.:-]*[A-Za-z0-9_/]$")
_TRUTH = frozenset({"y", "yes", "n", "no", "true", "false", "on", "off", "null"})
_LONGEST_NAME = 32


def suggest(
    devices: Sequence[V4l2Device],
    sensors: Sequence[CsiSensor],
    configured: Sequence[CameraConfig],
    base_dir: Path,
) -> List[CameraConfig]:
    """A camera for each that is connected and not configured, by a name that lasts."""
    nodes, numbers = _known(configured, base_dir)
    names = {camera.name for camera in configured}
    found = [
        (sensor.name.split()[0], f"csi://{sensor.sensor_id}")
        for sensor in sensors
        if sensor.sensor_id is not None and sensor.sensor_id not in numbers
    ]
    # Cards often repeat themselves: "HD Webcam: HD Webcam".
    found += [
        (device.card.split(":")[0] or device.node.name, str(device.stable_name or device.node))
        for device in devices
        if not device.is_csi_sensor and device.node not in nodes
    ]
    return [
        CameraConfig.model_validate({"name": _name(title, names), "uri": uri})
        for title, uri in found
    ]


def yaml_lines(cameras: Sequence[CameraConfig]) -> Iterator[str]:
    """Entries of the list `cameras`, ready to be copied."""
    for camera in cameras:
        yield f"  - name: {_scalar(camera.name)}"
        yield f"    uri: {_scalar(str(camera.uri))}"


def _known(
    configured: Sequence[CameraConfig], base_dir: Path
) -> Tuple[AbstractSet[Path], AbstractSet[int]]:
    specs = [camera.uri.resolve(base_dir) for camera in configured]
    nodes = {Path(os.path.realpath(spec.device)) for spec in specs if isinstance(spec, V4l2Spec)}
    return nodes, {spec.sensor for spec in specs if isinstance(spec, CsiSpec)}


def _name(title: str, taken: Set[str]) -> str:
    """Lower case, made of what a name may have, and not yet taken; it is taken now."""
    stem = re.sub(r"[^a-z0-9]+", "-", title.lower())[:_LONGEST_NAME].strip("-") or "camera"
    numbered = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    name = next(name for name in numbered if name not in taken)
    taken.add(name)
    return name


def _scalar(text: str) -> str:
    if _PLAIN.match(text) and text not in _TRUTH:
        return text
    return "'{}'".format(text.replace("'", "''"))
