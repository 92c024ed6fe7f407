"""What the outbox has lost, as a message."""

from __future__ import annotations

from typing import List, Literal, Optional, Sequence

from pydantic import Field

from edge.publish.envelope import Count, Header, Part, Payload, header_fields
from edge.publish.outbox.entry import DropCause, Kind
from edge.publish.outbox.loss import Loss


class LossPart(Part):
    """Messages that never reached the broker, or may not have."""

    cause: DropCause = Field(
        description="full: the outbox was as large as it may be. expired: too old. memory_full: "
        "the disk took nothing, and memory could hold no more. too_large: larger than the whole "
        "outbox may be. damaged: the file lost it. stopped: the appliance ended while the disk "
        "took nothing."
    )
    kind: Optional[Kind] = Field(None, description="Absent where the damaged file could not tell.")
    count: Count = Field(description="Since the outbox's file was made; of damaged ones at most.")


class OutboxPayload(Payload):
    """How the outbox does."""

    schema_id: Literal["edge.outbox/1"] = Field(alias="schema")
    trouble: str = Field(description="Why its disk takes nothing, in words; empty while it does.")
    losses: List[LossPart]


def outbox_payload(trouble: str, losses: Sequence[Loss], header: Header) -> OutboxPayload:
    """Says what the outbox has lost and why its disk takes nothing."""
    parts = [LossPart(cause=loss.cause, kind=loss.kind, count=loss.count) for loss in losses]
    return OutboxPayload(
        schema_id="edge.outbox/1", **header_fields(header), trouble=trouble, losses=parts
    )
