"""A TensorRT builder in a world of its own."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List, Optional

import numpy as np
import pytest

from edge.building import tensorrt_builder
from edge.building.graph import deploy
from edge.building.tensorrt_builder import BuildCaches, TensorRtBuilder
from edge.building.tensorrt_config import BuildOptions
from edge.building.toolchain import CalibrationFeed
from edge.config.schema import (
    CalibrationMethod,
    ModelConfig,
)
from edge.records import BuildProgress, DeployedGraph
from tests.building.tensorrt_world import BuilderWorld
from tests.building.tiny_detectors import TinyDetector
from tests.inference.host_cuda import HostCuda
from tests.inference.tensorrt_api.double import (
    tensorrt_double,
)

WIDTH, HEIGHT = 64, 48
OPTIONS = BuildOptions(max_batch=8, opt_batch=4, workspace_bytes=1 << 28)


def deployed(folder: Path, **changes: Any) -> DeployedGraph:
    """A small detector's graph."""
    path = TinyDetector(input_wh=(WIDTH, HEIGHT), **changes).save(folder)
    return deploy(path, ModelConfig(path=path, class_names=["a", "b", "c"]))


class Rig:
    """A builder in its world, and what it told of its progress."""

    def __init__(self, builder: TensorRtBuilder, world: BuilderWorld) -> None:
        self.builder = builder
        self.world = world
        self.progress: List[BuildProgress] = []


@contextmanager
def rig_of(
    graph: DeployedGraph,
    version: str = "8.5.2.2",
    options: BuildOptions = OPTIONS,
    host: Optional[HostCuda] = None,
    caches: Optional[BuildCaches] = None,
) -> Iterator[Rig]:
    host = host or HostCuda()
    world = BuilderWorld(host)
    world.trt = tensorrt_double(version, world)
    progress: List[BuildProgress] = []
    with pytest.MonkeyPatch.context() as patch, host.context() as context:
        patch.setattr(tensorrt_builder, "import_tensorrt", lambda: world.trt)
        builder = TensorRtBuilder(graph, options, context, progress.append, caches)
        rig = Rig(builder, world)
        rig.progress = progress
        yield rig


def feed_of(
    count: int = 3, batch: int = 2, method: CalibrationMethod = CalibrationMethod.ENTROPY
) -> CalibrationFeed:
    return CalibrationFeed(lambda: iter(frames_of(count, batch)), count, method)


def frames_of(count: int, batch: int) -> List[Any]:
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (batch, HEIGHT, WIDTH, 3), np.uint8) for _ in range(count)]
