"""The parts of the training code that decide what the model learns and how it is scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Tuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.demo.scene import CLASS_NAMES, Scene, SceneObject
from edge.demo.scenery.backgrounds import HELD_OUT_FAMILIES, TRAINING_FAMILIES
from edge.demo.training import dataset, postprocess, render_assets

ASSETS = Path(render_assets.__file__).resolve().parents[1] / "assets"


@pytest.mark.parametrize(
    ("size_wh", "expected"),
    [
        ((640, 480), dataset.Letterbox(0.5, 0, 40)),
        ((480, 640), dataset.Letterbox(0.5, 40, 0)),
        ((1280, 720), dataset.Letterbox(0.25, 0, 70)),
        ((320, 320), dataset.Letterbox(1.0, 0, 0)),
        ((160, 120), dataset.Letterbox(2.0, 0, 40)),
        # 179 rows leave 141 to pad: the odd row goes below.
        ((640, 358), dataset.Letterbox(0.5, 0, 70)),
    ],
)
def test_letterbox_geometry(size_wh: Tuple[int, int], expected: dataset.Letterbox) -> None:
    image = np.full((size_wh[1], size_wh[0], 3), 200, np.uint8)
    boxed, geometry = dataset.letterbox(image)
    assert boxed.shape == (320, 320, 3)
    assert geometry == expected
    inside = (boxed == 200).all(axis=2)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert (rows[0], columns[0]) == (expected.pad_top_px, expected.pad_left_px)
    assert rows.size == round(size_wh[1] * expected.scale)
    assert columns.size == round(size_wh[0] * expected.scale)
    assert (boxed[~inside] == dataset.PAD_VALUE).all()


def test_targets_are_in_model_pixels_and_padded() -> None:
    hidden = SceneObject(1, 2, (0.0, 0.0, 64.0, 48.0), 0.1)
    clear = SceneObject(2, 5, (320.0, 240.0, 640.0, 480.0), 1.0)
    rows = dataset.encode_targets([hidden, clear], dataset.Letterbox(0.5, 0, 40))
    assert rows[0].tolist() == [5.0, 160.0, 160.0, 320.0, 280.0, 1.0]
    assert rows[1].tolist() == pytest.approx([2.0, 0.0, 40.0, 32.0, 64.0, 0.1])
    assert (rows[2:, 0] == -1.0).all()


def test_rendering_a_training_scene_is_deterministic() -> None:
    seed = next(s for s in range(50) if dataset.random_spec(s, TRAINING_FAMILIES).size_wh[0] == 320)
    images, targets = dataset.render_scene(seed, TRAINING_FAMILIES)
    again, targets_again = dataset.render_scene(seed, TRAINING_FAMILIES)
    assert images.shape == (dataset.FRAMES_PER_SCENE, 320, 320, 3)
    assert np.array_equal(images, again)
    assert np.array_equal(targets, targets_again)
    real = targets[targets[..., 0] >= 0]
    assert len(real) > 0
    boxes = real[:, 1:5]
    assert ((boxes >= 0.0) & (boxes <= 320.0)).all()


def test_no_bundled_scene_was_trained_on() -> None:
    for spec in render_assets.CLIPS.values():
        assert spec.background in HELD_OUT_FAMILIES
        assert spec.seed >= dataset.EVALUATION_FIRST_SEED


def test_training_on_evaluation_seeds_is_refused(tmp_path: Path) -> None:
    first_seed = str(dataset.EVALUATION_FIRST_SEED - 1)
    with pytest.raises(SystemExit):
        dataset.main(["--scenes", "2", "--first-seed", first_seed, "--out", str(tmp_path)])


def test_a_saved_set_is_read_back(tmp_path: Path) -> None:
    images = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    targets = np.ones((1, dataset.MAX_TARGETS, 6), np.float32)
    dataset.save_dataset(tmp_path / "set", images, targets)
    read_images, read_targets = dataset.load_dataset(tmp_path / "set")
    assert np.array_equal(read_images, images)
    assert np.array_equal(read_targets, targets)


def _raw(rows: Any) -> NDArray[np.float32]:
    """Return a raw output [4 + C, N] of (cx, cy, w, h, class id, score) rows."""
    raw = np.zeros((4 + len(CLASS_NAMES), len(rows)), np.float32)
    for column, (cx, cy, w, h, class_id, score) in enumerate(rows):
        raw[:4, column] = cx, cy, w, h
        raw[4 + class_id, column] = score
    return raw


def test_decode_suppresses_within_a_class_only() -> None:
    raw = _raw(
        [
            (100, 100, 40, 40, 0, 0.8),
            (102, 100, 40, 40, 0, 0.9),
            (102, 100, 40, 40, 1, 0.7),
            (200, 200, 20, 20, 0, 0.3),
            (300, 300, 80, 80, 2, 0.1),
        ]
    )
    found = postprocess.decode(raw, min_score=0.2, max_iou=0.6)
    assert found.class_ids.tolist() == [0, 1, 0]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.3])
    assert found.boxes_xyxy[0].tolist() == [82.0, 80.0, 122.0, 120.0]


def test_decode_of_nothing_is_empty() -> None:
    found = postprocess.decode(_raw([]), min_score=0.2, max_iou=0.6)
    assert found.boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize("clip", ["belt", "table"])
def test_ground_truth_of_the_clips_is_consistent(clip: str) -> None:
    spec = render_assets.CLIPS[clip]
    truth = json.loads((ASSETS / "groundtruth" / f"{clip}.json").read_text())
    assert truth["clip"] == f"{clip}.mp4"
    assert tuple(truth["size_wh"]) == spec.size_wh
    assert tuple(truth["class_names"]) == CLASS_NAMES
    assert len(truth["frames"]) == round(spec.fps * spec.lap_s)
    objects = [found for frame in truth["frames"] for found in frame]
    assert {found["class_id"] for found in objects} == set(range(len(CLASS_NAMES)))
    assert any(not frame for frame in truth["frames"])
    for x0, y0, x1, y1 in (found["box_xyxy"] for found in objects):
        assert 0 <= x0 < x1 <= spec.size_wh[0]
        assert 0 <= y0 < y1 <= spec.size_wh[1]


def test_the_first_frame_of_a_clip_is_what_the_renderer_draws() -> None:
    _, objects = Scene(render_assets.CLIPS["table"]).frame(0)
    truth = json.loads((ASSETS / "groundtruth" / "table.json").read_text())
    assert render_assets.object_rows(objects) == truth["frames"][0]


def test_metrics_count_hidden_parts_neither_way() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("pycocotools")
    from edge.demo.training.evaluate import average_precision

    targets = np.full((1, dataset.MAX_TARGETS, 6), -1.0, np.float32)
    for row, class_id in enumerate(range(len(CLASS_NAMES))):
        targets[0, row] = class_id, 40 * row, 10, 40 * row + 30, 40, 1.0
    targets[0, 7] = 0, 100, 100, 150, 150, 0.2
    boxes = targets[0, :8, 1:5]
    class_ids = np.append(np.arange(len(CLASS_NAMES)), 3)
    all_found = postprocess.Found(boxes, np.full(8, 0.9), class_ids)
    assert average_precision(targets, [all_found])["map50_95"] == pytest.approx(1.0)
    wrong_class = all_found._replace(class_ids=np.append(np.roll(class_ids[:7], 1), 3))
    assert average_precision(targets, [wrong_class])["map50"] == pytest.approx(0.0)


def test_clip_matching_counts_right_wrong_missed_and_hidden() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("pycocotools")
    from edge.demo.training.evaluate_clips import Counts, Truth, count_matches

    boxes = np.array([[0, 0, 10, 10], [50, 50, 70, 70], [100, 100, 120, 120]], float)
    truth = Truth(boxes, np.array([0, 1, 2]), np.array([1.0, 0.9, 0.2]))
    found = postprocess.Found(
        np.array([[0, 0, 10, 9], [0, 0, 10, 10], [101, 101, 119, 119], [51, 51, 71, 71]], float),
        np.array([0.9, 0.8, 0.7, 0.4]),
        np.array([0, 0, 5, 1]),
    )
    # A second box on the first part is wrong; a box on the hidden part is not counted.
    assert count_matches(truth, found, 0.3) == Counts(right=2, wrong=1, missed=0)
    assert count_matches(truth, found, 0.5) == Counts(right=1, wrong=1, missed=1)


def test_network_is_small_and_has_the_yolov8_output_layout() -> None:
    torch = pytest.importorskip("torch")
    from edge.demo.training.network import Detector

    network = Detector(len(CLASS_NAMES)).eval()
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) <= 30
    assert sum(p.numel() for p in network.parameters()) <= 2_000_000
    with torch.no_grad():
        images = torch.rand(2, 3, 320, 320)
        raw = network(images)
        fused = network.fuse()(images)
    assert raw.shape == (2, 4 + len(CLASS_NAMES), 2100)
    assert (raw[:, 4:] >= 0).all()
    assert (raw[:, 4:] <= 1).all()
    assert torch.allclose(raw, fused, atol=1e-3)


def test_distributed_boxes_decode_to_the_reach_they_encode() -> None:
    torch = pytest.importorskip("torch")
    from edge.demo.training.network import BINS, Detector

    network = Detector(1)
    bins = torch.full((1, 2100, 4, BINS), -50.0)
    bins[..., 3] = 50.0
    boxes = network.decode(bins)
    assert boxes[0, 0].tolist() == pytest.approx([4 - 24, 4 - 24, 4 + 24, 4 + 24])
    assert boxes[0, -1].tolist() == pytest.approx([304 - 96, 304 - 96, 304 + 96, 304 + 96])


def _targets(torch: Any, *rows: Tuple[float, ...]) -> Any:
    return torch.tensor([list(rows)], dtype=torch.float32)


def test_assigner_keeps_positives_inside_and_ignores_hidden_parts() -> None:
    torch = pytest.importorskip("torch")
    from edge.demo.training.assigner import assign
    from edge.demo.training.network import anchor_points

    anchors, strides = anchor_points()
    boxes = torch.cat((anchors - 3 * strides, anchors + 3 * strides), dim=1)[None]
    scores = torch.full((1, len(anchors), 7), 0.3)
    targets = _targets(
        torch,
        (2, 40, 40, 90, 90, 1.0),
        (4, 200, 200, 260, 260, 0.2),
        (-1, 0, 0, 0, 0, 0),
    )
    result = assign(scores, boxes, anchors, targets, min_visible=0.35)
    positive = anchors[result.is_positive[0]]
    assert 1 <= len(positive) <= 10
    assert ((positive > 40) & (positive < 90)).all()
    assert (result.target_index[result.is_positive] == 0).all()
    # Only the wanted class is asked for, by at most the IoU that was reached.
    assert result.scores[..., 2].max() > 0.3
    assert result.scores[..., [0, 1, 3, 4, 5, 6]].max() == 0
    assert result.scores.max() <= 1.0
    ignored = anchors[result.is_ignored[0]]
    assert len(ignored) > 0
    assert ((ignored > 200) & (ignored < 260)).all()


def test_loss_is_lowest_for_the_right_answer() -> None:
    torch = pytest.importorskip("torch")
    from edge.demo.training.loss import complete_iou, distribution_focal
    from edge.demo.training.network import BINS

    box = torch.tensor([[10.0, 10.0, 50.0, 40.0]])
    assert complete_iou(box, box).item() == pytest.approx(1.0, abs=1e-4)
    assert complete_iou(box + 5, box) < complete_iou(box + 2, box) < complete_iou(box, box)
    assert complete_iou(box + 500, box) < 0
    reach = torch.tensor([[2.5, 2.5, 2.5, 2.5]])
    right, wrong = torch.zeros(1, 4, BINS), torch.zeros(1, 4, BINS)
    right[..., 2:4] = 20.0
    wrong[..., 5:7] = 20.0
    assert distribution_focal(right, reach) < distribution_focal(wrong, reach)


def test_augmentation_moves_boxes_with_their_pixels() -> None:
    torch = pytest.importorskip("torch")
    from edge.demo.training.augment import augment

    images = torch.zeros(16, 320, 320, 3, dtype=torch.uint8)
    images[:, 60:120, 100:220] = 255
    targets = torch.full((16, 2, 6), -1.0)
    targets[:, 0] = torch.tensor([3.0, 100.0, 60.0, 220.0, 120.0, 1.0])
    moved, boxes = augment(images, targets, torch.Generator().manual_seed(0))
    for image, (row, padding) in zip(moved, boxes):
        rows, columns = torch.where(image.mean(dim=0) > 0.6)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert row[1:5].tolist() == pytest.approx([float(v) for v in seen], abs=1.6)
        assert row[0] == 3
        assert padding[0] == -1
