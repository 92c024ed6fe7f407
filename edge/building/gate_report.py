"""What the gate found, as a record: JSON for machines, a table and a sentence for people."""

from __future__ import annotations

from enum import Enum
from typing import Iterator, List, Literal, Optional, Tuple

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Annotated  # pydantic's own dependency; typing has it from 3.9 on

Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

_TABLE_HEAD = ("class", "boxes", "AP50", "loss", "recall", "mean IoU", "score", "lost", "gained")


class Verdict(str, Enum):
    """Whether the candidate may serve."""

    PASS = "pass"
    FAIL = "fail"
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"


class Part(BaseModel):
    """Immutable, and no key that this version lacks."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False
    )


class Agreement(Part):
    """How the candidate's boxes differ from the reference's, where both are at IoU 0.5 or more.

    Losses are in AP, 0..1. `recall` is the share of the reference's boxes that the candidate
    reports as well. None where there is nothing to compute it from.
    """

    boxes: Count = Field(description="Boxes of the reference engine.")
    ap50: Optional[Fraction] = Field(None, description="AP at IoU 0.5 against these boxes.")
    loss: Optional[Fraction] = Field(None, description="What of AP50 is lost: 1 - ap50.")
    ap50_95: Optional[Fraction] = Field(None, description="Mean AP at IoU 0.5 to 0.95.")
    recall: Optional[Fraction] = Field(None, description="Share that is still reported.")
    mean_iou: Optional[Fraction] = Field(None, description="Of the boxes that both found.")
    score_shift: Optional[float] = Field(None, description="Mean change of their scores.")
    lost: Count = Field(0, description="Boxes that are no longer reported.")
    gained: Count = Field(0, description="Boxes that only the candidate reports.")


class ClassAgreement(Agreement):
    """The same of one class."""

    name: str
    has_few_boxes: bool = Field(description="Too few to count as a whole class in the overall AP.")


class LabelledLoss(Part):
    """Both engines against true labels; a negative loss means that the candidate is better."""

    images: Count
    boxes: Count
    is_judged: bool = Field(description="False: too few boxes to decide anything.")
    reference_map50: Fraction
    candidate_map50: Fraction
    reference_map50_95: Fraction
    candidate_map50_95: Fraction
    map50_loss: float
    map50_95_loss: float


class GateReport(Part):
    """The verdict on a candidate engine, and why."""

    schema_id: Literal["edge.gate/1"] = Field("edge.gate/1", alias="schema")
    verdict: Verdict
    reason: str = Field(description="Why, in words.")
    reference: str = Field(description="What was compared with: fp32, fp16.")
    candidate: str = Field(description="What was judged: fp16, int8.")
    images: Count = Field(description="Held-out images.")
    max_loss: Fraction
    min_boxes: Count
    overall: Agreement
    classes: Tuple[ClassAgreement, ...] = ()
    labelled: Optional[LabelledLoss] = None
    notes: Tuple[str, ...] = Field((), description="What a person should look at.")
    evidence_sha256: str = Field(
        "", description="Names images and limits, where the engine's fingerprint does not."
    )

    def to_json(self) -> bytes:
        """UTF-8 with the keys of the schema."""
        return self.model_dump_json(by_alias=True).encode()

    @property
    def summary(self) -> str:
        """One sentence: who, verdict, why."""
        said = {
            Verdict.PASS: "passed the gate",
            Verdict.FAIL: "failed the gate",
            Verdict.NOT_ENOUGH_EVIDENCE: "cannot be judged",
        }
        return f"{self.candidate} {said[self.verdict]}: {self.reason}"

    def lines(self) -> List[str]:
        """A table for a terminal."""
        return [
            self.summary,
            f"{self.images} held-out images; reference {self.reference}, "
            f"at most {self.max_loss:.4f} may be lost",
            *self._table(),
            *(_labelled_lines(self, self.labelled) if self.labelled else ()),
            *(f"note: {note}" for note in self.notes),
        ]

    def _table(self) -> Iterator[str]:
        if not self.classes:
            return
        rows = [
            _TABLE_HEAD,
            *(_row(one.name + "*" * one.has_few_boxes, one) for one in self.classes),
            _row("all", self.overall),
        ]
        widths = [max(map(len, column)) for column in zip(*rows)]
        for name, *cells in rows:
            aligned = (cell.rjust(width) for cell, width in zip(cells, widths[1:]))
            yield "  ".join([name.ljust(widths[0]), *aligned])
        if any(one.has_few_boxes for one in self.classes):
            yield "* few boxes: counts for less in `all`"


def _row(name: str, one: Agreement) -> Tuple[str, ...]:
    return (
        name,
        str(one.boxes),
        _number(one.ap50, ".4f"),
        _number(one.loss, ".4f"),
        _number(one.recall, ".3f"),
        _number(one.mean_iou, ".3f"),
        _number(one.score_shift, "+.3f"),
        str(one.lost),
        str(one.gained),
    )


def _number(value: Optional[float], form: str) -> str:
    return "-" if value is None else format(value, form)


def _labelled_lines(report: GateReport, labelled: LabelledLoss) -> Iterator[str]:
    weight = "" if labelled.is_judged else ", too few to decide anything"
    yield f"{labelled.boxes} true labels on {labelled.images} images{weight}"
    rows = (
        ("mAP50", labelled.reference_map50, labelled.candidate_map50, labelled.map50_loss),
        (
            "mAP50-95",
            labelled.reference_map50_95,
            labelled.candidate_map50_95,
            labelled.map50_95_loss,
        ),
    )
    for name, before, after, loss in rows:
        engines = f"{report.reference} {before:.4f}  {report.candidate} {after:.4f}"
        yield f"  {name:<8}  {engines}  loss {loss:+.4f}"
