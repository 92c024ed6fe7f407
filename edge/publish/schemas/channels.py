"""Every topic of the appliance: what is said on it, how surely, and for whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Dict, Optional, Tuple, get_args

from edge.config.commands import Verb
from edge.publish.camera_payload import CameraStats, CameraStatus
from edge.publish.command_payload import CommandResult
from edge.publish.engine_payload import Engine
from edge.publish.event_payload import Alert, Event
from edge.publish.governor_payload import Governor
from edge.publish.outbox_payload import OutboxPayload
from edge.publish.payload import Detections, Health, Info, State
from edge.publish.topics import Topics
from edge.records.commands import REQUESTS, Setting

_TOPICS = Topics("{prefix}", "{device}")

Schema = Dict[str, Any]


class Way(str, Enum):
    """Who says it, in AsyncAPI's words: what the appliance does."""

    SEND = "send"
    RECEIVE = "receive"


@dataclass(frozen=True)
class Channel:
    """One kind of topic; levels in braces vary.

    `payload` is a model, or the schema of bare text. Where it `may_be_empty`, an empty message
    says that what was said before holds no more.
    """

    name: str
    address: str
    summary: str
    payload: Any
    qos: int = 0
    retain: bool = False
    may_be_empty: bool = False
    way: Way = Way.SEND
    content_type: str = "application/json"


def _bare(
    name: str, address: str, summary: str, schema: Schema, *, may_be_empty: bool = False
) -> Channel:
    return Channel(
        name,
        address,
        summary,
        schema,
        qos=1,
        retain=True,
        may_be_empty=may_be_empty,
        content_type="text/plain",
    )


def _request(verb: Verb) -> Channel:
    return Channel(
        f"request_{verb.value}",
        f"{_TOPICS.prefix}/{_TOPICS.device}/cmd/{verb.value}",
        (REQUESTS[verb].__doc__ or "").split("\n")[0],
        REQUESTS[verb],
        qos=1,
        way=Way.RECEIVE,
    )


def _setting(setting: Setting) -> Channel:
    return _bare(
        f"setting_{setting.value}",
        _TOPICS.camera_setting("{camera}", setting.value),
        f"How a camera's {setting.value} stands.",
        {"type": "string"},
        may_be_empty=True,
    )


_CAMERA = "{camera}"

CHANNELS: Tuple[Channel, ...] = (
    _bare(
        "availability",
        _TOPICS.availability(),
        "Whether the appliance is there; `offline` is also its will, which the broker publishes.",
        {"type": "string", "enum": ["online", "offline"]},
    ),
    Channel("state", _TOPICS.state(), "What it is doing.", State, qos=1, retain=True),
    Channel("info", _TOPICS.info(), "What it is made of.", Info, qos=1, retain=True),
    Channel("engine", _TOPICS.engine(), "What it infers with.", Engine, qos=1, retain=True),
    Channel("outbox", _TOPICS.outbox(), "What its outbox lost.", OutboxPayload, qos=1, retain=True),
    Channel("governor", _TOPICS.governor(), "What load it sheds.", Governor, qos=1, retain=True),
    Channel("health", _TOPICS.health(), "How it feels.", Health),
    Channel(
        "alert",
        _TOPICS.alert("{alert}"),
        "Something to look at; empty once it is over.",
        Alert,
        qos=1,
        retain=True,
        may_be_empty=True,
    ),
    Channel(
        "camera_status",
        _TOPICS.camera_status(_CAMERA),
        "Whether a camera delivers; empty once it is no longer there.",
        CameraStatus,
        qos=1,
        retain=True,
        may_be_empty=True,
    ),
    Channel("camera_stats", _TOPICS.camera_stats(_CAMERA), "How much it delivers.", CameraStats),
    Channel(
        "camera_detections",
        _TOPICS.camera_detections(_CAMERA),
        "The objects of one frame; QoS 1 with mqtt.detections_qos or outbox.detections.",
        Detections,
    ),
    Channel("camera_events", _TOPICS.camera_events(_CAMERA), "What an object does.", Event, qos=1),
    _bare(
        "camera_count",
        _TOPICS.camera_count(_CAMERA, "{class}"),
        "How many objects of a class, or of `all`, the newest frame shows, when that changes; "
        "empty while the camera delivers nothing.",
        {"type": "string", "pattern": "^[0-9]+$"},
        may_be_empty=True,
    ),
    Channel(
        "camera_snapshot",
        _TOPICS.camera_snapshot(_CAMERA),
        "A picture; retained with mqtt.snapshot_retain.",
        {"type": "string", "format": "binary"},
        may_be_empty=True,
        content_type="image/jpeg",
    ),
    *map(_setting, Setting),
    Channel(
        "command_result", _TOPICS.command_result(), "The answer to a request.", CommandResult, qos=1
    ),
    *map(_request, REQUESTS),
    Channel(
        "setting_request",
        f"{_TOPICS.prefix}/{_TOPICS.device}/camera/{{camera}}/{{setting}}/set",
        "Asks for a camera's setting: bare text, or a request of its command.",
        {"type": "string"},
        qos=1,
        way=Way.RECEIVE,
        content_type="text/plain",
    ),
)


def schema_of(channel: Channel) -> Optional[str]:
    """The name of the schema its messages follow; None where they are bare."""
    if isinstance(channel.payload, dict):
        return None
    (name,) = get_args(channel.payload.model_fields["schema_id"].annotation)
    return str(name)
