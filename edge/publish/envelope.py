"""What every JSON message has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Annotated  # pydantic's own dependency; typing has it from 3.9 on

from edge.clock import rfc3339

Count = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """Base of everything inside a message: immutable, and no key that the schema lacks."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False
    )


class Payload(Part):
    """A message's header; `ts` is RFC 3339 in UTC, `ts_ms` the same in milliseconds since 1970."""

    schema_id: str = Field(alias="schema", description="Name and version of this format.")
    device: str = Field(description="The appliance.")
    session: Count = Field(description="Grows with every start of the appliance.")
    seq: Count = Field(
        description="Counts the session's messages on this topic; a gap is a lost message, or on "
        "a retained topic a state that was replaced before it was sent."
    )
    ts: str = Field(description="Time of sending, for detections time of capture; UTC.")
    ts_ms: Count = Field(description="The same in milliseconds since 1970.")

    def to_json(self) -> bytes:
        """UTF-8 bytes for the wire."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


@dataclass(frozen=True)
class Header:
    """Who sends a message and when; `unix_ms` becomes `ts` and `ts_ms`."""

    device: str
    session: int
    seq: int
    unix_ms: int


def header_fields(header: Header, unix_ms: Optional[int] = None) -> Dict[str, Any]:
    """A payload's header but for its schema; `unix_ms` is its time where that is not `header`'s."""
    moment_ms = header.unix_ms if unix_ms is None else unix_ms
    return {
        "device": header.device,
        "session": header.session,
        "seq": header.seq,
        "ts": rfc3339(moment_ms),
        "ts_ms": moment_ms,
    }
