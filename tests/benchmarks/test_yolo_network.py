"""That the network has the published size, and that its exports and the peer compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.pictures import pictures
from edge.building.graph import deploy
from edge.config.schema import EngineConfig, ModelConfig, PostprocessConfig
from edge.geometry import Letterbox
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.postprocess.postprocess import detect

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from benchmarks import yolo_network  # noqa: E402 - needs torch
from benchmarks.eager import EagerDetector  # noqa: E402 - needs torch

# Wide and not square, so that no axis can stand for another.
INPUT_WH = (160, 96)


@pytest.fixture(scope="module")
def network() -> Any:
    return yolo_network.make(INPUT_WH)


@pytest.fixture(scope="module")
def decoded(network: Any) -> NDArray[np.float32]:
    """[B, anchors, 6] x1, y1, x2, y2, score, class of the pictures, best first."""
    with torch.inference_mode():
        output = network(yolo_network.as_input(pictures(4, INPUT_WH))).numpy()
    centers, sizes, scores = output[:, :2], output[:, 2:4], output[:, 4:]
    best, classes = scores.max(axis=1, keepdims=True), scores.argmax(axis=1)[:, np.newaxis]
    rows = np.concatenate((centers - sizes / 2, centers + sizes / 2, best, classes), axis=1)
    rows = rows.transpose(0, 2, 1)
    return np.stack([one[np.argsort(-one[:, 4], kind="stable")] for one in rows])


def infer(network: Any, folder: Path, *, is_half: bool) -> NDArray[np.float32]:
    path = folder / "yolo.onnx"
    yolo_network.export(network, path, is_half=is_half)
    engine = OnnxRuntimeEngine(deploy(path, ModelConfig(path=path)), EngineConfig())
    return engine.infer(pictures(4, INPUT_WH))


def test_it_has_the_published_size() -> None:
    network = yolo_network.Detector((640, 640))
    learned = [parameter.numel() for parameter in network.parameters()]
    # 3 157 200 with the 16 fixed weights of the bins, which are a buffer here.
    assert sum(learned) == 3_157_184
    with torch.inference_mode():
        assert network.eval()(torch.zeros(1, 3, 640, 640)).shape == (1, 84, 8400)


def test_the_same_seed_gives_the_same_network(network: Any) -> None:
    again = yolo_network.make(INPUT_WH)
    for name, weights in network.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name]), name


def test_about_a_hundred_anchors_of_a_picture_are_worth_suppressing(network: Any) -> None:
    with torch.inference_mode():
        output = network(yolo_network.as_input(pictures(8, INPUT_WH)))
    passing = (output[:, 4:].amax(dim=1) > 0.25).sum(dim=1)
    assert 80 <= float(passing.float().mean()) <= 120


def test_the_deployed_graph_detects_what_eager_decodes(
    network: Any, decoded: NDArray[np.float32], tmp_path: Path
) -> None:
    found = infer(network, tmp_path, is_half=False)
    count = min(found.shape[1], decoded.shape[1])
    assert found[..., 4] == pytest.approx(decoded[:, :count, 4], abs=1e-4)
    # Of equal scores either may stand first: only what stands apart is compared row by row.
    apart = _apart(decoded[:, :count, 4], 2e-4)
    assert apart.mean() > 0.4
    assert found[apart][:, :4] == pytest.approx(decoded[:, :count][apart][:, :4], abs=0.05)
    assert (found[apart][:, 5] == decoded[:, :count][apart][:, 5]).all()


def test_half_precision_scores_nearly_the_same(
    network: Any, decoded: NDArray[np.float32], tmp_path: Path
) -> None:
    found = infer(network, tmp_path, is_half=True)
    count = min(found.shape[1], decoded.shape[1])
    assert found[..., 4] == pytest.approx(decoded[:, :count, 4], abs=0.03)


@pytest.mark.parametrize("has_torchvision", [True, False])
def test_the_peer_keeps_what_the_daemon_keeps(
    network: Any, tmp_path: Path, has_torchvision: bool
) -> None:
    eager = EagerDetector(network, "cpu")
    if has_torchvision:
        eager._nms = eager._nms or greedy
    else:
        eager._nms = None
    letterbox = Letterbox.fit(INPUT_WH, INPUT_WH)
    ours = infer(network, tmp_path, is_half=False)
    for frame, rows in zip(pictures(4, INPUT_WH), ours):
        kept = eager.detect(frame)
        expected = detect(rows, letterbox, PostprocessConfig())
        assert len(kept) > 0
        assert abs(len(kept) - len(expected)) <= 1  # an overlap at the very threshold
        assert kept[0, 4] == pytest.approx(float(expected.scores[0]), abs=1e-4)
        assert eager.detect_lean(frame) == pytest.approx(kept, abs=1e-3)
    best = eager.scores(pictures(4, INPUT_WH), 50)
    assert best == pytest.approx(ours[:, :50, 4], abs=1e-4)


def greedy(corners: Any, scores: Any, iou_threshold: float) -> Any:
    """What torchvision.ops.nms says it does."""
    left, top, right, bottom = corners.double().T
    areas = (right - left) * (bottom - top)
    kept: List[int] = []
    for one in scores.argsort(descending=True).tolist():
        width = torch.minimum(right[one], right[kept]) - torch.maximum(left[one], left[kept])
        height = torch.minimum(bottom[one], bottom[kept]) - torch.maximum(top[one], top[kept])
        common = width.clamp(min=0) * height.clamp(min=0)
        if bool((common / (areas[one] + areas[kept] - common) <= iou_threshold).all()):
            kept.append(one)
    return torch.tensor(kept)


def _apart(scores: NDArray[np.float32], gap: float) -> Any:
    """Tells which scores of falling ones [B, K] have none nearer than the gap."""
    steps = -np.diff(scores, axis=1)
    edge = np.full((len(scores), 1), np.inf)
    before, after = np.hstack((edge, steps)), np.hstack((steps, edge))
    return (before > gap) & (after > gap)
