from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.building.gate import Gate, Predictions, images_to_add
from edge.building.gate_report import GateReport, Verdict
from edge.config.schema import GateConfig
from edge.records import Detections
from tests.building.scored_boxes import Row, detections, line_of, predictions

NAMES = ("bolt", "nut", "washer")


def gate(max_loss: float = 0.01, min_boxes: int = 500, holdout: float = 0.2) -> Gate:
    return Gate(GateConfig(max_loss=max_loss, min_boxes=min_boxes), NAMES, holdout)


def fp16(images: Sequence[Sequence[Row]], **keys: Any) -> Predictions:
    return predictions("fp16", images, **keys)


def int8(images: Sequence[Sequence[Row]], **keys: Any) -> Predictions:
    return predictions("int8", images, **keys)


def judged(lost: int, total: int = 1000, **keys: Any) -> GateReport:
    """A gate's report where the candidate does not find the last boxes of a single class."""
    row = line_of(total)
    return gate(**keys).judge(fp16([row]), int8([row[: total - lost]]))


# --- the loss --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "max_loss", "verdict"),
    [
        pytest.param(0, 0.0, Verdict.PASS, id="nothing lost, nothing allowed"),
        pytest.param(1, 0.0, Verdict.FAIL, id="one box lost, nothing allowed"),
        pytest.param(10, 0.01, Verdict.PASS, id="exactly what is allowed"),
        pytest.param(11, 0.01, Verdict.FAIL, id="one box more"),
        pytest.param(999, 1.0, Verdict.PASS, id="everything is allowed"),
    ],
)
def test_max_loss(lost: int, max_loss: float, verdict: Verdict) -> None:
    report = judged(lost, max_loss=max_loss)
    assert report.verdict is verdict
    assert report.overall.loss == pytest.approx(lost / 1000)
    assert f"AP50 loss {lost / 1000:.4f} over 1000 boxes of fp16" in report.reason
    assert f"gate.max_loss allows {max_loss:.4f}" in report.reason


def test_an_engine_against_itself_loses_exactly_nothing() -> None:
    images = [line_of(7, 0, 0.9), [], line_of(30, 1, 0.3) + line_of(5, 2, 0.01)]
    report = gate(max_loss=0, min_boxes=1).judge(fp16(images), int8(images))
    assert report.verdict is Verdict.PASS
    assert report.overall.loss == 0.0
    assert report.overall.boxes == 37  # those below 0.25 are no pseudo-labels


@pytest.mark.parametrize(("score", "boxes"), [(0.25, 1), (0.2499, 0)])
def test_what_the_reference_is_sure_of_is_taken_for_true(score: float, boxes: int) -> None:
    images = [line_of(1, score=score)]
    report = gate(min_boxes=1).judge(fp16(images), int8(images))
    assert report.overall.boxes == boxes


# --- the evidence ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("boxes", "verdict"), [(499, Verdict.NOT_ENOUGH_EVIDENCE), (500, Verdict.PASS)]
)
def test_min_boxes(boxes: int, verdict: Verdict) -> None:
    assert judged(0, total=boxes).verdict is verdict


def test_too_few_boxes_say_how_many_images_are_missing() -> None:
    images = [line_of(10)] * 40
    report = gate().judge(fp16(images), int8(images))
    assert report.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    # 500 boxes need 50 images like these; 10 more are held out of 50.
    assert "found 400 boxes on 40 held-out images and gate.min_boxes is 500" in report.reason
    assert "add about 50 images" in report.reason
    assert "20% are held out" in report.reason
    assert report.overall.ap50 == 1.0  # what there is, is reported


@pytest.mark.parametrize(
    ("boxes", "images", "min_boxes", "holdout", "expected"),
    [
        pytest.param(400, 40, 500, 0.2, 50, id="a fifth held out"),
        pytest.param(400, 40, 500, 0.5, 20, id="half held out"),
        pytest.param(399, 40, 500, 0.2, 55, id="one box fewer"),
        pytest.param(499, 100, 500, 0.2, 5, id="one box missing"),
        pytest.param(1, 1, 500, 0.05, 9980, id="a single box"),
    ],
)
def test_images_to_add(
    boxes: int, images: int, min_boxes: int, holdout: float, expected: int
) -> None:
    assert images_to_add(boxes, images, min_boxes, holdout) == expected


@given(st.integers(1, 499), st.integers(1, 400), st.floats(0.05, 0.5, allow_nan=False))
def test_images_to_add_suffice_at_the_same_density(boxes: int, images: int, holdout: float) -> None:
    more = images_to_add(boxes, images, 500, holdout)
    assert (images + more * holdout) * boxes / images >= 500 * (1 - 1e-9)
    assert (images + (more - 1) * holdout - 1) * boxes / images < 500 * (1 + 1e-9)


def test_a_reference_that_finds_nothing_is_no_evidence() -> None:
    report = gate().judge(fp16([[], []]), int8([[], []]))
    assert report.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert "fp16 found no box on 2 held-out images" in report.reason
    assert report.overall.loss is None


def test_no_images_at_all_are_no_evidence() -> None:
    assert gate().judge(fp16([]), int8([])).verdict is Verdict.NOT_ENOUGH_EVIDENCE


# --- engines that are broken -----------------------------------------------------------------

SEEN = [line_of(3), line_of(2)]


@pytest.mark.parametrize(
    ("reference", "candidate", "reason"),
    [
        pytest.param(
            fp16(SEEN), int8(SEEN, unsound_images=2),
            "int8 gives numbers that mean nothing (NaN, infinite or no such class) on 2 of 2",
            id="candidate without numbers",
        ),
        pytest.param(
            fp16(SEEN, unsound_images=1), int8(SEEN), "fp16 gives numbers that mean nothing",
            id="reference without numbers",
        ),
        pytest.param(
            fp16(SEEN), int8([[], []], top_score=0.0),
            "every score of int8 is 0 on all 2 images, where fp16 found 5 boxes",
            id="all zero",
        ),
        pytest.param(
            fp16(SEEN), int8([[], []], top_score=0.0009),
            "int8 finds no box on any of 2 images, where fp16 found 5 boxes",
            id="no boxes",
        ),
        pytest.param(
            fp16([[], []], top_score=0.1), int8([[], []], top_score=0.0),
            "every score of int8 is 0",
            id="all zero where there is little to find",
        ),
    ],
)  # fmt: skip
def test_a_broken_engine_fails_however_few_images_there_are(
    reference: Predictions, candidate: Predictions, reason: str
) -> None:
    report = gate().judge(reference, candidate)
    assert report.verdict is Verdict.FAIL
    assert reason in report.reason
    assert report.summary == f"int8 failed the gate: {report.reason}"


def test_a_candidate_that_finds_one_box_is_judged_like_any_other() -> None:
    report = gate(min_boxes=5).judge(fp16(SEEN), int8([line_of(1), []]))
    assert report.verdict is Verdict.FAIL
    assert report.overall.lost == 4


# --- true labels -----------------------------------------------------------------------------


def with_labels(
    labels: List[Row], before: List[Row], after: List[Row], min_boxes: int = 100
) -> GateReport:
    """Two images: all engines agree on the first, which nobody has labelled."""
    shared = line_of(1000, 1)
    truth: Sequence[Optional[Detections]] = (None, detections(labels))
    return gate(min_boxes=min_boxes).judge(fp16([shared, before]), int8([shared, after]), truth)


@pytest.mark.parametrize(
    ("lost", "verdict"),
    [
        # 101 recalls are sampled: one sample is lost in either case, or two.
        pytest.param(1, Verdict.PASS, id="within what is allowed"),
        pytest.param(20, Verdict.FAIL, id="beyond it"),
    ],
)
def test_labels_are_judged_by_the_same_measure(lost: int, verdict: Verdict) -> None:
    low = line_of(200, score=0.2)  # no pseudo-labels: only the true labels tell
    report = with_labels(line_of(200), low, low[: 200 - lost])
    assert report.overall.loss == 0.0
    assert report.labelled is not None
    assert report.labelled.map50_loss == pytest.approx(lost / 200, abs=0.0051)
    assert report.verdict is verdict
    assert "over 200 true labels" in report.reason


def test_map50_95_may_fail_where_map50_does_not() -> None:
    exact = line_of(200, score=0.2)
    loose = [(x1, y1, x2, y2 - 2, score, k) for x1, y1, x2, y2, score, k in exact]
    report = with_labels(line_of(200), exact, loose)
    assert report.labelled is not None
    assert report.labelled.map50_loss == 0.0
    assert report.labelled.map50_95_loss == pytest.approx(0.3)
    assert report.verdict is Verdict.FAIL


def test_a_better_candidate_has_a_negative_loss() -> None:
    low = line_of(200, score=0.2)
    report = with_labels(line_of(200), low[:100], low)
    assert report.labelled is not None
    assert report.labelled.map50_loss == pytest.approx(-50 / 101)
    assert report.verdict is Verdict.PASS


@pytest.mark.parametrize(("found", "is_doubted"), [(30, True), (60, False)])
def test_labels_that_even_the_reference_misses_are_doubted(found: int, is_doubted: bool) -> None:
    boxes = line_of(200, score=0.2)[:found]
    report = with_labels(line_of(200), boxes, boxes)
    assert any("are they of these images" in note for note in report.notes) is is_doubted


@pytest.mark.parametrize(
    ("count", "is_judged", "verdict"),
    [(99, False, Verdict.PASS), (100, True, Verdict.FAIL)],
)
def test_few_labels_are_told_but_decide_nothing(
    count: int, is_judged: bool, verdict: Verdict
) -> None:
    report = with_labels(line_of(count), line_of(count, score=0.2), [])
    assert report.labelled is not None
    assert report.labelled.is_judged is is_judged
    assert report.labelled.map50_loss == 1.0
    assert report.verdict is verdict


@pytest.mark.parametrize(
    "truth", [None, (None, None), (detections([]), None)], ids=["none", "no files", "no objects"]
)
def test_without_labelled_boxes_there_is_no_labelled_loss(truth: Any) -> None:
    report = gate(min_boxes=5).judge(fp16(SEEN), int8(SEEN), truth)
    assert report.labelled is None


@pytest.mark.parametrize(
    ("candidate", "truth"),
    [(int8([[]]), None), (int8(SEEN), (None,))],
    ids=["engines", "labels"],
)
def test_other_images_are_refused(candidate: Predictions, truth: Any) -> None:
    with pytest.raises(ValueError, match="expected 2 images"):
        gate().judge(fp16(SEEN), candidate, truth)


# --- what AP does not see --------------------------------------------------------------------


def shifted(by: float) -> List[Row]:
    return [(a, b + by, c, d + by, s, k) for a, b, c, d, s, k in line_of(1000)]


@pytest.mark.parametrize(
    ("after", "max_loss", "said"),
    [
        pytest.param(line_of(1000, score=0.25), 0.01, None, id="just reported"),
        pytest.param(
            line_of(1000, score=0.24), 0.01, "reports 0 boxes for these 1000, and 5% more or fewer",
            id="every score below what is reported",
        ),
        pytest.param(line_of(1000, score=0.24), 1.0, None, id="everything is allowed"),
        pytest.param(line_of(950), 0.05, None, id="5 % are gone, and may be"),
        pytest.param(
            [*line_of(949), *[(*row[:4], 0.2, 0) for row in line_of(1000)[949:]]], 0.01,
            "reports 949 boxes", id="a box more",
        ),
        pytest.param(
            [*line_of(950), *[(*row[:4], 0.2, 0) for row in line_of(1000)[950:]]], 0.01, None,
            id="as many as may fall below it",
        ),
        pytest.param(
            [*line_of(1000, score=0.9), *[(*row[:4], 0.5, 0) for row in line_of(1050)[1000:]]],
            0.01, None, id="as many new ones as may be",
        ),
        pytest.param(
            [*line_of(1000, score=0.9), *[(*row[:4], 0.5, 0) for row in line_of(1051)[1000:]]],
            0.01, "reports 1051 boxes", id="a flood of new ones",
        ),
        pytest.param(shifted(1.4), 0.01, None, id="IoU 0.754"),
        pytest.param(shifted(1.5), 0.01, "overlap theirs by 0.74, at least 0.75", id="IoU 0.74"),
        pytest.param(shifted(3.3), 0.01, "overlap theirs by 0.50", id="slipped by a third"),
    ],
)  # fmt: skip
def test_an_engine_that_is_of_no_use_fails_though_it_loses_no_ap(
    after: List[Row], max_loss: float, said: Optional[str]
) -> None:
    report = gate(max_loss=max_loss).judge(fp16([line_of(1000)]), int8([after]))
    assert report.overall.loss is not None
    assert report.overall.loss <= max_loss + 1e-9
    assert report.verdict is (Verdict.PASS if said is None else Verdict.FAIL)
    assert said is None or said in report.reason


# --- notes -----------------------------------------------------------------------------------

HUNDRED = line_of(100)


def notes(after: List[Row], max_loss: float = 0.01) -> Tuple[str, ...]:
    return gate(max_loss=max_loss, min_boxes=1).judge(fp16([HUNDRED]), int8([after])).notes


@pytest.mark.parametrize(
    ("after", "said"),
    [
        pytest.param(HUNDRED[:98], None, id="two lost of a hundred"),
        pytest.param(HUNDRED[:97], "'bolt' lost 0.0300 of its AP50, 3 of 100 boxes", id="three"),
        pytest.param(line_of(100, score=0.76), None, id="scores a little lower"),
        pytest.param(line_of(100, score=0.74), "scores of 'bolt' are 0.06 lower", id="lower"),
        pytest.param(line_of(100, score=0.86), "scores of 'bolt' are 0.06 higher", id="higher"),
        pytest.param(line_of(105), None, id="five new"),
        pytest.param(line_of(106), "6 boxes are new, beside 100 known ones", id="six new"),
        pytest.param([(a, b, c, d - 1, s, k) for a, b, c, d, s, k in HUNDRED], None, id="IoU 0.9"),
        pytest.param(
            [(a, b, c, d - 1.1, s, k) for a, b, c, d, s, k in HUNDRED],
            "boxes lie less exactly: they overlap those of before by 0.89", id="IoU 0.89",
        ),
    ],
)  # fmt: skip
def test_notes(after: List[Row], said: Optional[str]) -> None:
    found = notes(after)
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_the_worst_classes_are_noted_first() -> None:
    before = line_of(100) + line_of(100, 1) + line_of(100, 2)
    after = line_of(90) + line_of(50, 1) + line_of(100, 2)
    report = gate(min_boxes=1).judge(fp16([before]), int8([after]))
    assert [note.split()[0] for note in report.notes] == ["'nut'", "'bolt'"]
