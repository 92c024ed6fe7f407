"""The section of what may be asked of the appliance over MQTT."""

from __future__ import annotations

from enum import Enum
from typing import List

from pydantic import Field

from edge.config.section import Section


class Verb(str, Enum):
    """What can be asked."""

    SNAPSHOT = "snapshot"
    ENABLE = "enable"
    DISABLE = "disable"
    PRIORITIZE = "prioritize"
    THRESHOLD = "threshold"
    REBUILD = "rebuild"
    RELOAD = "reload"
    RESTART = "restart"


class CommandsConfig(Section):
    """What the appliance does when it is told to over MQTT."""

    allow: List[Verb] = Field(
        [],
        description="Commands that are carried out; every other is refused. Empty: none is "
        "listened to. Whoever may publish on the broker may give them: limit that by its access "
        "list.",
    )
    per_minute: int = Field(
        60, ge=1, le=600, description="Commands carried out within any minute; more are refused."
    )
