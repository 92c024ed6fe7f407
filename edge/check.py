"""`edge check`: says what the daemon would do with a configuration, and what is wrong with it."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from pathlib import Path
from typing import Iterator, Optional, Sequence, Tuple

from edge.building.graph import deploy
from edge.building.plan import BuildPlan
from edge.building.supply import HIT, EngineSupply, open_supply
from edge.capture import Picture, Source, open_in_turn, open_source
from edge.capture.attempt import Attempt
from edge.clock import SystemClock
from edge.config.camera_uri import MediaSpec
from edge.config.combinations import idle_keys
from edge.config.schema import CameraConfig, Config, Precision
from edge.engines import needs_priority_engine
from edge.errors import (
    BrokerRefuses,
    CaptureError,
    ConfigError,
    EdgeError,
    EngineOutOfMemory,
    PublishError,
)
from edge.health.host import free_memory_bytes
from edge.health.machine import read_machine
from edge.inference.batch_cap import affordable_rows, cap_of
from edge.line import render_scene
from edge.postprocess.postprocess import Postprocessor
from edge.publish.knock import knock
from edge.records import DeployedGraph, EngineInfo, EngineStatus
from edge.slots import effective_target

_BROKER_TIMEOUT_S = 5.0
# Above what FFmpeg takes to give a network camera up.
_CAMERA_TIMEOUT_S = 20.0
_NAMES_SHOWN = 12


class Checker:
    """Looks at everything a configuration names; `faults` counts what only the user can mend.

    A broker or a network camera that does not answer is no fault: the daemon waits for both.
    """

    def __init__(self, config: Config, base_dir: Path) -> None:
        self._config = config
        self._base_dir = base_dir
        self._model_wh: Optional[Tuple[int, int]] = None
        self.faults = 0

    def lines(self) -> Iterator[str]:
        """The findings, one line each, as they are made."""
        device = self._config.device
        name = device.id or read_machine().default_device_id
        yield self._state_dir(name, device.state_dir)
        yield from self._model()
        for camera in self._config.cameras:
            yield self._camera(camera)
        yield self._broker()
        yield f"{self.faults} to mend" if self.faults else "ok"

    def _state_dir(self, device: str, folder: Path) -> str:
        line = f"device   {device}, state in {folder}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return line
        except OSError as error:
            return self._fault(f"{line}: not writable: {error.strerror}")

    def _model(self) -> Iterator[str]:
        try:
            graph = deploy(self._config.model.path, self._config.model)
            Postprocessor(self._config.postprocess, graph.class_names)
            width, height = self._model_wh = graph.preprocessing.input_wh
            yield (
                f"model    {graph.name}: {graph.head} head, input {width}x{height}, "
                f"{len(graph.class_names)} classes ({_listed(graph.class_names)})"
            )
            yield from self._engine(graph)
        except EdgeError as error:
            yield self._fault(f"model    {error}")

    def _engine(self, graph: DeployedGraph) -> Iterator[str]:
        """What would serve at once; building takes minutes and is `edge build`'s."""
        plan = BuildPlan.of(self._config, read_machine().module)
        supply = open_supply(plan, graph, lambda status: None, SystemClock(), threading.Event())
        with contextlib.closing(supply):
            try:
                opened = supply.open_ready()
            except EngineOutOfMemory as error:
                yield f"engine   {error} (the daemon would go on with fewer frames at once)"
                return
            yield from _absent("engine   ", supply.status)
            if supply.status.message:
                yield f"warning  {supply.status.message}"
            if opened is None:
                return
            with contextlib.closing(opened[1]) as engine:
                info, in_flight = engine.info, engine.in_flight
            yield f"engine   {info.precision} on {info.backend} {info.version} ({info.device})"
            if needs_priority_engine(self._config, in_flight):
                yield from _priority_engine(supply, opened[0])
        yield from self._batches(graph, info, in_flight)

    def _batches(self, graph: DeployedGraph, engine: EngineInfo, in_flight: int) -> Iterator[str]:
        module, configured = read_machine().module, self._config.engine.max_batch
        affordable = affordable_rows(free_memory_bytes(), graph.row_bytes)
        cap, decided_by = cap_of(engine, configured, module, affordable)
        target = effective_target(self._config, graph, engine, in_flight, module)
        yield (
            f"batches  full at {target.frames} ({target.source.value}), "
            f"up to {cap} frames at once ({decided_by})"
        )
        yield from (f"warning  {idle}" for idle in idle_keys(self._config, target.frames))

    def _camera(self, camera: CameraConfig) -> str:
        title = f"camera   {camera.name}: {camera.uri}"
        if not camera.enabled:
            return f"{title}: disabled"
        try:
            source = open_source(camera, self._base_dir, render_scene, self._model_wh)
            # In a thread that can be left behind: a driver's call cannot be interrupted.
            look = Attempt(f"check-{camera.name}", lambda: [_first_picture(source)])
            found = look.result(_CAMERA_TIMEOUT_S)
        except ConfigError as error:
            return self._fault(f"{title}: {error}")
        except CaptureError as error:
            if isinstance(camera.uri.resolve(self._base_dir), MediaSpec):
                return self._fault(f"{title}: {error}")
            return f"{title}: {error} (the daemon will keep trying)"
        if found is None:
            seconds = f"{_CAMERA_TIMEOUT_S:.0f} s"
            return f"{title}: no picture within {seconds} (the daemon will keep trying)"
        (picture,) = found
        if picture is None:
            return self._fault(f"{title}: holds no picture")
        height, width = picture.image.shape[:2]
        return f"{title}: {width}x{height}"

    def _broker(self) -> str:
        mqtt = self._config.mqtt
        tls = " over TLS" if mqtt.tls else ""
        title = f"broker   {mqtt.broker}{tls}, topics {mqtt.prefix}/…"
        device = self._config.device.id or read_machine().default_device_id
        # Another client with the daemon's own id would throw it out.
        client_id = f"{mqtt.client_id_of(device)}-check"
        try:
            knock(mqtt, client_id, SystemClock(), _BROKER_TIMEOUT_S)
        except BrokerRefuses as error:
            return self._fault(f"{title}: {error}")
        except PublishError as error:
            return f"{title}: {error} (the daemon will keep trying)"
        who = "the connection" if mqtt.username is None else f"user {mqtt.username!r}"
        return f"{title}: accepts {who}"

    def _fault(self, line: str) -> str:
        self.faults += 1
        return f"! {line}"


def _first_picture(source: Source) -> Optional[Picture]:
    try:
        open_in_turn(source)
        return source.read()
    finally:
        source.close()


def _priority_engine(shared: EngineSupply, serving: Precision) -> Iterator[str]:
    shared.serves(serving)
    supply = shared.for_priority(lambda status: None)
    ready = supply.ready()
    yield from _absent("priority ", supply.status)
    if ready is not None:
        yield f"priority {ready.precision.value}, an engine for these frames alone"


def _absent(title: str, status: EngineStatus) -> Iterator[str]:
    for precision, finding in status.cache.items():
        if finding != HIT:
            yield f"{title}{precision.value} is not there: {finding}; see `edge build`"


def _listed(names: Sequence[str]) -> str:
    more = ", …" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
