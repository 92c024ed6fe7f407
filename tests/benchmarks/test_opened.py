"""That networks are opened in the precision that was asked for, and that what was built is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Optional, Tuple

import numpy as np
import pytest

from benchmarks import opened
from benchmarks.network import write_detector
from benchmarks.opened import Network, Opener
from edge.building.fingerprint import BackendKey
from edge.building.plan import BuildPlan
from edge.building.toolchain import CalibrationFeed
from edge.config.schema import Backend, CalibrationMethod, Device, Precision
from edge.errors import ConfigError
from edge.geometry import Image
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.records import DeployedGraph
from tests.benchmarks.test_streams import INPUT_WH, PretendGpu, allocate

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8


class PretendToolchain:
    """Builds what TensorRT would."""

    method = CalibrationMethod.ENTROPY
    key = BackendKey(name="tensorrt", version="8.5", device="GPU")

    def __init__(self, first: Precision, has_ready: bool) -> None:
        self.first = first
        self.has_ready = has_ready
        self.graphs: List[str] = []
        self.built: List[Precision] = []
        self.loaded: List[Tuple[bytes, Precision]] = []
        self.images = 0
        self.closed = 0
        self.engine: Any = PretendGpu()

    def ready(self, precision: Precision) -> Optional[bytes]:
        return b"ready" if self.has_ready else None

    def build(self, precision: Precision, on_progress: object) -> bytes:
        self.built.append(precision)
        return precision.value.encode()

    def build_int8(
        self, feed: CalibrationFeed, on_progress: object, *, head_in_float: bool
    ) -> bytes:
        self.built.append(INT8)
        self.images = sum(len(batch) for batch in feed.batches())
        assert self.images == 8 * feed.count
        return b"int8"

    def allocate(self, shape: Tuple[int, int, int, int]) -> Image:
        return allocate(shape)

    def load(self, data: bytes, precision: Precision) -> Any:
        self.loaded.append((data, precision))
        return self.engine

    def close(self) -> None:
        self.closed += 1


def toolchain_of(
    monkeypatch: pytest.MonkeyPatch, first: Precision = FP16, has_ready: bool = False
) -> PretendToolchain:
    toolchain = PretendToolchain(first, has_ready)

    def make(plan: BuildPlan, graph: DeployedGraph) -> PretendToolchain:
        toolchain.graphs.append(graph.name)
        assert plan.max_batch == 8
        return toolchain

    monkeypatch.setattr(BuildPlan, "toolchain", make)
    monkeypatch.setattr(opened, "DeviceEngine", PretendGpu)
    return toolchain


def network(folder: Path, precision: Precision, *, has_half: bool = False) -> Network:
    paths = [folder / "exact.onnx", folder / "half.onnx"]
    for path in paths:
        write_detector(path, INPUT_WH, class_count=3)
    return Network("yolo", paths[0], precision, paths[1] if has_half else None)


@pytest.mark.parametrize(
    ("first", "wanted", "has_half", "graphs", "loaded"),
    [
        pytest.param(FP16, FP16, True, ["exact"], FP16, id="the runtime chooses fp16"),
        pytest.param(FP32, FP16, True, ["exact", "half"], FP32, id="the file has it"),
        pytest.param(FP32, FP16, False, ["exact"], FP32, id="nobody has it"),
        pytest.param(FP16, FP32, True, ["exact"], FP32, id="not asked for"),
    ],
)
def test_half_precision_comes_from_the_runtime_or_from_the_file(
    first: Precision,
    wanted: Precision,
    has_half: bool,
    graphs: List[str],
    loaded: Precision,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toolchain = toolchain_of(monkeypatch, first)
    opener = Opener(Backend.TENSORRT, tmp_path, 8)
    with opener.open(network(tmp_path, wanted, has_half=has_half)) as one:
        assert one.streams.largest == 8
    assert toolchain.graphs == graphs
    assert toolchain.built == [loaded]
    assert toolchain.closed == len(graphs)


@pytest.mark.parametrize("precision", [FP16, INT8])
def test_what_was_built_is_kept(
    precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolchain = toolchain_of(monkeypatch)
    for _ in range(2):
        with Opener(Backend.TENSORRT, tmp_path, 8).open(network(tmp_path, precision)):
            pass
    assert toolchain.built == [precision]
    assert toolchain.loaded == [(precision.value.encode(), precision)] * 2
    assert (toolchain.images > 0) == (precision is INT8)


def test_what_is_ready_is_neither_built_nor_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolchain = toolchain_of(monkeypatch, FP32, has_ready=True)
    with Opener(Backend.ONNXRUNTIME, tmp_path, 8).open(network(tmp_path, FP32)) as one:
        assert one.words == "yolo: onnxruntime 1 on GPU"
        assert one.infer(one.streams.frames[:2]).shape[0] == 2
        one.collect(np.zeros((2, 5, 6), np.float32))
    assert toolchain.built == []
    assert not list(tmp_path.glob("*.engine"))


def test_the_configuration_is_the_product_s_own(tmp_path: Path) -> None:
    path = network(tmp_path, FP32).path
    config = Opener(Backend.ONNXRUNTIME, tmp_path, 8)._config(path)
    assert (config.engine.device, config.engine.max_batch) == (Device.CUDA, 8)
    config = Opener(Backend.TENSORRT, tmp_path, 8)._config(path)
    assert (config.engine.backend, config.engine.device) == (Backend.TENSORRT, None)


def test_an_engine_on_the_cpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolchain = toolchain_of(monkeypatch)
    toolchain.engine = OnnxRuntimeEngine.__new__(OnnxRuntimeEngine)
    opener = Opener(Backend.TENSORRT, tmp_path, 8)
    with pytest.raises(ConfigError, match="engines on a GPU"), opener.open(network(tmp_path, FP32)):
        pass
    assert toolchain.closed == 1
