"""TensorRT's engines and what is kept beside them, in a world whose names are the real ones."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from edge.building import tensorrt_builder, tensorrt_toolchain
from edge.building.tensorrt_toolchain import TIMING_CACHE, TensorRtToolchain
from edge.building.toolchain import CalibrationFeed
from edge.config.schema import Backend, EngineConfig, Precision
from edge.errors import BuildError
from edge.records import BuildProgress, DeployedGraph
from tests.building.tensorrt_rig import deployed, feed_of
from tests.building.tensorrt_world import TIMINGS, BuilderWorld
from tests.inference.host_cuda import HostCuda
from tests.inference.tensorrt_api.double import CALIBRATED, STRONGLY_TYPED, tensorrt_double


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> DeployedGraph:
    return deployed(tmp_path_factory.mktemp("models"))


@contextmanager
def toolchain_of(
    graph: DeployedGraph, folder: Path, version: str = "8.5.2.2"
) -> Iterator[Tuple[TensorRtToolchain, BuilderWorld]]:
    host = HostCuda()
    world = BuilderWorld(host)
    world.trt = tensorrt_double(version, world)
    with pytest.MonkeyPatch.context() as patch, host.context() as context:
        for module in (tensorrt_builder, tensorrt_toolchain):
            patch.setattr(module, "import_tensorrt", lambda: world.trt)
        patch.setattr(tensorrt_toolchain, "Context", lambda: context)
        config = EngineConfig(backend=Backend.TENSORRT, workspace_mb=64)
        yield TensorRtToolchain(graph, config, 8, folder), world


def feed(key: str) -> CalibrationFeed:
    return dataclasses.replace(feed_of(count=3, batch=2), key=key * 64)


def build(made: TensorRtToolchain, key: str) -> List[BuildProgress]:
    told: List[BuildProgress] = []
    made.build_int8(feed(key), told.append, head_in_float=False)
    return told


def names(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_same_images_are_calibrated_from_once(graph: DeployedGraph, tmp_path: Path) -> None:
    with toolchain_of(graph, tmp_path) as (made, world):
        build(made, "a")
        assert len(world.builds) == 2  # the core to calibrate, and the engine
    assert (tmp_path / TIMING_CACHE).read_bytes() == TIMINGS
    with toolchain_of(graph, tmp_path) as (made, world):
        build(made, "a")
        assert len(world.builds) == 1
        build(made, "b")
        assert len(world.builds) == 3


def test_only_the_last_scales_are_kept(graph: DeployedGraph, tmp_path: Path) -> None:
    left = ["tensorrt-0123.scales.77.tmp", f"{TIMING_CACHE}.78.tmp"]
    foreign = ["tensorrt-int8.json", "tensorrt-int8-0123.engine"]
    for name in left + foreign:
        (tmp_path / name).write_bytes(b"x")
    with toolchain_of(graph, tmp_path) as (made, _):
        build(made, "a")
        build(made, "b")
    assert names(tmp_path) == sorted([*foreign, TIMING_CACHE, f"tensorrt-{'b' * 16}.scales"])


def test_scales_that_are_refused_are_not_tried_again(graph: DeployedGraph, tmp_path: Path) -> None:
    (tmp_path / f"tensorrt-{'a' * 16}.scales").write_bytes(b"TRT-1\nimages: 3c\n")
    with toolchain_of(graph, tmp_path) as (made, world):
        world.takes_cache = False
        with pytest.raises(BuildError, match="does not take the core's scales"):
            build(made, "a")
        world.takes_cache = True
        build(made, "a")


@pytest.mark.parametrize("version", [*CALIBRATED, *STRONGLY_TYPED])
def test_what_serves_first(graph: DeployedGraph, tmp_path: Path, version: str) -> None:
    with toolchain_of(graph, tmp_path, version) as (made, _):
        expected = Precision.FP32 if version in STRONGLY_TYPED else Precision.FP16
        assert (made.first, made.exact) == (expected, Precision.FP32)
        assert made.ready(made.first) is None
        assert made.build(made.first, lambda progress: None)
        assert made.key.version == version
        assert (made.key.opt_batch, made.key.max_batch) == (8, 8)
