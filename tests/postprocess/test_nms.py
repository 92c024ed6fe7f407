from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.postprocess.nms import is_box, suppress

Rows = NDArray[np.float32]


def ious(box: Rows, others: Rows) -> NDArray[np.float64]:
    a, b = box.astype(np.float64), others.astype(np.float64)
    overlap_wh = np.minimum(a[2:4], b[:, 2:4]) - np.maximum(a[:2], b[:, :2])
    inter = overlap_wh.clip(0).prod(axis=1)
    union = (a[2:4] - a[:2]).prod() + (b[:, 2:4] - b[:, :2]).prod(axis=1) - inter
    result: NDArray[np.float64] = inter / union
    return result


def greedy(candidates: Rows, iou_threshold: float) -> Rows:
    """The definition: by falling score, keep what no better kept row of its class overlaps."""
    kept = np.empty((0, 6), np.float32)
    for row in candidates[np.argsort(-candidates[:, 4], kind="stable")]:
        rivals = kept[kept[:, 5] == row[5]]
        if (ious(row, rivals) <= iou_threshold).all():
            kept = np.vstack([kept, row])
    return kept


def random_rows(
    random: np.random.Generator, count: int, extent_px: float, classes: int, crowd_px: float
) -> Rows:
    """Boxes in a few crowds, so that many of them overlap."""
    crowds = random.uniform(0, extent_px, (max(count // 8, 1), 2))
    centers = crowds[random.integers(len(crowds), size=count)]
    centers += random.normal(0, crowd_px, (count, 2))
    sizes = random.uniform(4 * crowd_px, 8 * crowd_px, (count, 2))
    scores = random.uniform(0.01, 1, (count, 1))
    class_ids = random.integers(classes, size=(count, 1))
    corners = [centers - sizes / 2, centers + sizes / 2]
    return np.hstack([*corners, scores, class_ids]).astype(np.float32)


@pytest.mark.parametrize("iou_threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize(
    ("extent_px", "classes"), [(640, 1), (640, 80), (1280, 1000)], ids=["one", "coco", "lvis"]
)
def test_equals_greedy(extent_px: float, classes: int, iou_threshold: float) -> None:
    random = np.random.default_rng(classes)
    shrank = 0
    for count in random.integers(0, 60, 250):
        rows = random_rows(random, count, extent_px, classes, crowd_px=8)
        rows[:, 5] = np.where(random.random(count) < 0.5, classes - 1, rows[:, 5])
        kept = suppress(rows, iou_threshold)
        np.testing.assert_array_equal(kept, greedy(rows, iou_threshold))
        shrank += len(kept) < count
    assert shrank > 150


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(1, 5)] * 2, st.integers(0, 2)),
        max_size=25,
    )
)
def test_equals_greedy_where_all_scores_are_equal(boxes: List[Tuple[int, ...]]) -> None:
    """Whole pixels and equal scores: every tie there is. The first of equals stays."""
    table = np.array(boxes, np.float32).reshape(-1, 5)
    scores = np.full((len(table), 1), 0.5)
    rows = np.hstack([table[:, :2], table[:, :2] + table[:, 2:4], scores, table[:, 4:]])
    rows = rows.astype(np.float32)
    np.testing.assert_array_equal(suppress(rows, 0.45), greedy(rows, 0.45))


def test_full_set_of_candidates() -> None:
    rows = random_rows(np.random.default_rng(5), 3840, 640, 80, crowd_px=10)
    np.testing.assert_array_equal(suppress(rows, 0.5), greedy(rows, 0.5))
    kept = suppress(rows, 0.5)
    assert 0 < len(kept) < len(rows)
    assert (np.diff(kept[:, 4]) <= 0).all()


def test_neighbouring_pixels_of_the_last_of_1000_classes() -> None:
    """IoU 0.49 and 0.51 apart by a fraction of a pixel, under the largest offset there is."""
    last, extent = 999.0, 1280.0
    corner = [0, 0, extent, extent, 0.95, 0]
    best = [1200, 1200, 1210, 1210, 0.9, last]
    shift_049, shift_051 = 10 * (1 - 0.49) / 1.49, 10 * (1 - 0.51) / 1.51
    stays = [1200 + shift_049, 1200, 1210 + shift_049, 1210, 0.8, last]
    goes = [1200 - shift_051, 1200, 1210 - shift_051, 1210, 0.7, last]
    rows = np.array([corner, best, stays, goes], np.float32)
    np.testing.assert_array_equal(suppress(rows, 0.5), rows[:3])


SAME_PLACE = [10, 10, 20, 20]
TABLE: Dict[str, List[List[float]]] = {
    "nothing": [],
    "score 0": [[*SAME_PLACE, 0, 1]],
    "score below 0": [[*SAME_PLACE, -0.5, 1]],
    "no width": [[10, 10, 10, 20, 0.9, 1]],
    "no height": [[10, 10, 20, 10, 0.9, 1]],
    "negative width": [[20, 10, 10, 20, 0.9, 1]],
    "negative height": [[10, 20, 20, 10, 0.9, 1]],
    "both negative": [[20, 20, 10, 10, 0.9, 1]],
    "coordinate nan": [[float("nan"), 10, 20, 20, 0.9, 1]],
    "coordinate inf": [[10, 10, float("inf"), 20, 0.9, 1]],
    "coordinate -inf": [[float("-inf"), 10, 20, 20, 0.9, 1]],
    "score nan": [[*SAME_PLACE, float("nan"), 1]],
    "score inf": [[*SAME_PLACE, float("inf"), 1]],
    "class nan": [[*SAME_PLACE, 0.9, float("nan")]],
}


@pytest.mark.parametrize("case", TABLE)
def test_ignores_what_is_no_box(case: str) -> None:
    """Neither is it kept nor does it harm a true box in the same place."""
    true_box = [*SAME_PLACE, 0.5, 1]
    rows = np.array([*TABLE[case], true_box], np.float32)
    assert is_box(rows).tolist() == [False] * len(TABLE[case]) + [True]
    np.testing.assert_array_equal(suppress(rows, 0.5), rows[-1:])
    assert suppress(rows[:-1], 0.5).shape == (0, 6)


def test_classes_do_not_suppress_each_other() -> None:
    rows = np.array([[*SAME_PLACE, 0.9, c] for c in range(5)], np.float32)
    assert len(suppress(rows, 0.5)) == 5


@pytest.mark.parametrize("shift_px", [320, 640, 960])
def test_classes_apart_in_a_large_input(shift_px: int) -> None:
    """Boxes that would meet if one class were moved by a smaller model's input."""
    far = [1000, 1000, 1100, 1100, 0.9, 0]
    near = [1000 - shift_px, 1000 - shift_px, 1100 - shift_px, 1100 - shift_px, 0.8, 1]
    rows = np.array([far, near], np.float32)
    np.testing.assert_array_equal(suppress(rows, 0.5), rows)


def test_absurd_box_leaves_the_others_alone() -> None:
    absurd = [-1e30, -1e30, 1e30, 1e30, 0.99, 0]
    pair = [[*SAME_PLACE, 0.9, 7], [10, 10, 20, 19, 0.8, 7], [30, 30, 40, 40, 0.7, 7]]
    rows = np.array([absurd, *pair], np.float32)
    np.testing.assert_array_equal(suppress(rows, 0.5), rows[[0, 1, 3]])


def test_leaves_its_input_alone() -> None:
    rows = random_rows(np.random.default_rng(6), 50, 640, 3, crowd_px=8)
    before = rows.copy()
    suppress(rows, 0.5)
    np.testing.assert_array_equal(rows, before)
