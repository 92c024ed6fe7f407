"""The section of one camera."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Optional, Tuple

from pydantic import Field
from typing_extensions import Annotated

from edge.config.camera_uri import CameraUri
from edge.config.section import Section

CAMERA_NAME = r"^[a-z0-9_-]{1,64}$"

Side = Annotated[int, Field(ge=16, le=8192)]


class Transport(str, Enum):
    """How a network camera's pictures travel."""

    TCP = "tcp"
    UDP = "udp"


class Codec(str, Enum):
    """What a network camera's pictures are compressed with."""

    AUTO = "auto"
    H264 = "h264"
    H265 = "h265"


class PixelFormat(str, Enum):
    """What a USB camera sends."""

    AUTO = "auto"
    MJPEG = "mjpeg"
    YUYV = "yuyv"


class Decoder(str, Enum):
    """What decodes the pictures."""

    AUTO = "auto"
    HARDWARE = "hardware"
    SOFTWARE = "software"


class Scale(str, Enum):
    """The size in which hardware hands the pictures over."""

    MODEL = "model"
    FULL = "full"


class Rotation(IntEnum):
    """Degrees, clockwise."""

    NONE = 0
    QUARTER = 90
    HALF = 180
    THREE_QUARTERS = 270


class CameraConfig(Section):
    """One source of frames."""

    name: str = Field(pattern=CAMERA_NAME, description="Lower case name, used in topics.")
    uri: CameraUri = Field(
        description="A video file or folder of images (relative to this file), rtsp://…, "
        "/dev/video0, csi://0, synthetic://SEED?size=640x480, or gstreamer:PIPELINE."
    )
    enabled: bool = Field(True, description="A disabled camera is announced but not opened.")
    fps: Optional[float] = Field(
        None,
        ge=0.001,
        le=240,
        description="Sets the pace of folders (default 2) and synthetic scenes (default 10); "
        "caps every other camera. Frames above the cap are counted as rate_cap.",
    )
    priority: bool = Field(
        False,
        description="Its frames leave at once, each as a batch of its own, ahead of the others.",
    )
    importance: int = Field(
        5,
        ge=1,
        le=10,
        description="Of cameras without priority, those with the lowest number give way first when "
        "the governor sheds load; of equals, the last in this file.",
    )
    max_staleness_ms: Optional[float] = Field(
        None,
        ge=1,
        le=60_000,
        description="A frame that is older than this when the detector would take it is dropped, "
        "and counted as stale; default: never.",
    )
    deadline_ms: Optional[float] = Field(
        None,
        ge=1,
        le=60_000,
        description="Results later than this after capture are counted as missed deadlines.",
    )
    score_threshold: Optional[float] = Field(
        None,
        ge=0,
        le=1,
        description="Boxes scored below are dropped; default: postprocess.score_threshold.",
    )
    loop: bool = Field(True, description="Files and folders start again at their end.")
    realtime: bool = Field(
        True,
        description="Files and folders play at their own pace; false: as fast as they decode.",
    )
    stall_s: float = Field(
        3.0, ge=0.1, le=600, description="Without a frame for this long the camera is stalled."
    )
    picture_watch: bool = Field(
        True,
        description="Tells whether the picture is frozen, black or covered; false for a source "
        "that may rightly stand still bit by bit, such as a computer's screen.",
    )
    size_wh: Optional[Tuple[Side, Side]] = Field(
        None,
        description="Width and height in pixels to ask of a CSI or USB camera; default: 1920x1080 "
        "of CSI, the camera's own of USB.",
    )
    capture_fps: Optional[float] = Field(
        None,
        ge=1,
        le=240,
        description="Frames a second to ask of a CSI or USB camera; default: 30 of CSI, the "
        "camera's own of USB. `fps` then thins them out.",
    )
    pixel_format: PixelFormat = Field(
        PixelFormat.AUTO,
        description="What to ask of a USB camera. mjpeg: compressed, for large sizes; yuyv: raw; "
        "auto: its own choice.",
    )
    exposure_ms: Optional[float] = Field(
        None,
        ge=0.01,
        le=10_000,
        description="Fixed exposure time of a CSI or USB camera; default: automatic.",
    )
    sensor_mode: Optional[int] = Field(
        None,
        ge=0,
        le=63,
        description="Mode of a CSI sensor, by its driver's number; default: by size and rate.",
    )
    rotate: Rotation = Field(
        Rotation.NONE, description="Degrees to turn the picture clockwise: 0, 90, 180 or 270."
    )
    transport: Transport = Field(
        Transport.TCP,
        description="How a network camera's pictures travel. udp: less delay, and broken pictures "
        "where packets are lost.",
    )
    latency_ms: Optional[int] = Field(
        None,
        ge=0,
        le=10_000,
        description="How long the hardware decoder waits for late packets of a network camera; "
        "default: 100.",
    )
    codec: Codec = Field(
        Codec.AUTO,
        description="What a network camera sends; only for one that hardware decoding mistakes.",
    )
    decoder: Decoder = Field(
        Decoder.AUTO,
        description="What decodes network cameras, MJPEG of USB cameras, and video files. "
        "hardware: a Jetson's, through GStreamer; software: FFmpeg or V4L2 through OpenCV; auto: "
        "hardware where it is there, files always in software.",
    )
    scale: Scale = Field(
        Scale.MODEL,
        description="The size in which hardware hands pictures over. model: as small as the "
        "detector needs them; full: as the camera sends them. Software always hands over full.",
    )
