"""What others ask of the appliance, and what it answers.

A verb that is new needs a member of `Verb`, its request here, and what it does in
`edge/control.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Dict, Literal, Mapping, Optional, Tuple, Type

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Annotated

from edge.config.camera import CAMERA_NAME
from edge.config.commands import Verb

RequestId = Annotated[str, Field(min_length=1, max_length=64)]
CameraName = Annotated[str, Field(pattern=CAMERA_NAME)]


@dataclass(frozen=True)
class Inbound:
    """A message from the broker; `topic` is what follows <prefix>/<device>/."""

    topic: str
    payload: bytes
    is_retained: bool = False


def _require_id(schema: Dict[str, Any]) -> None:
    schema["required"] = ["id", *schema.get("required", ())]


class Request(BaseModel):
    """Asks for something; without an `id` only where a setting's own topic was used."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        populate_by_name=True,
        allow_inf_nan=False,
        json_schema_extra=_require_id,
    )

    verb: ClassVar[Verb]
    schema_id: str = Field(alias="schema", description="Name and version of this format.")
    id: Optional[RequestId] = Field(
        None,
        description="The sender's choice, new for every request: the answers carry it, and a "
        "request that comes twice is carried out once.",
    )

    @property
    def subject(self) -> Optional[str]:
        """The camera it is about; None where it is about the appliance."""
        return None


class CameraRequest(Request):
    """Asks for something of one camera."""

    camera: CameraName = Field(description="The camera's name.")

    @property
    def subject(self) -> Optional[str]:
        """The camera it is about."""
        return self.camera


class Snapshot(CameraRequest):
    """Asks for a camera's newest frame, as a JPEG on its snapshot topic."""

    verb: ClassVar[Verb] = Verb.SNAPSHOT
    schema_id: Literal["edge.command.snapshot/1"] = Field("edge.command.snapshot/1", alias="schema")


class Enable(CameraRequest):
    """Has a camera opened."""

    verb: ClassVar[Verb] = Verb.ENABLE
    schema_id: Literal["edge.command.enable/1"] = Field("edge.command.enable/1", alias="schema")


class Disable(CameraRequest):
    """Has a camera closed."""

    verb: ClassVar[Verb] = Verb.DISABLE
    schema_id: Literal["edge.command.disable/1"] = Field("edge.command.disable/1", alias="schema")


class Prioritize(CameraRequest):
    """Gives a camera priority, or takes it away."""

    verb: ClassVar[Verb] = Verb.PRIORITIZE
    schema_id: Literal["edge.command.prioritize/1"] = Field(
        "edge.command.prioritize/1", alias="schema"
    )
    priority: bool = Field(True, description="False takes it away.")


class Threshold(Request):
    """Sets the score below which boxes are dropped."""

    verb: ClassVar[Verb] = Verb.THRESHOLD
    schema_id: Literal["edge.command.threshold/1"] = Field(
        "edge.command.threshold/1", alias="schema"
    )
    camera: Optional[CameraName] = Field(
        None, description="The camera's name; absent: of all cameras that have none of their own."
    )
    score: float = Field(ge=0, le=1, description="Boxes scored below are dropped.")

    @property
    def subject(self) -> Optional[str]:
        """The camera it is about, if it is about one."""
        return self.camera


class Rebuild(Request):
    """Has the engine made anew while the present one serves."""

    verb: ClassVar[Verb] = Verb.REBUILD
    schema_id: Literal["edge.command.rebuild/1"] = Field("edge.command.rebuild/1", alias="schema")


class Reload(Request):
    """Has the configuration file read again."""

    verb: ClassVar[Verb] = Verb.RELOAD
    schema_id: Literal["edge.command.reload/1"] = Field("edge.command.reload/1", alias="schema")


class Restart(Request):
    """Has the daemon stop in order, for its supervisor to start it again."""

    verb: ClassVar[Verb] = Verb.RESTART
    schema_id: Literal["edge.command.restart/1"] = Field("edge.command.restart/1", alias="schema")


REQUESTS: Mapping[Verb, Type[Request]] = {
    kind.verb: kind
    for kind in (Snapshot, Enable, Disable, Prioritize, Threshold, Rebuild, Reload, Restart)
}


class Setting(str, Enum):
    """A key of a camera that has a topic of its own to be set on."""

    ENABLED = "enabled"
    PRIORITY = "priority"
    SCORE_THRESHOLD = "score_threshold"

    @property
    def verbs(self) -> Tuple[Verb, ...]:
        """What it comes to."""
        return _SETTING_VERBS[self]


_SETTING_VERBS = {
    Setting.ENABLED: (Verb.ENABLE, Verb.DISABLE),
    Setting.PRIORITY: (Verb.PRIORITIZE,),
    Setting.SCORE_THRESHOLD: (Verb.THRESHOLD,),
}


class CommandStatus(str, Enum):
    """What became of a request."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    RUNNING = "running"


@dataclass(frozen=True)
class CommandResult:
    """The answer to a request that came in on `topic`; `is_repeated` where it came before."""

    topic: str
    status: CommandStatus
    message: str
    verb: Optional[Verb] = None
    id: Optional[str] = None
    camera: Optional[str] = None
    is_repeated: bool = False


@dataclass(frozen=True)
class CommandCounters:
    """What became of all requests; `retained` were never looked at."""

    done: int = 0
    refused: int = 0
    failed: int = 0
    repeated: int = 0
    retained: int = 0
