from __future__ import annotations

from typing import List

import pytest

from edge.building.disagreement import Mark, rank
from tests.building.scored_boxes import Row, line_of, predictions

SAME, MOVED, LOST, GAINED = Mark.SAME, Mark.MOVED, Mark.LOST, Mark.GAINED

BOX: Row = (0, 0, 100, 100, 0.8, 0)
AWAY: Row = (200, 0, 300, 100, 0.5, 0)


@pytest.mark.parametrize(
    ("after", "marks_before", "marks_after", "weight"),
    [
        pytest.param([], [LOST], [], 0.8, id="lost"),
        pytest.param([(0, 0, 100, 100, 0.2, 0)], [LOST], [], 0.6, id="fallen below the reported"),
        pytest.param([BOX, AWAY], [SAME], [SAME, GAINED], 0.5, id="gained"),
        pytest.param([(0, 0, 100, 74, 0.8, 0)], [MOVED], [MOVED], 0.8 * 0.26, id="IoU below 0.75"),
        pytest.param([(0, 0, 100, 49, 0.8, 0)], [LOST], [GAINED], 1.6, id="IoU below 0.5"),
        pytest.param([(0, 0, 100, 100, 0.8, 1)], [LOST], [GAINED], 1.6, id="another class"),
    ],
)
def test_marks_and_weight(
    after: List[Row], marks_before: List[Mark], marks_after: List[Mark], weight: float
) -> None:
    (only,) = rank(predictions("fp16", [[BOX]]), predictions("int8", [after]))
    assert list(only.reference.marks) == marks_before
    assert list(only.candidate.marks) == marks_after
    assert only.weight == pytest.approx(weight, abs=1e-6)
    assert only.reference.count(LOST) == marks_before.count(LOST)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param([BOX], id="the very same"),
        pytest.param([(0, 0, 100, 75, 0.8, 0)], id="IoU 0.75"),
        pytest.param([(0, 0, 100, 100, 0.25, 0)], id="just reported"),
        pytest.param([BOX, (200, 0, 300, 100, 0.2499, 0)], id="a new one nobody sees"),
    ],
)
def test_agreements_are_left_out(after: List[Row]) -> None:
    assert rank(predictions("fp16", [[BOX]]), predictions("int8", [after])) == []


def test_the_worst_image_comes_first() -> None:
    before = [line_of(3), [], line_of(3), line_of(3)]
    after = [line_of(2), [], [], line_of(3) + line_of(1, 1, score=0.9)]
    ranked = rank(predictions("fp16", before), predictions("int8", after))
    assert [one.image for one in ranked] == [2, 3, 0]
    assert [len(one.candidate.detections) for one in ranked] == [0, 4, 2]
    for one in ranked:
        assert len(one.candidate.marks) == len(one.candidate.detections)
        assert len(one.reference.marks) == len(one.reference.detections)


def test_low_scores_between_reported_ones_do_not_shift_the_marks() -> None:
    after = [(500.0, 0.0, 510.0, 10.0, 0.1, 0), AWAY, BOX]
    (only,) = rank(predictions("fp16", [[BOX]]), predictions("int8", [after]))
    assert list(only.candidate.marks) == [GAINED, SAME]
    assert only.candidate.detections.scores.tolist() == [0.5, pytest.approx(0.8)]
