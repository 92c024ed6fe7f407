"""What the appliance says of what happens: events that begin and end, and alerts."""

from __future__ import annotations

from typing import List, Literal, Optional, Tuple

from pydantic import Field
from typing_extensions import Annotated

from edge import records
from edge.clock import rfc3339
from edge.publish.envelope import Count, Header, Payload, header_fields
from edge.publish.payload import ServedModel, Size, Unit
from edge.records import AlertSeverity, EventType, TimestampSource

_BOX_DECIMALS = 5
_SCORE_DECIMALS = 4


class Event(Payload):
    """An object's stay in a camera's view; its messages carry one `id`, of one camera in order."""

    schema_id: Literal["edge.event/1"] = Field(alias="schema")
    camera: str
    id: Annotated[str, Field(min_length=1, description="The same from new to end.")]
    type: EventType
    frame_id: Count = Field(description="The frame it is told of; `ts` is its capture.")
    ts_source: TimestampSource = Field(description="Which clock the capture time comes from.")
    clock_synced: bool = Field(description="False: do not trust ts, no time daemon has set it.")
    duration_ms: Count = Field(description="Since it began, by a clock that never jumps.")
    class_name: str = Field(alias="class")
    class_id: Count
    score: Unit = Field(description="The best so far.")
    box: Tuple[Unit, Unit, Unit, Unit] = Field(
        description="x1, y1, x2, y2 in fractions of the source frame."
    )
    frame: Size
    zones: List[str] = Field(description="Those it is in.")
    replayed: bool = Field(description="True: sent late, from storage.")


def event_payload(
    event: records.Event, header: Header, model: ServedModel, *, is_clock_synced: bool
) -> Event:
    """Says what an object does; the message carries the frame's capture time."""
    info = event.frame
    width, height = info.size_wh
    return Event(
        schema_id="edge.event/1",
        **header_fields(header, info.captured_unix_ms),
        camera=info.camera,
        id=event.event_id,
        type=event.type,
        frame_id=info.frame_id,
        ts_source=info.ts_source,
        clock_synced=is_clock_synced,
        duration_ms=event.duration_ms,
        class_name=model.class_name(event.class_id),
        class_id=event.class_id,
        score=round(event.score, _SCORE_DECIMALS),
        box=_fractions(event.box_xyxy, width, height),
        frame=Size(w=width, h=height),
        zones=list(event.zones),
        replayed=False,
    )


def _fractions(
    box_xyxy: Tuple[float, float, float, float], width: int, height: int
) -> Tuple[float, float, float, float]:
    x1, y1, x2, y2 = box_xyxy
    return (_clip(x1 / width), _clip(y1 / height), _clip(x2 / width), _clip(y2 / height))


def _clip(fraction: float) -> float:
    return round(min(max(fraction, 0.0), 1.0), _BOX_DECIMALS)


class Alert(Payload):
    """Something to look at; an empty retained message on its topic says that it is over."""

    schema_id: Literal["edge.alert/1"] = Field(alias="schema")
    id: Annotated[str, Field(min_length=1, description="The last level of its topic.")]
    severity: AlertSeverity = Field(description="warning: it will become trouble; critical: it is.")
    reason: str = Field(description="In words.")
    value: Optional[float] = Field(None, description="What was measured when it was raised.")
    limit: Optional[float] = Field(None, description="What the value was held against.")
    since: str = Field(description="When it was raised, RFC 3339 in UTC.")
    since_ms: Count = Field(description="The same in milliseconds since 1970.")


def alert_payload(alert: records.Alert, header: Header) -> Alert:
    """Says what somebody must look at."""
    return Alert(
        schema_id="edge.alert/1",
        **header_fields(header),
        id=alert.id,
        severity=alert.severity,
        reason=alert.reason,
        value=alert.value,
        limit=alert.limit,
        since=rfc3339(alert.since_unix_ms),
        since_ms=alert.since_unix_ms,
    )
