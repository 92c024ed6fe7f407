"""The appliance as one device of Home Assistant, whose entities read the topics that are there."""

from __future__ import annotations

import json
import random
import re
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from edge.config.mqtt import HomeAssistantConfig
from edge.publish.announced import Announced
from edge.publish.counts import ALL, count_level
from edge.publish.payload import Appliance, ApplianceState
from edge.publish.retained import Message
from edge.publish.topics import Topics

Component = Dict[str, Any]

# A site's appliances must not all answer in the instant in which Home Assistant comes up.
RESEND_WITHIN_S = 10.0

# With more classes than these, only those that the configuration names become entities.
_FEW_CLASSES = 10

_NOT_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_TEMPERATURE = re.compile(r"^temp_(.+)_c$")

# Numbers of health: key, name, unit, device class.
_NUMBERS: Tuple[Tuple[str, str, str, Optional[str]], ...] = (
    ("infer_fps", "Frames inferred", "fps", None),
    ("latency_ms_p50", "Latency", "ms", "duration"),
    ("cameras_online", "Cameras online", "", None),
    ("frames_dropped_total", "Frames dropped", "", None),
    ("mqtt_dropped_total", "Messages lost", "", None),
    ("mqtt_spool_msgs", "Messages in the outbox", "", None),
    ("cpu_load_pct", "CPU load", "%", None),
    ("gpu_load_pct", "GPU load", "%", None),
    ("power_total_mw", "Power", "mW", "power"),
    ("ram_used_mb", "Memory used", "MiB", "data_size"),
    ("disk_free_mb", "Disk free", "MiB", "data_size"),
    ("uptime_s", "Uptime", "s", "duration"),
)
# They never fall while the daemon runs.
_TOTALS = "_total"
# What every machine has; the others become entities once they were seen.
_ALWAYS = frozenset(key for key, *_ in _NUMBERS) - {"gpu_load_pct", "power_total_mw"}


def discovery_topic(prefix: str, device: str) -> str:
    """Where a device is announced; Home Assistant takes no dots in it."""
    return f"{prefix}/device/{_NOT_AN_ID.sub('_', device)}/config"


class HomeAssistant:
    """Announces the appliance, again where that changes, and takes back what is over.

    `send` gets retained messages. Nothing is sent, and nothing remembered, where discovery is off
    and never was on.
    """

    def __init__(
        self,
        config: HomeAssistantConfig,
        topics: Topics,
        announced: Announced,
        send: Callable[[Message], object],
    ) -> None:
        self._is_on = config.discovery
        self.topic = discovery_topic(config.prefix, topics.device)
        self.status_topic = f"{config.prefix}/status"
        self._topics = topics
        self._announced = announced
        self._send = send
        self._appliance: Optional[Appliance] = None
        self._readings = _ALWAYS
        self._last: Optional[bytes] = None

    @property
    def is_on(self) -> bool:
        """Whether the user wants it."""
        return self._is_on

    def take_back(self) -> None:
        """Removes what earlier runs announced and this one does not."""
        for topic in self._announced.topics():
            if not self._is_on or topic != self.topic:
                self._send(Message(topic, b"", qos=1, retain=True))

    def introduce(self, appliance: Appliance) -> None:
        """Announces what there is."""
        self._appliance = appliance
        self._announce()

    def read(self, readings: Iterable[str]) -> None:
        """Announces what else the machine's sensors tell of."""
        keys = frozenset(readings)
        news = {key for key in keys if _TEMPERATURE.match(key)} | (keys & {k for k, *_ in _NUMBERS})
        if not news <= self._readings:
            self._readings |= news
            self._announce()

    def resend_delay_s(self, payload: bytes) -> Optional[float]:
        """After how long to announce again, once Home Assistant has said this of itself."""
        return random.uniform(0, RESEND_WITHIN_S) if self._is_on and payload == b"online" else None

    def _announce(self) -> None:
        if not self._is_on or self._appliance is None:
            return
        components = dict(self._components(self._appliance))
        platforms = {key: component["p"] for key, component in components.items()}
        before = self._announced.topics().get(self.topic, {})
        # A component with a platform and nothing more is removed.
        over = {key: {"p": platform} for key, platform in before.items() if key not in components}
        payload = json.dumps({**self._device(self._appliance), "cmps": {**over, **components}})
        if payload.encode() != self._last:
            self._last = payload.encode()
            self._announced.add(self.topic, platforms)
            self._send(Message(self.topic, self._last, qos=1, retain=True))

    def _device(self, appliance: Appliance) -> Component:
        host, device = appliance.host, self._topics.device
        return {
            "dev": {
                "ids": [device],
                "name": device,
                "mf": "NVIDIA" if host.module else "edge",
                "mdl": host.module or host.platform,
                "sw": host.app_version,
            },
            "o": {"name": "edge", "sw": host.app_version},
            "avty_t": self._topics.availability(),
            "qos": 1,
        }

    def _components(self, appliance: Appliance) -> Iterator[Tuple[str, Component]]:
        found = [("state", self._state()), ("engine", self._engine()), *self._health()]
        for camera in appliance.cameras:
            found += self._camera(camera, _classes(appliance))
        for key, component in found:
            yield key, {"unique_id": f"{self._topics.device}_{key}", **component}

    def _state(self) -> Component:
        return {
            "p": "sensor",
            "name": "State",
            "dev_cla": "enum",
            "ops": [state.value for state in ApplianceState],
            "stat_t": self._topics.state(),
            "val_tpl": "{{ value_json.state }}",
            "json_attr_t": self._topics.state(),
            "json_attr_tpl": "{{ {'reason': value_json.reason} | tojson }}",
        }

    def _engine(self) -> Component:
        return {
            "p": "sensor",
            "name": "Engine",
            "ent_cat": "diagnostic",
            "stat_t": self._topics.engine(),
            "val_tpl": "{{ value_json.serving | default('none') }}",
        }

    def _health(self) -> Iterator[Tuple[str, Component]]:
        for key, name, unit, kind in _NUMBERS:
            if key in self._readings:
                yield key, self._number(key, name, unit, kind)
        for key in sorted(self._readings):
            part = _TEMPERATURE.match(key)
            if part:
                name = f"Temperature {part.group(1)}"
                yield key, self._number(key, name, "°C", "temperature")

    def _number(self, key: str, name: str, unit: str, kind: Optional[str]) -> Component:
        component = {
            "p": "sensor",
            "name": name,
            "ent_cat": "diagnostic",
            "stat_t": self._topics.health(),
            # What is not known is absent from the message, and `none` is unknown there.
            "val_tpl": f"{{{{ value_json.{key} | default(none) }}}}",
            "stat_cla": "total_increasing" if key.endswith(_TOTALS) else "measurement",
        }
        optional = {"unit_of_meas": unit, "dev_cla": kind}
        return {**component, **{name: value for name, value in optional.items() if value}}

    def _camera(self, camera: str, classes: Mapping[str, str]) -> List[Tuple[str, Component]]:
        status = self._topics.camera_status(camera)
        link = {
            "p": "binary_sensor",
            "name": f"{camera} link",
            "dev_cla": "connectivity",
            "stat_t": status,
            "val_tpl": "{{ 'ON' if value_json.state == 'online' else 'OFF' }}",
            "json_attr_t": status,
            "json_attr_tpl": "{{ {'state': value_json.state, 'reason': value_json.reason} "
            "| tojson }}",
        }
        picture = {
            "p": "binary_sensor",
            "name": f"{camera} picture",
            "dev_cla": "problem",
            "stat_t": status,
            "val_tpl": "{{ 'ON' if value_json.picture | default('ok') in ('frozen', 'covered') "
            "else 'OFF' }}",
        }
        counts = [
            (f"{camera}__count__{level}", self._count(camera, level, name))
            for level, name in {ALL: "objects", **classes}.items()
        ]
        return [(f"{camera}__link", link), (f"{camera}__picture", picture), *counts]

    def _count(self, camera: str, level: str, name: str) -> Component:
        delivers = "{{ 'online' if value_json.state == 'online' else 'offline' }}"
        return {
            "p": "sensor",
            "name": f"{camera} {name}",
            "stat_t": self._topics.camera_count(camera, level),
            "stat_cla": "measurement",
            "avty": [
                {"t": self._topics.availability()},
                {"t": self._topics.camera_status(camera), "val_tpl": delivers},
            ],
            "avty_mode": "all",
        }


def _classes(appliance: Appliance) -> Dict[str, str]:
    """The classes that become entities: names by topic level."""
    names = list(appliance.expected)
    if not names and appliance.graph is not None:
        names = list(appliance.graph.class_names)
        names = names if len(names) <= _FEW_CLASSES else []
    return {count_level(name): name for name in names}
