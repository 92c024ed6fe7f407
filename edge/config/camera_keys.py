"""Which of a camera's keys make sense for which kind of source."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, Tuple, Type

from edge.config.camera import CameraConfig, Decoder, PixelFormat, Scale
from edge.config.camera_uri import (
    CsiSpec,
    GStreamerSpec,
    MediaSpec,
    RtspSpec,
    SourceSpec,
    SyntheticSpec,
    V4l2Spec,
)

_KINDS: Mapping[Type[SourceSpec], str] = {
    CsiSpec: "a csi:// camera",
    V4l2Spec: "a camera of /dev/video0",
    RtspSpec: "an rtsp:// camera",
    MediaSpec: "a file or folder",
    SyntheticSpec: "a synthetic:// scene",
    GStreamerSpec: "a gstreamer: pipeline",
}

_LOCAL: Tuple[Type[SourceSpec], ...] = (CsiSpec, V4l2Spec)
_FRAMED = (CsiSpec, V4l2Spec, RtspSpec, MediaSpec)

KEYS_OF: Mapping[str, Tuple[Type[SourceSpec], ...]] = {
    "size_wh": _LOCAL,
    "capture_fps": _LOCAL,
    "exposure_ms": _LOCAL,
    "sensor_mode": (CsiSpec,),
    "pixel_format": (V4l2Spec,),
    "transport": (RtspSpec,),
    "latency_ms": (RtspSpec,),
    "codec": (RtspSpec,),
    "decoder": (V4l2Spec, RtspSpec, MediaSpec),
    "rotate": _FRAMED,
    "scale": _FRAMED,
    "realtime": (MediaSpec,),
}
"""The kinds of source that each key of a source is for."""


def misplaced_keys(camera: CameraConfig) -> Iterator[Tuple[str, str]]:
    """Keys that this camera's source cannot obey: the key, and why."""
    kind = type(camera.uri.resolve(Path()))
    strangers = [
        key
        for key, kinds in KEYS_OF.items()
        if key in camera.model_fields_set and kind not in kinds
    ]
    for key in strangers:
        owners = " or ".join(_KINDS[owner] for owner in KEYS_OF[key])
        yield key, f"is for {owners}, and this is {_KINDS[kind]}: leave it out"
    yield from (pair for pair in _conflicts(camera, kind) if pair[0] not in strangers)


def _conflicts(camera: CameraConfig, kind: Type[SourceSpec]) -> Iterator[Tuple[str, str]]:
    given = camera.model_fields_set
    if camera.decoder is Decoder.SOFTWARE:
        for key in sorted({"latency_ms", "codec"} & given):
            yield key, "is for hardware decoding, and decoder says software: leave one out"
        if "scale" in given and camera.scale is Scale.MODEL:
            yield "scale", "only hardware scales, and decoder says software: leave one out"
    is_hardware = camera.decoder is Decoder.HARDWARE
    if is_hardware and kind is V4l2Spec and camera.pixel_format is PixelFormat.AUTO:
        yield "decoder", "hardware has to know what the camera sends: give pixel_format too"
