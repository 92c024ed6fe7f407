"""What an engine is said to be made from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import List

import pytest

from edge.building.calibration import folder_sha256
from edge.building.engine_store import EngineStore, Hit, Miss
from edge.building.graph import deploy
from edge.building.make import Maker
from edge.building.onnxruntime_toolchain import OnnxRuntimeToolchain
from edge.building.toolchain import CalibrationFeed
from edge.config.schema import (
    Backend,
    CalibrationConfig,
    EngineConfig,
    GateConfig,
    ModelConfig,
    Precision,
)
from edge.errors import ConfigError
from edge.records import BuildProgress, OnProgress

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = REPOSITORY / "edge/demo/assets/parts.onnx"
IMAGES = sorted((REPOSITORY / "calibration").glob("*.jpg"))


class WhileFilling(OnnxRuntimeToolchain):
    """The real toolchain, in whose build another image comes into the folder."""

    first = Precision.FP16  # so that there is a float engine to judge
    arrives_in: List[Path]

    def build_int8(
        self, feed: CalibrationFeed, on_progress: OnProgress, *, head_in_float: bool
    ) -> bytes:
        data = super().build_int8(feed, on_progress, head_in_float=head_in_float)
        for folder in self.arrives_in:
            shutil.copy(IMAGES[-1], folder)
        return data

    def build(self, precision: Precision, on_progress: OnProgress) -> bytes:
        return self._graph.onnx_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for path in IMAGES[:24]:
        shutil.copy(path, folder)
    return folder


def maker(folder: Path, arrives_in: List[Path], min_boxes: int = 1) -> Maker:
    graph = deploy(MODEL, ModelConfig(path=MODEL))
    toolchain = WhileFilling(graph, EngineConfig(backend=Backend.ONNXRUNTIME))
    toolchain.arrives_in = arrives_in
    return Maker(
        graph,
        toolchain,
        EngineStore(folder.parent / "engines"),
        CalibrationConfig(folder=folder, holdout=0.5),
        GateConfig(max_loss=1.0, min_boxes=min_boxes),
    )


def ignore(progress: BuildProgress) -> None:
    pass


def test_images_that_come_during_the_build_are_not_said_to_be_in_it(folder: Path) -> None:
    before = folder_sha256(folder)
    made = maker(folder, [folder])
    made.make_int8(Precision.FP32, ignore)
    found = made.find(Precision.INT8)
    assert isinstance(found, Miss)
    assert f"images_sha256 was {before[:12]}" in found.reason
    (folder / IMAGES[-1].name).unlink()
    found = made.find(Precision.INT8)
    assert isinstance(found, Hit)
    assert found.data is not None


def test_an_engine_outlives_the_images_it_was_made_from(folder: Path) -> None:
    made = maker(folder, [])
    with pytest.raises(ConfigError, match=r"calibration\.folder"):
        maker(folder.parent / "never", []).find(Precision.INT8)
    made.make_int8(Precision.FP32, ignore)
    data = made.find(Precision.INT8)
    shutil.rmtree(folder)
    assert made.find(Precision.INT8) == data
    other_limits = maker(folder, [], min_boxes=2)
    with pytest.raises(ConfigError, match=r"calibration\.folder"):
        other_limits.find(Precision.INT8)


def test_a_float_engines_verdict_knows_the_images_and_limits_it_was_found_by(folder: Path) -> None:
    made = maker(folder, [])
    made.judge_float(ignore)
    found = made.find(Precision.FP16)
    assert isinstance(found, Hit)
    assert found.gate is not None
    assert made.is_up_to_date(found.gate)
    assert not maker(folder, [], min_boxes=2).is_up_to_date(found.gate)
    shutil.copy(IMAGES[-1], folder)
    # The engine itself is as good as ever: only its verdict is old.
    assert isinstance(made.find(Precision.FP16), Hit)
    assert not made.is_up_to_date(found.gate)
