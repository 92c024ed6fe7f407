"""Networks opened on the GPU by the product's own configuration, for measurements."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.streams import MeasurableEngine, Streams
from edge.atomic_file import replace_bytes
from edge.building.calibration import letterboxed, read_calibration
from edge.building.fingerprint import GraphKey
from edge.building.graph import deploy
from edge.building.plan import BuildPlan
from edge.building.toolchain import CalibrationFeed, Toolchain
from edge.config.load import load
from edge.config.schema import Backend, Config, PostprocessConfig, Precision
from edge.errors import ConfigError
from edge.geometry import Image, Letterbox
from edge.health.machine import read_machine
from edge.inference.device import DeviceEngine
from edge.postprocess.postprocess import detect
from edge.records import BuildProgress, DeployedGraph

CALIBRATION = Path(__file__).resolve().parent.parent / "calibration"
_CALIBRATION_IMAGES = 128
_CALIBRATION_BATCH = 8


@dataclass(frozen=True)
class Network:
    """A network's name and file, and the precision to run it in.

    `half` is its file in half precision, for runtimes that compute in what the file says.
    """

    name: str
    path: Path
    precision: Precision
    half: Optional[Path] = None


class Opened:
    """A network's engine on the GPU, warm, with frames to run on it."""

    def __init__(
        self, name: str, graph: DeployedGraph, engine: MeasurableEngine, streams: Streams
    ) -> None:
        self.name = name
        self.streams = streams
        self._engine = engine
        size_wh = graph.preprocessing.input_wh
        self._letterbox = Letterbox.fit(size_wh, size_wh)
        self._config = PostprocessConfig()

    @property
    def words(self) -> str:
        """What runs."""
        info = self._engine.info
        return f"{self.name}: {info.backend} {info.version} on {info.device}"

    def infer(self, frames: Image) -> NDArray[np.float32]:
        """Detections [n, K, 6] of frames."""
        return self._engine.infer(frames)

    def collect(self, detections: NDArray[np.float32]) -> None:
        """Makes objects of a batch's detections, as the daemon does."""
        for rows in detections:
            detect(rows, self._letterbox, self._config)


class Opener:
    """Opens networks for one backend; what takes long to make is kept in `folder`."""

    def __init__(self, backend: Backend, folder: Path, largest: int) -> None:
        self._backend = backend
        self._folder = folder
        self._largest = largest

    @contextlib.contextmanager
    def open(self, network: Network) -> Iterator[Opened]:
        """A network's engine; raises EdgeError where it cannot be had on a GPU."""
        with contextlib.ExitStack() as made:
            graph, toolchain, precision = self._toolchain(network)
            made.callback(toolchain.close)
            data = self._data(network, graph, toolchain, precision)
            engine = toolchain.load(data, precision)
            made.callback(engine.close)
            if not isinstance(engine, DeviceEngine):
                raise ConfigError("engine.device: this benchmark is for engines on a GPU")
            streams = Streams(engine, toolchain.allocate, self._largest)
            yield Opened(network.name, graph, engine, streams)

    def _toolchain(self, network: Network) -> Tuple[DeployedGraph, Toolchain, Precision]:
        """What makes the engine, and the precision to ask it for."""
        graph, toolchain = self._open_toolchain(network.path)
        if network.precision is not Precision.FP16 or toolchain.first is Precision.FP16:
            return graph, toolchain, network.precision
        if network.half is not None:
            toolchain.close()
            graph, toolchain = self._open_toolchain(network.half)
        return graph, toolchain, toolchain.first

    def _open_toolchain(self, model: Path) -> Tuple[DeployedGraph, Toolchain]:
        config = self._config(model)
        graph = deploy(config.model.path, config.model)
        return graph, BuildPlan.of(config, read_machine().module).toolchain(graph)

    def _config(self, model: Path) -> Config:
        on_gpu = {"device": "cuda"} if self._backend is Backend.ONNXRUNTIME else {}
        document = {
            "device": {"state_dir": str(self._folder)},
            "model": {"path": str(model)},
            "engine": {"backend": self._backend.value, "max_batch": self._largest, **on_gpu},
            "cameras": [{"name": "none", "uri": "synthetic://1"}],
        }
        path = self._folder / "config.yaml"
        path.write_text(json.dumps(document))
        return load(path, {})

    def _data(
        self, network: Network, graph: DeployedGraph, toolchain: Toolchain, precision: Precision
    ) -> bytes:
        """An engine that is ready, was kept, or is built now."""
        ready = toolchain.ready(precision)
        if ready is not None:
            return ready
        of = f"{GraphKey.of(graph)!r} {toolchain.key!r} {precision.value}"
        key = hashlib.sha256(of.encode()).hexdigest()
        path = self._folder / f"{network.name}-{key[:16]}.engine"
        if path.exists():
            return path.read_bytes()
        if precision is Precision.INT8:
            feed = _feed(graph, toolchain, key)
            data = toolchain.build_int8(feed, _silent, head_in_float=False)
        else:
            data = toolchain.build(precision, _silent)
        replace_bytes(path, data)
        return data


def _feed(graph: DeployedGraph, toolchain: Toolchain, key: str) -> CalibrationFeed:
    chosen = read_calibration(CALIBRATION).images[:_CALIBRATION_IMAGES]
    return CalibrationFeed(
        lambda: letterboxed(chosen, graph.preprocessing, _CALIBRATION_BATCH),
        -(-len(chosen) // _CALIBRATION_BATCH),
        toolchain.method,
        key,
    )


def _silent(progress: BuildProgress) -> None:
    """Nobody waits for it."""
