"""The section `outbox`: what is kept on the disk for a broker that is away, and for how long."""

from __future__ import annotations

from pydantic import Field

from edge.config.section import Section

DAY_S = 86_400


class OutboxConfig(Section):
    """Where messages wait until the broker has acknowledged them, in device.state_dir."""

    detections: bool = Field(
        False, description="Keep detections too, and send them at QoS 1. Events are always kept."
    )
    max_mb: int = Field(
        64,
        ge=1,
        le=65_536,
        description="Megabytes kept on the disk; the oldest detections make room first, then the "
        "oldest events.",
    )
    memory_mb: int = Field(
        8,
        ge=1,
        le=1024,
        description="Megabytes kept in memory before they are on the disk, or while it takes "
        "nothing.",
    )
    events_max_age_s: int = Field(
        7 * DAY_S, ge=1, le=3650 * DAY_S, description="Older events are dropped and counted."
    )
    detections_max_age_s: int = Field(
        3600, ge=1, le=3650 * DAY_S, description="Older detections are dropped and counted."
    )
    events_commit_s: float = Field(
        0.25,
        ge=0,
        le=60,
        description="Seconds within which an event that the broker has not acknowledged is on the "
        "disk itself: what a power cut may cost. Longer ones spare the flash.",
    )
    detections_commit_s: float = Field(
        5.0,
        ge=0,
        le=600,
        description="The same of detections, which a crash of the process cannot take then; a "
        "power cut may take some that are older.",
    )
    drain_per_s: int = Field(
        500,
        ge=1,
        le=100_000,
        description="What has piled up goes out at this rate, on top of twice the rate at which "
        "messages come in.",
    )
