"""What the appliance says of its engine: what serves, what is being made, what the gate found."""

from __future__ import annotations

from typing import Dict, Literal, Optional

from pydantic import Field
from typing_extensions import Annotated

from edge import records
from edge.config.schema import Precision
from edge.publish.envelope import Count, Header, Part, Payload, header_fields
from edge.records import BuildPhase, EngineState


class BuildPart(Part):
    """An engine that is being made."""

    precision: Precision
    phase: BuildPhase
    percent: Optional[Annotated[float, Field(ge=0, le=100)]] = Field(
        None, description="Of this phase; absent where nobody can tell."
    )
    eta_s: Optional[Annotated[float, Field(ge=0)]] = Field(
        None, description="Seconds until this phase ends, if it goes on as it did."
    )
    message: str


class GatePart(Part):
    """What the gate found last."""

    precision: Precision
    verdict: str = Field(description="pass, fail or not_enough_evidence.")
    loss: Optional[float] = Field(
        None, description="AP50 lost against the more precise engine; negative is a gain."
    )
    boxes: Count = Field(description="Boxes it was judged by.")
    summary: str = Field(description="In words.")


class PriorityPart(Part):
    """The engine that takes the frames of priority cameras alone."""

    state: EngineState = Field(
        description="failed: these frames go through the shared engine, ahead of others."
    )
    serving: Optional[Precision] = Field(None, description="Absent while nothing serves yet.")
    build: Optional[BuildPart] = None
    cache: Dict[str, str] = Field(description="As of the shared engine.")
    gate: Optional[GatePart] = None
    message: str = Field(description="What went wrong, in words; empty where nothing did.")


class Engine(Payload):
    """Which engine serves and which is being made."""

    schema_id: Literal["edge.engine/1"] = Field(alias="schema")
    state: EngineState
    wanted: Precision = Field(description="The lowest precision that may serve.")
    serving: Optional[Precision] = Field(None, description="Absent while nothing serves yet.")
    build: Optional[BuildPart] = None
    cache: Dict[str, str] = Field(
        description="By precision: hit, or why no engine of an earlier start could be used again."
    )
    gate: Optional[GatePart] = None
    message: str = Field(description="What went wrong, in words; empty where nothing did.")
    priority: Optional[PriorityPart] = Field(
        None, description="Absent where there is none for priority cameras alone, or not yet."
    )


def engine_payload(status: records.EngineStatus, header: Header) -> Engine:
    """Says which engine serves and which is being made."""
    return Engine(
        schema_id="edge.engine/1",
        **header_fields(header),
        state=status.state,
        wanted=status.wanted,
        serving=status.serving,
        build=_build_part(status.progress, status.eta_s),
        cache=_cache(status),
        gate=_gate_part(status.gate),
        message=status.message,
        priority=_priority_part(status.priority),
    )


def _priority_part(status: Optional[records.EngineStatus]) -> Optional[PriorityPart]:
    if status is None:
        return None
    return PriorityPart(
        state=status.state,
        serving=status.serving,
        build=_build_part(status.progress, status.eta_s),
        cache=_cache(status),
        gate=_gate_part(status.gate),
        message=status.message,
    )


def _cache(status: records.EngineStatus) -> Dict[str, str]:
    return {precision.value: finding for precision, finding in status.cache.items()}


def _build_part(
    progress: Optional[records.BuildProgress], eta_s: Optional[float]
) -> Optional[BuildPart]:
    if progress is None:
        return None
    return BuildPart(
        precision=progress.precision,
        phase=progress.phase,
        percent=None if progress.done is None else round(100 * progress.done, 1),
        eta_s=None if eta_s is None else round(eta_s, 1),
        message=progress.message,
    )


def _gate_part(gate: Optional[records.GateOutcome]) -> Optional[GatePart]:
    if gate is None:
        return None
    return GatePart(
        precision=gate.precision,
        verdict=gate.verdict,
        loss=None if gate.loss is None else round(gate.loss, 5),
        boxes=gate.boxes,
        summary=gate.summary,
    )
