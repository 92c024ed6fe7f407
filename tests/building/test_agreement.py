from __future__ import annotations

from typing import List, Optional

import numpy as np
import pytest

from edge.building.agreement import Comparison, weighted_mean
from edge.building.average_precision import Gathered
from edge.building.gate_report import Agreement
from tests.building.scored_boxes import Row, detections, line_of

NAMES = ("bolt", "nut", "washer")


def compared(found: List[Row], labels: List[Row]) -> Comparison:
    return Comparison(Gathered.of([detections(found)]), Gathered.of([detections(labels)]), NAMES)


@pytest.mark.parametrize(
    ("values", "counts", "expected"),
    [
        pytest.param([1.0, 0.5], [100, 100], 0.75, id="whole classes count alike"),
        pytest.param([1.0, 0.5], [100, 9000], 0.75, id="more than enough counts no more"),
        pytest.param([1.0, 0.5], [100, 99], (1 + 0.5 * 0.99) / 1.99, id="one box too few"),
        pytest.param([1.0, 0.0], [100, 1], 1 / 1.01, id="a class of one box"),
        pytest.param([1.0, 0.0], [3, 1], 0.75, id="only rare classes: by their boxes"),
        pytest.param([0.5, 0.0], [100, 0], 0.5, id="no boxes, no weight"),
    ],
)
def test_weighted_mean(values: List[float], counts: List[int], expected: float) -> None:
    assert weighted_mean(np.array(values), np.array(counts)) == pytest.approx(expected)


def test_weighted_mean_of_nothing() -> None:
    assert np.isnan(weighted_mean(np.zeros(2), np.zeros(2, np.int64)))


@pytest.mark.parametrize("counts", [[500], [400, 1], [2, 3, 1], [100] * 40, [6] * 80])
def test_one_lost_box_costs_no_more_than_the_default_allowance(counts: List[int]) -> None:
    boxes = np.array(counts)
    for class_id in range(len(counts)):
        ap50 = np.ones(len(counts))
        ap50[class_id] -= 1 / boxes[class_id]
        total = min(int(boxes.sum()), 100)
        assert 1 - weighted_mean(ap50, boxes) <= 1 / total + 1e-12


def test_the_same_boxes_agree_in_everything() -> None:
    rows = line_of(5) + line_of(2, class_id=2)
    comparison = compared(rows, rows)
    assert comparison.overall() == Agreement(
        boxes=7, ap50=1, loss=0, ap50_95=1, recall=1, mean_iou=1, score_shift=0, lost=0, gained=0
    )
    assert [(one.name, one.boxes) for one in comparison.classes()] == [("bolt", 5), ("washer", 2)]


def scores(*values: float) -> List[Row]:
    return [(*row[:4], score, 0) for row, score in zip(line_of(len(values)), values)]


@pytest.mark.parametrize(
    ("found", "lost", "gained", "ap50", "shift"),
    [
        pytest.param(scores(0.5, 0.25), 0, 0, 1.0, -0.425, id="just reported"),
        pytest.param(scores(0.5, 0.2499), 1, 0, 1.0, -0.42505, id="just not, but the AP sees it"),
        pytest.param(scores(0.5), 1, 0, 0.5, -0.3, id="not found"),
        pytest.param(scores(0.8, 0.8, 0.25), 0, 1, 1.0, 0.0, id="a new one, behind the others"),
        pytest.param(scores(0.8, 0.8, 0.2499), 0, 0, 1.0, 0.0, id="a new one nobody sees"),
        pytest.param(scores(0.8, 0.5, 0.6), 0, 1, 5 / 6, -0.15, id="a new one before another"),
    ],
)
def test_scores_against_two_boxes_of_080(
    found: List[Row], lost: int, gained: int, ap50: float, shift: float
) -> None:
    overall = compared(found, line_of(2)).overall()
    assert (overall.lost, overall.gained) == (lost, gained)
    assert overall.recall == 1 - lost / 2
    assert overall.ap50 == pytest.approx(ap50)
    assert overall.loss == pytest.approx(1 - ap50)
    assert overall.score_shift == pytest.approx(shift, abs=1e-6)


def test_moved_boxes_lower_the_mean_iou() -> None:
    overall = compared([(0, 0, 10, 5, 0.8, 0)], [(0, 0, 10, 10, 0.8, 0)]).overall()
    assert overall.mean_iou == 0.5
    assert overall.ap50 == 1.0
    assert overall.ap50_95 == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("found", "ap50"),
    [
        pytest.param(line_of(100) + line_of(1, 1), 1 / 1.01, id="one box of a class never seen"),
        pytest.param(line_of(100) + line_of(100, 1), 0.5, id="a hundred of them"),
        pytest.param(line_of(100) + line_of(9, 1, score=0.2), 1.0, id="too unsure to be reported"),
    ],
)
def test_a_class_that_only_the_candidate_sees_counts(found: List[Row], ap50: float) -> None:
    assert compared(found, line_of(100)).overall().ap50 == pytest.approx(ap50)


@pytest.mark.parametrize(("count", "has_few_boxes"), [(99, True), (100, False)])
def test_rare_classes_are_flagged(count: int, has_few_boxes: bool) -> None:
    rows = line_of(count)
    (only,) = compared(rows, rows).classes()
    assert only.has_few_boxes is has_few_boxes


def test_nothing_on_either_side_has_no_numbers() -> None:
    overall: Optional[Agreement] = compared([], []).overall()
    assert overall == Agreement(boxes=0)
    assert compared([], []).classes() == ()
