"""What a camera is and gives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Callable, Mapping, Optional, Tuple

from edge.geometry import Image


class TimestampSource(str, Enum):
    """Which clock a capture time comes from."""

    V4L2 = "v4l2"
    PTS = "pts"
    RECEIVE = "receive"


class CameraState(str, Enum):
    """What a camera does right now."""

    STARTING = "starting"
    ONLINE = "online"
    STALLED = "stalled"
    OFFLINE = "offline"
    DISABLED = "disabled"
    ENDED = "ended"


class PictureState(str, Enum):
    """What a camera that delivers shows."""

    OK = "ok"
    FROZEN = "frozen"
    BLACK = "black"
    COVERED = "covered"


@dataclass(frozen=True)
class CameraStatus:
    """A camera's state since `since_unix_ms`, with the reason in words where all is not well.

    `picture` is None while the camera is not online, or where `picture_watch` is off.
    """

    camera: str
    state: CameraState
    since_unix_ms: int
    reason: str = ""
    picture: Optional[PictureState] = None


class DropCause(str, Enum):
    """Why a frame that was read never reached the detector, or its result never the broker."""

    SUPERSEDED = "superseded"
    STALE = "stale"
    RATE_CAP = "rate_cap"
    GOVERNED = "governed"
    ABORTED = "aborted"


DropCounts = Mapping[DropCause, int]


@dataclass(frozen=True)
class FrameInfo:
    """A frame's identity and time, without its pixels.

    `frame_id` counts the frames the camera's source has delivered, from 0; a file that loops
    counts on, and so does a camera that was changed or came back. `captured_ns` is monotonic.
    """

    camera: str
    frame_id: int
    size_wh: Tuple[int, int]
    captured_ns: int
    captured_unix_ms: int
    ts_source: TimestampSource


@dataclass(frozen=True)
class Frame:
    """A decoded picture, uint8 [h, w, 3] BGR; whoever holds it must not write to it."""

    info: FrameInfo
    image: Image


OnFrame = Callable[[], None]
"""Told that a mailbox has a newer frame; must return at once."""
