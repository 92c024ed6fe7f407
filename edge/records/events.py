"""What happens over several frames."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Tuple

from edge.records.cameras import FrameInfo


class EventType(str, Enum):
    """Where in its life an event is."""

    NEW = "new"
    UPDATE = "update"
    END = "end"


@dataclass(frozen=True)
class Event:
    """An object's stay in a camera's view, as `frame` shows it.

    `event_id` is the same from new to end; `score` is the best so far; `box_xyxy` is in source
    pixels; `zones` are those that the object is in.
    """

    event_id: str
    type: EventType
    frame: FrameInfo
    class_id: int
    score: float
    box_xyxy: Tuple[float, float, float, float]
    duration_ms: int
    zones: Tuple[str, ...] = ()
