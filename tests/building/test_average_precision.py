from __future__ import annotations

import contextlib
import io
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.building.average_precision import (
    IOU_THRESHOLDS,
    AveragePrecision,
    Gathered,
    average_precision,
    box_iou,
    overlapping,
)
from tests.building.scored_boxes import Row, detections, line_of


def scored(
    found: Sequence[Sequence[Row]], truth: Sequence[Sequence[Row]], class_count: int = 3
) -> AveragePrecision:
    ours = Gathered.of([detections(image) for image in found])
    theirs = Gathered.of([detections(image) for image in truth])
    return average_precision(ours, theirs, class_count)


# --- by hand ---------------------------------------------------------------------------------

A: Row = (0, 0, 10, 10, 0.9, 0)
B: Row = (100, 0, 110, 10, 0.8, 0)
C: Row = (200, 0, 210, 10, 0.7, 0)
NOWHERE: Row = (300, 0, 310, 10, 0.75, 0)
TWICE: Row = (0, 0, 10, 10, 0.85, 0)
HALF: Row = (0, 0, 10, 5, 0.9, 0)  # IoU 0.5 with A
LESS: Row = (0, 0, 10, 4.96875, 0.9, 0)
OTHER_CLASS: Row = (0, 0, 10, 10, 0.9, 1)


@pytest.mark.parametrize(
    ("found", "truth", "area", "coco"),
    [
        pytest.param([A, B], [A, B], 1.0, 1.0, id="all found"),
        pytest.param([], [A, B], 0.0, 0.0, id="nothing found"),
        pytest.param([A], [A, B], 0.5, 51 / 101, id="one of two: recalls 0..0.5 are 51 samples"),
        pytest.param([A, B, NOWHERE], [A, B], 1.0, 1.0, id="a wrong one behind the last right one"),
        pytest.param(
            [A, B, NOWHERE, C], [A, B, C], (2 + 3 / 4) / 3, (67 + 34 * 3 / 4) / 101, id="before it"
        ),
        pytest.param([A, TWICE], [A, B], 0.5, 51 / 101, id="found twice counts once"),
        pytest.param([HALF], [A], 1.0, 1.0, id="IoU exactly 0.5"),
        pytest.param([LESS], [A], 0.0, 0.0, id="IoU just below 0.5"),
        pytest.param([OTHER_CLASS], [A], 0.0, 0.0, id="right place, other class"),
    ],
)
def test_at_iou_half(found: List[Row], truth: List[Row], area: float, coco: float) -> None:
    result = scored([found], [truth])
    assert result.area[0, 0] == pytest.approx(area, abs=1e-12)
    assert result.coco[0, 0] == pytest.approx(coco, abs=1e-12)


def test_a_class_without_true_boxes_has_no_number() -> None:
    result = scored([[A, OTHER_CLASS]], [[A]])
    assert np.isnan(result.area[1:]).all()
    assert np.isnan(result.coco[1:]).all()
    assert result.box_counts.tolist() == [1, 0, 0]


def test_no_images_at_all() -> None:
    result = scored([], [])
    assert np.isnan(result.coco).all()
    assert result.coco.shape == (3, len(IOU_THRESHOLDS))


def test_boxes_of_other_images_do_not_match() -> None:
    assert scored([[A], []], [[], [A]]).area[0, 0] == 0.0
    assert scored([[], [A]], [[], [A]]).area[0, 0] == 1.0


def test_the_best_scored_chooses_first_and_takes_what_it_overlaps_most() -> None:
    truth = Gathered.of([detections([A, (0, 2, 10, 12, 1, 0)])])
    found = Gathered.of([detections([(0, 1.5, 10, 11.5, 0.5, 0), (0, 0.5, 10, 10.5, 0.6, 0)])])
    pairs = overlapping(found, truth, 0.5).matched(0.5)
    assert list(zip(pairs.found.tolist(), pairs.truth.tolist())) == [(1, 0), (0, 1)]


def test_of_two_equal_overlaps_the_later_true_box_is_taken() -> None:
    truth = Gathered.of([detections([(0, 0, 10, 10, 1, 0), (0, 4, 10, 14, 1, 0)])])
    found = Gathered.of([detections([(0, 2, 10, 12, 0.9, 0), (0, 0, 10, 9, 0.8, 0)])])
    pairs = overlapping(found, truth, 0.5).matched(0.5)
    assert list(zip(pairs.found.tolist(), pairs.truth.tolist())) == [(0, 1), (1, 0)]


def test_one_box_of_very_many_costs_the_area_little_and_the_samples_a_hundredth() -> None:
    row = line_of(1000)
    result = scored([row[1:]], [row])
    assert result.area[0, 0] == pytest.approx(0.999)
    assert result.coco[0, 0] == pytest.approx(100 / 101)


@pytest.mark.parametrize("class_id", [-1, 3])
def test_a_class_that_does_not_exist_is_refused(class_id: int) -> None:
    stranger: Row = (0, 0, 10, 10, 0.9, class_id)
    for found, truth in (([stranger], [A]), ([A], [stranger])):
        with pytest.raises(ValueError, match=rf"expected classes 0\.\.2, got {class_id}"):
            scored([found], [truth])


def test_iou_of_boxes_without_area_is_zero() -> None:
    point = np.array([[5.0, 5.0, 5.0, 5.0]])
    np.testing.assert_array_equal(box_iou(point, point), [0.0])


# --- against independent judges --------------------------------------------------------------

# Coarse coordinates: boxes touch, repeat and nest, and all arithmetic is exact in binary.
_edge = st.integers(0, 12)
_score = st.sampled_from([0.125, 0.25, 0.5, 0.75, 0.875])


@st.composite
def rows(draw: st.DrawFn) -> Row:
    x, y = draw(_edge), draw(_edge)
    # Seldom without area: a label file may hold such boxes.
    width, height = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    return (x, y, x + width, y + height, draw(_score), draw(st.integers(0, 2)))


scenes = st.lists(
    st.tuples(st.lists(rows(), max_size=7), st.lists(rows(), max_size=5)), min_size=1, max_size=4
)


@given(scenes)
@settings(max_examples=60)
def test_equals_a_plain_loop(scene: List[Tuple[List[Row], List[Row]]]) -> None:
    found, truth = zip(*scene)
    np.testing.assert_allclose(scored(found, truth).coco, plain_loop(found, truth), atol=1e-9)


@given(scenes)
@settings(max_examples=60)
def test_equals_pycocotools(scene: List[Tuple[List[Row], List[Row]]]) -> None:
    pytest.importorskip("pycocotools")
    found, truth = zip(*scene)
    np.testing.assert_allclose(scored(found, truth).coco, by_pycocotools(found, truth), atol=1e-9)


def test_equals_pycocotools_on_many_jittered_boxes() -> None:
    pytest.importorskip("pycocotools")
    random = np.random.default_rng(7)
    truth, found = [], []
    for _ in range(12):
        corners = random.uniform(0, 500, (40, 2))
        boxes = np.hstack([corners, corners + random.uniform(40, 120, (40, 2))])
        classes = random.integers(0, 3, 40)
        jittered = boxes + random.normal(0, 6, boxes.shape)
        strays = np.hstack([corners, corners + 30])
        truth.append(table(boxes, np.ones(40), classes))
        found.append(
            table(jittered, random.uniform(0.1, 1, 40), classes)
            + table(strays, random.uniform(0.001, 0.6, 40), random.integers(0, 3, 40))
        )
    result = scored(found, truth)
    np.testing.assert_allclose(result.coco, by_pycocotools(found, truth), atol=1e-9)
    assert 0.05 < result.coco.mean() < 0.95
    assert np.abs(result.coco - result.area).max() < 0.011


@given(scenes)
@settings(max_examples=40)
def test_boxes_against_themselves_lose_nothing(
    scene: List[Tuple[List[Row], List[Row]]],
) -> None:
    solid = [[row for row in truth if row[2] > row[0] and row[3] > row[1]] for _, truth in scene]
    result = scored(solid, solid)
    assert set(result.area[result.box_counts > 0].ravel()) <= {1.0}


def table(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], classes: NDArray[np.int64]
) -> List[Row]:
    # As float32, so that both judges see the same numbers.
    joined = np.column_stack([boxes, scores, classes]).astype(np.float32).tolist()
    return [(x1, y1, x2, y2, score, int(k)) for x1, y1, x2, y2, score, k in joined]


def plain_loop(found: Sequence[Sequence[Row]], truth: Sequence[Sequence[Row]]) -> Any:
    """COCO's rules as one would explain them, box by box: [C, T]."""
    result = np.full((3, len(IOU_THRESHOLDS)), np.nan)
    for k in range(3):
        total = sum(row[5] == k for image in truth for row in image)
        for t, threshold in enumerate(IOU_THRESHOLDS):
            if total:
                result[k, t] = _ap(_outcomes(found, truth, k, threshold), total)
    return result


def _outcomes(
    found: Sequence[Sequence[Row]], truth: Sequence[Sequence[Row]], k: int, threshold: float
) -> List[bool]:
    """Whether each found box is right, by falling score."""
    outcomes = []
    for ours, theirs in zip(found, truth):
        free = [row for row in theirs if row[5] == k]
        for row in sorted((row for row in ours if row[5] == k), key=lambda row: -row[4]):
            best = max(free, key=lambda other: _iou(row, other), default=None)
            is_right = best is not None and _iou(row, best) >= threshold
            # Of equally good true boxes the later one is taken.
            for other in reversed(free):
                if is_right and best is not None and _iou(row, other) == _iou(row, best):
                    del free[len(free) - 1 - free[::-1].index(other)]
                    break
            outcomes.append((row[4], is_right))
    return [is_right for _, is_right in sorted(outcomes, key=lambda outcome: -outcome[0])]


def _iou(a: Row, b: Row) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(row[2] - row[0]) * (row[3] - row[1]) for row in (a, b)]
    return width * height / (sum(areas) - width * height)


def _ap(outcomes: List[bool], total: int) -> float:
    points = [
        (sum(outcomes[:n]) / total, sum(outcomes[:n]) / n) for n in range(1, len(outcomes) + 1)
    ]
    best = [
        max((precision for recall, precision in points if recall >= wanted), default=0.0)
        for wanted in np.linspace(0, 1, 101)
    ]
    return sum(best) / 101


def by_pycocotools(found: Sequence[Sequence[Row]], truth: Sequence[Sequence[Row]]) -> Any:
    """The reference implementation's precision, without its limit of 100 boxes: [C, T]."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth_set, found_set = COCO(), COCO()
        for data, images in ((truth_set, truth), (found_set, found)):
            data.dataset = _coco(images)
            data.createIndex()
        judge = COCOeval(truth_set, found_set, "bbox")
        judge.params.maxDets = [100_000]
        judge.evaluate()
        judge.accumulate()
    precision: NDArray[np.float64] = judge.eval["precision"][:, :, :, 0, 0]
    mean = precision.mean(axis=1).T
    mean[(precision < 0).all(axis=1).T] = np.nan
    return mean


def _coco(images: Sequence[Sequence[Row]]) -> Dict[str, Any]:
    annotations = [
        {
            "id": 1 + image_id * 1000 + number,
            "image_id": image_id,
            "category_id": int(row[5]),
            "bbox": [row[0], row[1], row[2] - row[0], row[3] - row[1]],
            "area": (row[2] - row[0]) * (row[3] - row[1]),
            "iscrowd": 0,
            "score": row[4],
        }
        for image_id, rows_of_image in enumerate(images)
        for number, row in enumerate(rows_of_image)
    ]
    return {
        "images": [{"id": n} for n in range(len(images))],
        "annotations": annotations,
        "categories": [{"id": k} for k in range(3)],
    }
