"""The real line on synthetic cameras, with a real model and with an engine that dies."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.bench.trial import (
    STAGES,
    Latency,
    Trial,
    TrialResult,
    stage_latencies,
    with_cameras,
)
from edge.building.graph import deploy
from edge.clock import NS_PER_MS
from edge.config.schema import Config
from edge.errors import EngineError, EngineHangs
from edge.geometry import Image
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.line import Detector
from edge.records import (
    BatchInfo,
    Detections,
    FrameInfo,
    FrameResult,
    Lane,
    TimestampSource,
)
from tests.building.tiny_detectors import TinyDetector


def config_of(folder: Path, **changes: Any) -> Config:
    document: Dict[str, Any] = {
        "device": {"state_dir": folder},
        "model": {"path": TinyDetector().save(folder)},
        "cameras": [{"name": "belt", "uri": "rtsp://camera/stream", "priority": True}],
        **changes,
    }
    return Config.model_validate(document)


def trial_of(config: Config, engine_type: type = OnnxRuntimeEngine) -> Trial:
    graph = deploy(config.model.path, config.model)
    return Trial(config, Detector(graph, engine_type(graph, config.engine)), None)


def run(
    trial: Trial, seconds: float = 1.0, load: Optional[Mapping[str, float]] = None
) -> Optional[TrialResult]:
    return trial.run(seconds, threading.Event(), lambda start_ns, end_ns: load or {})


@pytest.mark.parametrize(
    ("engine_fps", "count", "fps"),
    [
        pytest.param(40.0, 4, 30.0, id="a camera's own rate at least"),
        pytest.param(100.0, 4, 50.0, id="twice what the engine takes"),
        pytest.param(9000.0, 4, 240.0, id="as fast as a camera can be"),
        pytest.param(9000.0, 100, 180.0, id="many cameras"),
    ],
)
def test_cameras_offer_more_than_the_engine_takes(
    engine_fps: float, count: int, fps: float, tmp_path: Path
) -> None:
    config = with_cameras(config_of(tmp_path, batching={"target": 3}), count, engine_fps)
    assert [camera.fps for camera in config.cameras] == [fps] * count
    assert len({camera.name for camera in config.cameras}) == count
    assert not any(camera.priority for camera in config.cameras)
    assert config.batching.target == 3


def test_frames_go_the_whole_road(tmp_path: Path) -> None:
    config = with_cameras(config_of(tmp_path), 3, 30.0)
    result = run(trial_of(config), 2.0, {"power_w": 4.0})
    assert result is not None
    assert result.cameras == 3
    assert result.frames > 0
    assert result.fps == pytest.approx(result.frames / result.seconds)
    assert result.offered_fps > 0
    assert 1 <= result.batch_size_mean <= 3
    assert tuple(result.stages) == STAGES
    for latency in result.stages.values():
        assert 0 <= latency.p50_ms <= latency.p99_ms
    assert result.load == {"power_w": 4.0, "frames_per_joule": result.fps / 4.0}


def test_the_engine_is_closed_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: List[int] = []
    monkeypatch.setattr(OnnxRuntimeEngine, "close", lambda self: closed.append(1))
    assert run(trial_of(with_cameras(config_of(tmp_path), 1, 30.0)), 0.01) is not None
    assert closed


def test_a_stop_ends_it_without_a_result(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    assert trial_of(with_cameras(config_of(tmp_path), 1, 30.0)).run(3600.0, stop) is None


class Dying(OnnxRuntimeEngine):
    def infer(self, frames: Image) -> NDArray[np.float32]:
        if frames.any():  # the warm-up's are blank
            raise EngineError("the device fell off the bus")
        return super().infer(frames)


def test_an_engine_that_dies_ends_it_with_its_error(tmp_path: Path) -> None:
    trial = trial_of(with_cameras(config_of(tmp_path), 2, 30.0), Dying)
    with pytest.raises(EngineError, match="fell off the bus"):
        run(trial, 3600.0)


def test_a_device_that_hangs_ends_it_and_is_not_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    closed: List[int] = []

    class Hanging(OnnxRuntimeEngine):
        def infer(self, frames: Image) -> NDArray[np.float32]:
            if frames.any():
                may_end.wait()
            return super().infer(frames)

    monkeypatch.setattr(Hanging, "close", lambda self: closed.append(1))
    config = with_cameras(config_of(tmp_path, engine={"stall_s": 1}), 1, 30.0)
    with pytest.raises(EngineHangs, match=r"engine\.stall_s is 1"):
        run(trial_of(config, Hanging), 3600.0)
    assert closed == []
    may_end.set()


def result_at(*moments_ms: float) -> FrameResult:
    captured_ns, closed_ns, inferred_ns, finished_ns = (int(ms * NS_PER_MS) for ms in moments_ms)
    info = FrameInfo("belt", 0, (96, 64), captured_ns, 0, TimestampSource.RECEIVE)
    batch = BatchInfo(1, 1, Lane.BATCH, 0)
    return FrameResult(info, Detections.empty(), batch, closed_ns, inferred_ns, finished_ns)


def test_stages_by_hand() -> None:
    assert stage_latencies([result_at(100, 102, 110, 111)] * 2) == {
        "capture_to_batch": Latency(2.0, 2.0),
        "infer": Latency(8.0, 8.0),
        "post": Latency(1.0, 1.0),
        "total": Latency(11.0, 11.0),
    }
    two = stage_latencies([result_at(0, 2, 10, 11), result_at(0, 4, 10, 11)])
    assert two["capture_to_batch"] == pytest.approx(Latency(3.0, 3.98))
    assert stage_latencies([]) == {}
