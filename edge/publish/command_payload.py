"""What the appliance answers to a request."""

from __future__ import annotations

from typing import Literal, Optional

from pydantic import Field

from edge import records
from edge.config.commands import Verb
from edge.publish.envelope import Header, Payload, header_fields
from edge.records import CommandStatus


class CommandResult(Payload):
    """What became of a request."""

    schema_id: Literal["edge.command.result/1"] = Field(alias="schema")
    id: Optional[str] = Field(
        None, description="The request's own; absent where it had none that could be read."
    )
    topic: str = Field(description="Where the request came in, below <prefix>/<device>/.")
    verb: Optional[Verb] = Field(None, description="Absent where there is no such command.")
    camera: Optional[str] = None
    status: CommandStatus = Field(
        description="done; refused: nothing was done; failed: it was tried; running: it came "
        "before, and its answer follows."
    )
    message: str = Field(description="In words.")
    repeated: bool = Field(
        description="True: the request came before and is carried out once; this is its answer."
    )


def command_result_payload(result: records.CommandResult, header: Header) -> CommandResult:
    """Says what became of a request."""
    return CommandResult(
        schema_id="edge.command.result/1",
        **header_fields(header),
        id=result.id,
        topic=result.topic,
        verb=result.verb,
        camera=result.camera,
        status=result.status,
        message=result.message,
        repeated=result.is_repeated,
    )
