"""The configuration that a machine starts with: a technician goes on from there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterable, List, Sequence

from edge.cameras.suggestions import suggest, yaml_lines
from edge.capture.survey.csi_sensors import find_sensors
from edge.capture.survey.v4l2_devices import find_devices

_CONFIG = """\
# edge: what this appliance is, sees, and tells. After a change:
#   sudo edge check -c /etc/edge/config.yaml     says what is wrong, with its line
#   sudo systemctl reload {service}
# All keys and their defaults: sudo edge schema. Secrets belong into /etc/edge/edge.env, as
# NAME=value, and here as ${{NAME}}; they are read when the service starts.

device:
  # id: press-7              # in every topic; default: the module's serial number
  state_dir: /var/lib/edge   # engines, session counter, messages that wait for the broker

model:
  # The demo's detector of industrial parts, so that the first start shows something. Copy your own
  # YOLO detector, exported to ONNX, to /var/lib/edge/models, and name it here.
  path: /var/lib/edge/models/parts.onnx

# With 500 frames of your cameras the network can run in INT8:
#   sudo edge calibrate -c /etc/edge/config.yaml --collect
# fills the folder within a day.
# calibration:
#   folder: /var/lib/edge/calibration

batching:
  # target: 8                # a batch leaves at once at this size (edge bench --tune finds it)…
  max_wait_ms: 10            # …or when its first frame has waited this long

cameras:
{cameras}
# A network camera:
#   - name: infeed
#     uri: rtsp://viewer:${{INFEED_PASSWORD}}@10.0.0.21/stream1

postprocess:
  score_threshold: 0.25      # objects scored below are not told

mqtt:
  host: localhost            # your broker; until it answers, edge keeps trying
  # port: 8883
  # username: press-7
  # password: ${{MQTT_PASSWORD}}
  # tls: {{}}                  # trusts the system's authorities; ca_file: /etc/edge/ca.pem another

# health:
#   interval_s: 10
"""

_NO_CAMERA = """\
  # None was connected. This one is drawn by the program. Later,
  #   sudo edge cameras
  # lists what is connected, with the lines to copy.
  - name: test-picture
    uri: synthetic://1?size=1280x720
    fps: 10"""

_FOUND = "  # Found when edge was installed; sudo edge cameras shows more about them."

EDGE_ENV = """\
# Secrets for ${NAME} in config.yaml: NAME=value, one a line, without quotes.
# MQTT_PASSWORD=
"""

CONTAINER_ENV = """\
# What edge-container.service runs; systemctl restart edge-container after a change.
EDGE_IMAGE=edge:stable
# Further options of docker run:
# EDGE_DOCKER_OPTIONS=--device /dev/ttyUSB0
"""

POWER_ENV = """\
# Power mode for edge-power.service, by its number; nvpmodel -p --verbose lists them.
NVPMODEL=8
"""


def first_config(camera_lines: Sequence[str], service: str) -> str:
    """The file's text; without cameras it has one that is drawn. `service` is the unit."""
    cameras = "\n".join([_FOUND, *camera_lines]) if camera_lines else _NO_CAMERA
    return _CONFIG.format(cameras=cameras, service=service)


def connected_cameras(root: Path) -> List[str]:
    """Entries for the cameras of the machine whose files lie under `root`."""
    suggested = suggest(find_devices(root), find_sensors(root), [], root)
    return list(_without(root, yaml_lines(suggested)))


def _without(root: Path, lines: Iterable[str]) -> Iterable[str]:
    prefix = re.escape(str(root).rstrip("/"))
    return (re.sub(rf"^(    uri: '?){prefix}/", r"\1/", line) for line in lines)
