"""The section `health.alerts`: when something is worth an alert, and when it is over."""

from __future__ import annotations

from typing import Optional

from pydantic import Field, model_validator
from typing_extensions import Annotated, Self

from edge.config.section import Section

Celsius = Annotated[float, Field(ge=0, le=125)]
Megabytes = Annotated[float, Field(ge=0, le=100_000_000)]
Milliseconds = Annotated[float, Field(ge=1, le=60_000)]
Percent = Annotated[float, Field(ge=0, le=100)]

_RAISE_BELOW = "Raised where no more is left."
_CLEAR_ABOVE = "Over once so much is left again."
_HOLD = "So long it must be bad before it is raised, and well before it is cleared."


class HeldAlert(Section):
    """An alert without a threshold: it is so, or not."""

    hold_s: float = Field(10.0, ge=0, le=86_400, description=_HOLD)


class CameraAlert(HeldAlert):
    """A camera is offline, stalled, frozen or covered; one alert for each."""


class ClockAlert(HeldAlert):
    """No time daemon has set the clock, so that no time stamp can be believed."""

    # After a start without a battery a time daemon may take minutes.
    hold_s: float = Field(300.0, ge=0, le=86_400, description=_HOLD)


class TemperatureAlert(HeldAlert):
    """The hottest sensor, in degrees Celsius."""

    raise_c: Optional[Celsius] = Field(
        None,
        description="Raised from here on; default: 2 below where the kernel begins to throttle, "
        "else 95.",
    )
    clear_c: Optional[Celsius] = Field(
        None, description="Over once it is no hotter; default: 5 below raise_c."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.clear_c is not None and (self.raise_c is None or self.clear_c >= self.raise_c):
            raise ValueError("clear_c must be below raise_c, which is to be given with it")
        return self


class LatencyAlert(HeldAlert):
    """The time within which 19 of 20 results come, in milliseconds."""

    raise_ms: Optional[Milliseconds] = Field(
        None,
        description="Raised from here on; default: governor.latency_ms, without which there is no "
        "alert.",
    )
    clear_ms: Optional[Milliseconds] = Field(
        None, description="Over once it is no later; default: 0.8 of raise_ms."
    )
    hold_s: float = Field(60.0, ge=0, le=86_400, description=_HOLD)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.clear_ms is not None and (self.raise_ms is None or self.clear_ms >= self.raise_ms):
            raise ValueError("clear_ms must be below raise_ms, which is to be given with it")
        return self


class MemoryAlert(HeldAlert):
    """Memory that is left, in MiB."""

    raise_below_mb: Megabytes = Field(300.0, description=_RAISE_BELOW)
    clear_above_mb: Megabytes = Field(500.0, description=_CLEAR_ABOVE)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.clear_above_mb <= self.raise_below_mb:
            raise ValueError("clear_above_mb must be above raise_below_mb")
        return self


class DiskAlert(MemoryAlert):
    """Space that is left beside device.state_dir, in MiB."""

    raise_below_mb: Megabytes = Field(500.0, description=_RAISE_BELOW)
    clear_above_mb: Megabytes = Field(1000.0, description=_CLEAR_ABOVE)


class OutboxAlert(HeldAlert):
    """How full the outbox is, in percent of its limit."""

    raise_pct: Percent = Field(80.0, description="Raised from here on.")
    clear_pct: Percent = Field(60.0, description="Over once it is no fuller.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.clear_pct >= self.raise_pct:
            raise ValueError("clear_pct must be below raise_pct")
        return self


class AlertsConfig(Section):
    """What is worth an alert, published under alert/<id>; null: never."""

    temperature: Optional[TemperatureAlert] = Field(
        TemperatureAlert(), description="The hottest sensor."
    )
    throttling: Optional[HeldAlert] = Field(
        HeldAlert(), description="The machine slows itself down: heat, or too much current."
    )
    memory: Optional[MemoryAlert] = Field(MemoryAlert(), description="Memory that is left.")
    disk: Optional[DiskAlert] = Field(DiskAlert(), description="Disk that is left.")
    cameras: Optional[CameraAlert] = Field(
        CameraAlert(), description="A camera that delivers nothing, or nothing worth seeing."
    )
    latency: Optional[LatencyAlert] = Field(LatencyAlert(), description="Results that come late.")
    outbox: Optional[OutboxAlert] = Field(
        OutboxAlert(), description="The outbox, which fills while the broker is away."
    )
    clock: Optional[ClockAlert] = Field(ClockAlert(), description="A clock that nobody has set.")
