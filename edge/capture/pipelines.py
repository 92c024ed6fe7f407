"""GStreamer pipelines of a Jetson, from a camera's configuration.

Decoding and scaling stay in the module's own engines; what reaches the CPU is NV12 in the size
that is asked for. Of what OpenCV's appsink takes that is the cheapest: 1.5 bytes a pixel, where
BGR takes 3 and, as nvvidconv cannot make it, a pass of videoconvert over BGRx on the CPU before.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Optional, Tuple
from urllib.parse import unquote, urlsplit, urlunsplit

from edge.capture.v4l2_abi import EXPOSURE_UNITS_PER_MS
from edge.clock import NS_PER_MS
from edge.config.camera import CameraConfig, Codec, PixelFormat, Rotation, Transport
from edge.config.camera_uri import CsiSpec, RtspSpec, V4l2Spec
from edge.geometry import Letterbox

Size = Tuple[int, int]
"""Width and height in pixels."""

_CSI_SIZE_WH = (1920, 1080)
_CSI_FPS = 30.0
_LATENCY_MS = 100
_SILENCE_US = 5_000_000

# nvvidconv's flip-method, by degrees clockwise.
_FLIP_METHODS = {
    Rotation.QUARTER: "3",
    Rotation.HALF: "2",
    Rotation.THREE_QUARTERS: "1",
}
_RTP_TO_STREAM = {
    # A camera with a microphone offers sound too; parsebin finds out what the pictures are.
    Codec.AUTO: ("parsebin",),
    Codec.H264: ("rtph264depay", "h264parse"),
    Codec.H265: ("rtph265depay", "h265parse"),
}

# The newest picture replaces one that was not fetched in time.
_LIVE_SINK = (("sync", "false"), ("max-buffers", "1"), ("drop", "true"))
_FILE_SINK = (("sync", "false"), ("max-buffers", "1"), ("drop", "false"))


@dataclass(frozen=True)
class Stage:
    """An element and its properties, or caps where `name` is a media type.

    Every value of `properties` is text without quotes; the launch line gets them.
    """

    name: str
    properties: Tuple[Tuple[str, str], ...] = ()

    @property
    def is_caps(self) -> bool:
        """Whether this is a filter of caps."""
        return "/" in self.name

    def __str__(self) -> str:
        if self.is_caps:
            return ",".join([self.name, *(f"{key}={value}" for key, value in self.properties)])
        return " ".join([self.name, *(f"{key}={quoted(value)}" for key, value in self.properties)])


Pipeline = Tuple[Stage, ...]


@dataclass(frozen=True)
class HardwareFeed:
    """What a Jetson makes of a camera, up to and without the last conversion.

    `native_wh` is the size of the pictures where the pipeline itself prescribes it, else None.
    """

    stages: Pipeline
    native_wh: Optional[Size] = None
    rotate: Rotation = Rotation.NONE
    is_live: bool = True

    def pipeline(self, delivered_wh: Optional[Size]) -> Pipeline:
        """The whole: NV12 pictures in the given size, or as they come."""
        flip = _FLIP_METHODS.get(self.rotate)
        sink = _LIVE_SINK if self.is_live else _FILE_SINK
        return (
            *self.stages,
            Stage("nvvidconv", () if flip is None else (("flip-method", flip),)),
            Stage("video/x-raw", (("format", "NV12"), *_size_caps(delivered_wh))),
            Stage("appsink", sink),
        )

    def upright(self, native_wh: Size) -> Size:
        """The size after the turn, of pictures that come in `native_wh`."""
        width, height = native_wh
        is_on_its_side = self.rotate in (Rotation.QUARTER, Rotation.THREE_QUARTERS)
        return (height, width) if is_on_its_side else (width, height)


def csi_feed(spec: CsiSpec, camera: CameraConfig) -> HardwareFeed:
    """A sensor on the module's own connector, through its image signal processor."""
    properties = [("sensor-id", str(spec.sensor))]
    if camera.sensor_mode is not None:
        properties.append(("sensor-mode", str(camera.sensor_mode)))
    if camera.exposure_ms is not None:
        exposure_ns = int(camera.exposure_ms * NS_PER_MS)
        properties.append(("exposuretimerange", f"{exposure_ns} {exposure_ns}"))
    size_wh = camera.size_wh or _CSI_SIZE_WH
    rate = _rate_caps(camera.capture_fps or _CSI_FPS)
    caps = (("format", "NV12"), *_size_caps(size_wh), *rate)
    stages = (
        Stage("nvarguscamerasrc", tuple(properties)),
        Stage("video/x-raw(memory:NVMM)", caps),
    )
    return HardwareFeed(stages, size_wh, camera.rotate)


def v4l2_feed(spec: V4l2Spec, camera: CameraConfig) -> HardwareFeed:
    """A USB camera; `pixel_format` must say what it sends."""
    caps = (*_size_caps(camera.size_wh), *_rate_caps(camera.capture_fps))
    source = Stage("v4l2src", (("device", str(spec.device)), *_exposure(camera.exposure_ms)))
    if camera.pixel_format is PixelFormat.MJPEG:
        decoder = Stage("nvv4l2decoder", (("mjpeg", "1"),))
        stages = (source, Stage("image/jpeg", caps), Stage("jpegparse"), decoder)
        return HardwareFeed(stages, camera.size_wh, camera.rotate)
    raw = Stage("video/x-raw", (("format", "YUY2"), *caps))
    return HardwareFeed((source, raw), camera.size_wh, camera.rotate)


def rtsp_feed(spec: RtspSpec, camera: CameraConfig) -> HardwareFeed:
    """A network camera."""
    url, credentials = _without_credentials(spec.url)
    latency_ms = _LATENCY_MS if camera.latency_ms is None else camera.latency_ms
    source = Stage(
        "rtspsrc",
        (
            ("location", url),
            *credentials,
            ("protocols", "udp" if camera.transport is Transport.UDP else "tcp"),
            ("latency", str(latency_ms)),
            ("drop-on-latency", "true"),
            ("timeout", str(_SILENCE_US)),
            ("tcp-timeout", str(_SILENCE_US)),
        ),
    )
    stages = (
        source,
        Stage("application/x-rtp", (("media", "video"),)),
        *(Stage(name) for name in _RTP_TO_STREAM[camera.codec]),
        Stage("nvv4l2decoder", (("enable-max-performance", "1"),)),
    )
    return HardwareFeed(stages, None, camera.rotate)


def file_feed(path: Path, camera: CameraConfig) -> HardwareFeed:
    """A video file; no picture of it is left out."""
    stages = (
        Stage("filesrc", (("location", str(path)),)),
        Stage("parsebin"),
        Stage("nvv4l2decoder", (("enable-max-performance", "1"),)),
    )
    return HardwareFeed(stages, None, camera.rotate, is_live=False)


def launch_line(pipeline: Pipeline) -> str:
    """The pipeline in the words of gst-launch."""
    return " ! ".join(str(stage) for stage in pipeline)


def complete(user_line: str) -> str:
    """A user's own pipeline, with the way into OpenCV added where it does not end in an appsink."""
    last = user_line.rsplit("!", 1)[-1].split()
    if last and last[0] == "appsink":
        return user_line
    sink = (Stage("videoconvert"), Stage("video/x-raw", (("format", "BGR"),)))
    return " ! ".join([user_line, launch_line((*sink, Stage("appsink", _LIVE_SINK)))])


def delivered_size(source_wh: Size, model_wh: Optional[Size]) -> Size:
    """The size to hand over pictures of `source_wh` in: as the letterbox wants it, never larger.

    Without `model_wh` it is their own. The width is a multiple of 4 and the height even: OpenCV
    4.5.4 takes the rows of a buffer to lie side by side, and GStreamer starts each at a multiple
    of 4 bytes.
    """
    width, height = source_wh
    if model_wh is not None:
        resized_w, resized_h = Letterbox.fit(source_wh, model_wh).resized_wh
        if resized_w < width:
            width, height = resized_w, resized_h
    return max(width // 4 * 4, 4), max(height // 2 * 2, 2)


def quoted(value: str) -> str:
    """A property's value as gst-launch reads it back, whatever it holds."""
    if value.replace("-", "").isalnum() and value.isascii():
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _size_caps(size_wh: Optional[Size]) -> Tuple[Tuple[str, str], ...]:
    if size_wh is None:
        return ()
    return ("width", str(size_wh[0])), ("height", str(size_wh[1]))


def _rate_caps(fps: Optional[float]) -> Tuple[Tuple[str, str], ...]:
    if fps is None:
        return ()
    # 29.97 means 30000/1001, and so do all of NTSC's rates.
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
    is_ntsc = fps != int(fps) and abs(float(ntsc) - fps) < 0.005
    rate = ntsc if is_ntsc else Fraction(fps).limit_denominator(1000)
    return (("framerate", f"{rate.numerator}/{rate.denominator}"),)


def _exposure(exposure_ms: Optional[float]) -> Tuple[Tuple[str, str], ...]:
    if exposure_ms is None:
        return ()
    units = round(exposure_ms * EXPOSURE_UNITS_PER_MS)
    # Linux 5.19 renamed both controls; names that a camera does not know are passed over.
    controls = (
        f"c,exposure_auto=1,exposure_absolute={units},"
        f"auto_exposure=1,exposure_time_absolute={units}"
    )
    return (("extra-controls", controls),)


def _without_credentials(url: str) -> Tuple[str, Tuple[Tuple[str, str], ...]]:
    """The URL without user and password, and these as rtspsrc's properties.

    GStreamer's own messages quote the URL.
    """
    parts = urlsplit(url)
    user, _, address = parts.netloc.rpartition("@")
    bare = urlunsplit(parts._replace(netloc=address))
    if not user:
        return bare, ()
    name, _, password = user.partition(":")
    return bare, (("user-id", unquote(name)), ("user-pw", unquote(password)))
