"""What the appliance says of each camera: whether it delivers, what it shows, and how much."""

from __future__ import annotations

from typing import Dict, Literal, Optional

from pydantic import Field

from edge import records
from edge.clock import rfc3339
from edge.publish.envelope import Count, Header, Payload, header_fields
from edge.records import CameraState, PictureState

_DECIMALS = 2


class CameraStatus(Payload):
    """Whether a camera delivers."""

    schema_id: Literal["edge.camera.status/1"] = Field(alias="schema")
    camera: str
    state: CameraState
    reason: str = Field(description="In words; empty while the camera is online and shows well.")
    picture: Optional[PictureState] = Field(
        None,
        description="frozen: nothing new, not even noise, for 4 s or 5 minutes; black: nothing is "
        "bright; covered: its detail is gone. Absent while the camera is not online, and where "
        "picture_watch is false.",
    )
    since: str = Field(description="When the state was entered, RFC 3339 in UTC.")
    since_ms: Count = Field(description="The same in milliseconds since 1970.")


def camera_status_payload(status: records.CameraStatus, header: Header) -> CameraStatus:
    """Says whether a camera delivers."""
    return CameraStatus(
        schema_id="edge.camera.status/1",
        **header_fields(header),
        camera=status.camera,
        state=status.state,
        reason=status.reason,
        picture=status.picture,
        since=rfc3339(status.since_unix_ms),
        since_ms=status.since_unix_ms,
    )


class CameraStats(Payload):
    """How much a camera delivers; totals since the start, rates over the last seconds."""

    schema_id: Literal["edge.camera.stats/1"] = Field(alias="schema")
    camera: str
    fps_read: float = Field(ge=0)
    fps_inferred: float = Field(ge=0)
    frames_read: Count
    frames_inferred: Count
    detections: Count
    reconnects: Count
    abandoned: Count = Field(
        description="Threads that hung in the camera's driver and were replaced."
    )
    deadline_missed: Count = Field(description="Results later than the camera's deadline_ms.")
    dropped: Dict[str, Count] = Field(description="Frames that were read but not told, by cause.")
    latency_ms_p50: Optional[float] = Field(None, description="Capture to result.")
    latency_ms_p95: Optional[float] = Field(None, description="Capture to result.")
    latency_ms_p99: Optional[float] = Field(None, description="Capture to result.")


def camera_stats_payload(counters: records.CameraCounters, header: Header) -> CameraStats:
    """Says how much a camera delivers; every cause of a drop appears, also those at 0."""
    return CameraStats(
        schema_id="edge.camera.stats/1",
        **header_fields(header),
        camera=counters.status.camera,
        fps_read=round(counters.fps_read, _DECIMALS),
        fps_inferred=round(counters.fps_inferred, _DECIMALS),
        frames_read=counters.frames_read,
        frames_inferred=counters.frames_inferred,
        detections=counters.detections,
        reconnects=counters.reconnects,
        abandoned=counters.abandoned,
        deadline_missed=counters.deadline_missed,
        dropped={cause.value: counters.dropped.get(cause, 0) for cause in records.DropCause},
        latency_ms_p50=_rounded(counters.latency_ms_p50),
        latency_ms_p95=_rounded(counters.latency_ms_p95),
        latency_ms_p99=_rounded(counters.latency_ms_p99),
    )


def _rounded(ms: Optional[float]) -> Optional[float]:
    return None if ms is None else round(ms, _DECIMALS)
