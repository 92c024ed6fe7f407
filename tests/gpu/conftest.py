"""A GPU with TensorRT, or a reason to skip."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest

from edge.building.graph import deploy
from edge.config.schema import ModelConfig
from edge.errors import ConfigError, CudaError
from edge.geometry import Image
from edge.inference.cuda import Context
from edge.inference.tensorrt import import_tensorrt
from tests.building.tiny_detectors import TinyDetector
from tests.gpu.workbench import Workbench, clip_frames, demo_graph, pictures, say


@pytest.fixture(scope="session")
def context() -> Iterator[Context]:
    try:
        context = Context()
    except (ConfigError, CudaError) as error:
        pytest.skip(f"no CUDA: {error}")
    major, minor = context.compute_capability
    say(f"{context.device_name}, compute capability {major}.{minor}")
    yield context
    context.close()


@pytest.fixture(scope="session")
def bench(context: Context, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """The demo model's; plans stay in the folder EDGE_GPU_CACHE, so that a second run is quick."""
    try:
        trt = import_tensorrt()
    except ConfigError as error:
        pytest.skip(f"no TensorRT: {error}")
    kept = os.environ.get("EDGE_GPU_CACHE")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("plans")
    folder = folder / f"tensorrt-{trt.__version__}"
    folder.mkdir(parents=True, exist_ok=True)
    say(f"TensorRT {trt.__version__}, plans in {folder}")
    return Workbench(demo_graph(), context, folder)


@pytest.fixture(scope="session")
def small(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A network of a few convolutions, for what has to be built again and again."""
    path = TinyDetector().save(tmp_path_factory.mktemp("small"))
    graph = deploy(path, ModelConfig(path=path, class_names=["a", "b", "c"]))
    return Workbench(graph, bench.context, bench.folder)


@pytest.fixture(scope="session")
def noise(small: Workbench) -> Image:
    """Frames for the small network."""
    width, height = small.graph.preprocessing.input_wh
    return np.random.default_rng(5).integers(0, 256, (96, height, width, 3), np.uint8)


@pytest.fixture(scope="session")
def frames(bench: Workbench) -> Image:
    """What engines are compared on."""
    return pictures(bench.graph)


@pytest.fixture(scope="session")
def calibration_frames(bench: Workbench) -> Image:
    """What INT8 is calibrated from: other pictures than it is judged by."""
    clips = [clip_frames(bench.graph, f"{name}.mp4", 3, 48) for name in ("table", "belt")]
    return np.concatenate(clips)
