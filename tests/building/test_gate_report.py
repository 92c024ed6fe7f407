from __future__ import annotations

import json
from typing import Any, Dict

import pytest
from pydantic import ValidationError

from edge.building.gate import Gate
from edge.building.gate_report import GateReport, Verdict
from edge.config.schema import GateConfig
from tests.building.scored_boxes import detections, line_of, predictions


def report(min_boxes: int = 100) -> GateReport:
    before = line_of(120) + line_of(30, 2)
    after = line_of(118, score=0.7) + line_of(29, 2) + line_of(2, 1)
    truth = (detections(line_of(120)),)
    gate = Gate(GateConfig(min_boxes=min_boxes), ("bolt", "nut", "washer"), 0.2)
    return gate.judge(predictions("fp16", [before]), predictions("int8", [after]), truth)


REPORTS = {
    "judged": report(),
    "not enough evidence": report(min_boxes=151),
    "broken": Gate(GateConfig(), ("bolt",), 0.2).judge(
        predictions("fp32", [line_of(1)]), predictions("fp16", [[]], unsound_images=1)
    ),
}


@pytest.mark.parametrize("original", REPORTS.values(), ids=REPORTS)
def test_survives_json(original: GateReport) -> None:
    data = original.to_json()
    assert GateReport.model_validate_json(data) == original
    assert json.loads(data)["schema"] == "edge.gate/1"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"schema": "edge.gate/2"}, id="another version"),
        pytest.param({"verdict": "maybe"}, id="no verdict"),
        pytest.param({"surprise": 1}, id="a key too many"),
        pytest.param({"images": -1}, id="fewer than no images"),
        pytest.param({"overall": {"boxes": 1, "ap50": 1.5}}, id="AP above 1"),
    ],
)
def test_anything_else_is_refused(change: Dict[str, Any]) -> None:
    original = json.loads(report().to_json())
    with pytest.raises(ValueError, match="validation error"):
        GateReport.model_validate_json(json.dumps({**original, **change}).encode())


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff\xfe", b'{"schema": "edge.gate/1"}'])
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        GateReport.model_validate_json(data)


def test_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        report().verdict = Verdict.PASS  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("judged", "int8 failed the gate: AP50 loss 0."),
        ("not enough evidence", "int8 cannot be judged: fp16 found 150 boxes on 1 held-out"),
        ("broken", "fp16 failed the gate: fp16 gives numbers that mean nothing"),
    ],
)
def test_the_summary_is_one_line(name: str, start: str) -> None:
    summary = REPORTS[name].summary
    assert summary.startswith(start)
    assert "\n" not in summary


def test_a_passing_summary() -> None:
    rows = line_of(3)
    gate = Gate(GateConfig(min_boxes=3), ("bolt",), 0.2)
    passed = gate.judge(predictions("fp16", [rows]), predictions("int8", [rows]))
    assert passed.summary == (
        "int8 passed the gate: AP50 loss 0.0000 over 3 boxes of fp16; gate.max_loss allows 0.0100"
    )


def test_lines_make_a_table() -> None:
    lines = report().lines()
    first = next(n for n, line in enumerate(lines) if line.startswith("class"))
    table = lines[first : first + 5]
    assert [line.split()[0] for line in table] == ["class", "bolt", "nut*", "washer*", "all"]
    assert len({len(line) for line in table}) == 1
    assert " ".join(table[1].split()) == "bolt 120 0.9833 0.0167 0.983 1.000 -0.100 2 0"
    # The candidate alone sees nuts: there is nothing to compare them with.
    assert " ".join(table[2].split()) == "nut* 0 0.0000 1.0000 - - - 0 2"
    assert lines[first + 5] == "* few boxes: counts for less in `all`"


def test_lines_tell_of_labels_and_notes() -> None:
    text = "\n".join(report().lines())
    assert "120 true labels on 1 images\n" in text
    assert "  mAP50     fp16 1.0000  int8 0.9802  loss +0.0198\n" in text
    assert "note: scores of 'bolt' are 0.10 lower" in text


def test_lines_say_which_labels_do_not_decide() -> None:
    text = "\n".join(report(min_boxes=121).lines())
    assert "120 true labels on 1 images, too few to decide anything" in text


def test_lines_without_numbers_have_no_table() -> None:
    assert len(REPORTS["broken"].lines()) == 2
