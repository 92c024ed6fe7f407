"""Which cameras a Jetson's own engines decode."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from edge.capture.gstreamer_library import has_element
from edge.capture.opencv import has_gstreamer, opencv_in_words
from edge.config.camera import CameraConfig, Decoder, PixelFormat
from edge.config.camera_uri import CsiSpec, GStreamerSpec, RtspSpec, SourceSpec, V4l2Spec
from edge.errors import ConfigError

# The host's drivers bring it, into containers too.
_CONVERTER = "nvvidconv"


@dataclass(frozen=True)
class Abilities:
    """What this machine can decode with; `opencv` names its OpenCV for people."""

    gstreamer: bool
    nvidia_elements: bool
    opencv: str

    @classmethod
    @functools.lru_cache(maxsize=None)
    def of_this_machine(cls) -> Abilities:
        """Asks OpenCV and GStreamer, once: neither changes while the process runs."""
        gstreamer = has_gstreamer()
        return cls(gstreamer, gstreamer and has_element(_CONVERTER), opencv_in_words())


def is_for_hardware(camera: CameraConfig, spec: SourceSpec, abilities: Abilities) -> bool:
    """Tells whether the Jetson's engines are to decode this camera.

    Raises ConfigError, with what to do, where the camera needs what this machine lacks.
    """
    if isinstance(spec, GStreamerSpec):
        _require_gstreamer(camera, "a gstreamer: pipeline", abilities)
        return False
    if isinstance(spec, CsiSpec) or camera.decoder is Decoder.HARDWARE:
        what = "a csi:// camera" if isinstance(spec, CsiSpec) else "decoder: hardware"
        _require_gstreamer(camera, what, abilities)
        _require_nvidia(camera, what, abilities)
        return True
    return (
        _is_better_in_hardware(camera, spec) and abilities.gstreamer and abilities.nvidia_elements
    )


def _is_better_in_hardware(camera: CameraConfig, spec: SourceSpec) -> bool:
    """Whether `auto` means hardware where it is there.

    Raw pictures of USB cameras need no decoding and keep the driver's time stamps; of files,
    software takes every kind.
    """
    if camera.decoder is Decoder.SOFTWARE:
        return False
    is_mjpeg = isinstance(spec, V4l2Spec) and camera.pixel_format is PixelFormat.MJPEG
    return is_mjpeg or isinstance(spec, RtspSpec)


def _require_gstreamer(camera: CameraConfig, what: str, abilities: Abilities) -> None:
    if not abilities.gstreamer:
        raise ConfigError(
            f"cameras {camera.name}: {what} needs an OpenCV with GStreamer, and {abilities.opencv} "
            "has none. On a Jetson, pip's OpenCV hides JetPack's: "
            "pip uninstall opencv-python opencv-python-headless"
        )


def _require_nvidia(camera: CameraConfig, what: str, abilities: Abilities) -> None:
    if not abilities.nvidia_elements:
        raise ConfigError(
            f"cameras {camera.name}: {what} needs a Jetson's own GStreamer elements, and "
            f"{_CONVERTER} is not here (a container gets it with --runtime nvidia)"
        )
