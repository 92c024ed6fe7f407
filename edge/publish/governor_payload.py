"""What the appliance says of its governor: what is shed at present, and why."""

from __future__ import annotations

from typing import List, Literal, Optional

from pydantic import Field

from edge import records
from edge.publish.envelope import Header, Part, Payload, header_fields
from edge.records import StepKind

_DECIMALS = 2


class GovernorStep(Part):
    """One measure."""

    action: StepKind = Field(
        description="fps: a camera gives fewer frames a second; window: batches wait longer; "
        "pause: a camera is closed."
    )
    camera: Optional[str] = Field(None, description="Absent where it concerns all of them.")
    before: float = Field(ge=0, description="Frames a second, of a window milliseconds.")
    after: float = Field(ge=0, description="The same, once the step was taken.")
    reason: str = Field(description="What made it necessary, in words.")


class GovernorChange(Part):
    """The last thing that was done."""

    action: StepKind
    camera: Optional[str] = None
    undone: bool = Field(description="False: the step was taken; true: it was given back.")
    reason: str = Field(description="In words.")


class Governor(Payload):
    """What is shed to hold the targets of the section `governor`."""

    schema_id: Literal["edge.governor/1"] = Field(alias="schema")
    steps: List[GovernorStep] = Field(
        description="Those that hold, in the order of their taking; they are undone from the end."
    )
    exhausted: bool = Field(description="True: a target is missed, and nothing is left to shed.")
    change: Optional[GovernorChange] = Field(None, description="Absent before the first.")


def governor_payload(status: records.GovernorStatus, header: Header) -> Governor:
    """Says what is shed."""
    return Governor(
        schema_id="edge.governor/1",
        **header_fields(header),
        steps=[_step(step) for step in status.steps],
        exhausted=status.is_exhausted,
        change=None if status.change is None else _change(status.change),
    )


def _step(step: records.Step) -> GovernorStep:
    return GovernorStep(
        action=step.kind,
        camera=step.camera,
        before=round(step.before, _DECIMALS),
        after=round(step.after, _DECIMALS),
        reason=step.reason,
    )


def _change(change: records.GovernorChange) -> GovernorChange:
    return GovernorChange(
        action=change.step.kind,
        camera=change.step.camera,
        undone=change.is_undone,
        reason=change.reason,
    )
