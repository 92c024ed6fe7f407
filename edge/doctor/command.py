"""Looks at everything side by side, and says what it found in a fixed order."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from edge.clock import Clock, SystemClock
from edge.config.camera_uri import CsiSpec, GStreamerSpec, V4l2Spec
from edge.config.mqtt import MqttConfig
from edge.config.schema import Config
from edge.doctor import access, board, isolation, jtop, libraries, road, software, storage
from edge.doctor import timekeeping as time
from edge.doctor.finding import Finding, absent, exit_code
from edge.doctor.import_client import CUDA
from edge.doctor.look import Look
from edge.doctor.words import line, summary, total
from edge.health.board import Board, read_board
from edge.health.machine import read_machine
from edge.health.sensors import is_jetson

_WITHOUT = "name a configuration with --config to have it looked at"
# Names of backends by the libraries whose version their engines carry.
_BACKENDS = ("tensorrt", "onnxruntime")


class Doctor:
    """One look at the machine, and with a configuration at what that names; nothing is changed.

    All looks begin when it is made. The broker gets one message, which it does not keep.
    """

    def __init__(self, config: Optional[Config], base_dir: Path, root: Path = Path("/")) -> None:
        self._config = config
        self._root = root
        self._clock = SystemClock()
        self._board, self._is_jetson = Board(), False
        self._specs = [] if config is None else _specs(config, base_dir)
        self._findings: List[Finding] = []
        self._machine = Look("module", lambda: (read_board(root), is_jetson(root)), self._clock)
        self._libraries = Look("libraries", libraries.survey, self._clock)
        self._access = Look("access", lambda: access.look_at_access(root), self._clock)
        self._isolation = Look("isolation", lambda: isolation.look_at_isolation(root), self._clock)
        self._jtop = Look("jtop", lambda: jtop.ask_jtop(root, self._clock), self._clock)
        self._disk = Look("disk", lambda: storage.look_at_disk(self._state_dir()), self._clock)
        self._time = Look("clock", lambda: time.look_at_time(root), self._clock)
        self._configured = [] if config is None else self._begin(config)

    @property
    def exit_code(self) -> int:
        """1 if `lines` told of a fault, else 0."""
        return exit_code(self._findings)

    def lines(self) -> Iterator[str]:
        """The findings, one line each, then how many there are."""
        for finding in self._all():
            self._findings.append(finding)
            yield line(finding)
        yield total(self._findings)

    def summary(self) -> Dict[str, Any]:
        """What `lines` found, as JSON."""
        return summary(self._findings)

    def _all(self) -> Iterator[Finding]:
        self._board, self._is_jetson = self._machine.facts((Board(), False))
        yield from self._machine.findings(lambda found: board.judge_board(*found))
        setting = self._setting()
        yield from self._libraries.findings(lambda found: software.judge_software(found, setting))
        yield from self._access.findings(self._judge_access)
        yield from self._jtop.findings(lambda found: jtop.judge_jtop(found, self._is_jetson))
        yield from self._disk.findings(storage.judge_disk)
        yield from self._time.findings(time.judge_time)
        yield from self._isolation.findings(self._judge_isolation)
        yield from chain.from_iterable(self._configured)
        if self._config is None:
            for subject in ("broker", "calibration", "engines"):
                yield absent(subject, _WITHOUT)

    def _setting(self) -> software.Setting:
        config = self._config
        backend = None if config is None else config.engine.backend
        return software.Setting(
            self._is_jetson,
            sys.version_info[:2],
            board.l4t_release(self._board),
            backend=None if backend is None else backend.value,
            needs_gstreamer=any(isinstance(s, (CsiSpec, GStreamerSpec)) for s in self._specs),
        )

    def _judge_access(self, found: access.Access) -> Iterator[Finding]:
        return access.judge_access(
            found,
            is_jetson=self._is_jetson,
            needs_argus=any(isinstance(spec, CsiSpec) for spec in self._specs),
            needs_camera=any(isinstance(spec, V4l2Spec) for spec in self._specs),
        )

    def _judge_isolation(self, found: isolation.Isolation) -> Iterator[Finding]:
        cuda = self._libraries.facts({}).get(CUDA)
        module = self._board.module if self._is_jetson else None
        return isolation.judge_isolation(found, module, cuda.capability if cuda else None)

    def _begin(self, config: Config) -> List[Iterator[Finding]]:
        """Begins what only a configuration names."""
        return [
            self._begin_broker(config),
            self._begin_calibration(config),
            self._begin_engines(config),
        ]

    def _begin_broker(self, config: Config) -> Iterator[Finding]:
        mqtt = config.mqtt
        device = config.device.id or read_machine(self._root).default_device_id
        tree = f"{mqtt.prefix}/{device}/"
        # Another client with the daemon's own id would throw it out.
        client_id = f"{mqtt.client_id_of(device)}-doctor"
        topic = f"{tree}doctor"
        look = Look("broker", lambda: _walk(mqtt, client_id, topic, self._clock), self._clock)
        return look.findings(lambda found: road.judge_broker(found, mqtt, tree))

    def _begin_calibration(self, config: Config) -> Iterator[Finding]:
        folder = config.calibration.folder
        if folder is None:
            words = "calibration.folder is not set: nothing runs in INT8"
            return iter((absent("calibration", words),))
        look = Look("calibration", lambda: storage.look_at_calibration(folder), self._clock)
        return look.findings(lambda found: storage.judge_calibration(found, folder))

    def _begin_engines(self, config: Config) -> Iterator[Finding]:
        state_dir = config.device.state_dir
        look = Look("engines", lambda: storage.look_at_engines(state_dir), self._clock)
        return look.findings(lambda kept: storage.judge_engines(kept, self._versions()))

    def _versions(self) -> Tuple[str, ...]:
        found = self._libraries.facts({})
        return tuple(found[name].version for name in _BACKENDS if name in found)

    def _state_dir(self) -> Path:
        return Path.cwd() if self._config is None else self._config.device.state_dir


def _walk(config: MqttConfig, client_id: str, topic: str, clock: Clock) -> road.Road:
    # Here, for it needs a library that may be missing; then this look says so.
    from edge.doctor.broker import walk

    return walk(config, client_id, topic, clock)


def _specs(config: Config, base_dir: Path) -> List[object]:
    return [camera.uri.resolve(base_dir) for camera in config.cameras if camera.enabled]
