"""The section `governor`: what is to be held, and what may be given up for it."""

from __future__ import annotations

from typing import Optional

from pydantic import Field

from edge.config.section import Section


class GovernorConfig(Section):
    """Sheds load before the machine slows itself down, step by step, and gives it back slowly.

    First the frames of the least important cameras, then a longer batch window, then whole
    cameras; never those with priority.
    """

    enabled: bool = Field(True, description="Hold the targets below.")
    temp_c: Optional[float] = Field(
        None,
        ge=30,
        le=110,
        description="The hottest sensor is to stay below this many degrees Celsius; default: on a "
        "Jetson 5 below where its kernel begins to throttle, elsewhere it is not governed.",
    )
    latency_ms: Optional[float] = Field(
        None,
        ge=1,
        le=60_000,
        description="19 of 20 results are to come within this time of their frame's capture; "
        "default: not governed.",
    )
    min_fps: float = Field(
        1.0, ge=0.01, le=240, description="No camera that runs is slowed down below this rate."
    )
    max_window_ms: float = Field(
        50.0,
        ge=0,
        le=1000,
        description="The longest batch window: larger batches cost less energy a frame. Only for "
        "the temperature, and only where latency_ms allows it.",
    )
    pause: bool = Field(True, description="Cameras may be paused when slower ones were not enough.")
    step_s: float = Field(
        20.0, ge=1, le=600, description="A step for the temperature has this long to take effect."
    )
    recover_s: float = Field(
        120.0,
        ge=1,
        le=86_400,
        description="All must be well for this long before one step is undone; twice as long each "
        "time that proves to be too early, up to 16 times.",
    )
