"""From a camera's configuration to its source."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path
from typing import Callable, Optional, Tuple, Union

from edge.capture.exposure import release_exposure
from edge.capture.folder import FolderSource
from edge.capture.gstreamer import CustomPipeline, HardwareCamera, HardwareVideo, Origin
from edge.capture.hardware import Abilities, is_for_hardware
from edge.capture.network import check_reachable, url_at
from edge.capture.opencv import silence_decoders, turned
from edge.capture.pipelines import HardwareFeed, Size, csi_feed, file_feed, rtsp_feed, v4l2_feed
from edge.capture.source import Picture, Source
from edge.capture.synthetic import SyntheticSource
from edge.capture.v4l2_camera import V4l2Camera, wishes_of
from edge.capture.video import RtspStream, VideoFile, check_readable
from edge.clock import SystemClock
from edge.config.camera import CameraConfig, Scale
from edge.config.camera_uri import (
    CsiSpec,
    GStreamerSpec,
    MediaSpec,
    RtspSpec,
    SyntheticSpec,
    V4l2Spec,
)
from edge.errors import CaptureError
from edge.geometry import Image

log = logging.getLogger(__name__)

_FOLDER_FPS = 2.0
_SYNTHETIC_FPS = 10.0

_CSI_ADVICE = "check the ribbon cable and the sensor's number"
_RTSP_ADVICE = "check network, address, path, user and password; else try decoder: software"
_USB_ADVICE = "check its cable, and that it has this size_wh, capture_fps and pixel_format"

RenderFactory = Callable[[int, Tuple[int, int]], Callable[[int], Image]]
"""Makes, from a seed and a size (width, height), what renders the scene's frame of an index."""

SourceFactory = Callable[[], Source]
"""Makes a camera's source anew, for its reader to open."""


def source_factory(
    camera: CameraConfig,
    base_dir: Path,
    render: RenderFactory,
    model_wh: Optional[Size] = None,
    abilities: Optional[Abilities] = None,
) -> SourceFactory:
    """Returns what makes the camera's source, each time anew; paths are relative to `base_dir`.

    `model_wh` is the detector's input, to which hardware may scale; without it pictures keep
    their size. Raises ConfigError if the camera is enabled and needs what this machine's OpenCV
    lacks. Whether a camera or file is there is seen, and retried, when the reader opens it.
    """
    if not camera.enabled:
        return _no_source
    silence_decoders()
    spec = camera.uri.resolve(base_dir)
    is_hardware = is_for_hardware(camera, spec, abilities or Abilities.of_this_machine())
    if isinstance(spec, RtspSpec) and not is_hardware:
        _warn_of_idle_keys(camera)
    scaled_wh = model_wh if camera.scale is Scale.MODEL else None
    if isinstance(spec, MediaSpec):
        return lambda: _media(camera, spec.path, is_hardware, scaled_wh)
    if isinstance(spec, SyntheticSpec):
        return lambda: SyntheticSource(
            render(spec.seed, spec.size_wh), camera.fps or _SYNTHETIC_FPS
        )
    if isinstance(spec, GStreamerSpec):
        return lambda: CustomPipeline(spec.launch_line)
    if is_hardware or isinstance(spec, CsiSpec):
        return lambda: _hardware_camera(camera, spec, scaled_wh)
    return lambda: _turned(_software_camera(camera, spec), camera)


def _no_source() -> Source:
    raise CaptureError("the camera is disabled")


def open_source(
    config: CameraConfig, base_dir: Path, render: RenderFactory, model_wh: Optional[Size] = None
) -> Source:
    """Makes one source of the camera, for a look at it; see `source_factory`."""
    return source_factory(config, base_dir, render, model_wh)()


class MediaSource:
    """A video file or a folder of images: which of both, the disk tells at each opening.

    A stick or a network share may be mounted long after the start.
    """

    def __init__(self, path: Path, make_video: SourceFactory, make_folder: SourceFactory) -> None:
        self._path = path
        self._make_video = make_video
        self._make_folder = make_folder
        self._source: Optional[Source] = None

    def open(self) -> None:
        """Raises CaptureError if neither can be opened."""
        self.close()
        # os.path.isdir says no, where Path.is_dir may raise, to a path nobody may look into.
        is_folder = os.path.isdir(self._path)
        self._source = self._make_folder() if is_folder else self._make_video()
        self._source.open()

    def read(self) -> Optional[Picture]:
        """The next frame; None at the end."""
        return None if self._source is None else self._source.read()

    def close(self) -> None:
        """Closes what is open."""
        if self._source is not None:
            self._source.close()


class TurnedSource:
    """Another source's pictures, turned clockwise."""

    def __init__(self, source: Source, degrees: int) -> None:
        self._source = source
        self._degrees = degrees

    def open(self) -> None:
        """Opens the other source."""
        self._source.open()

    def read(self) -> Optional[Picture]:
        """Turns the other source's next picture."""
        picture = self._source.read()
        if picture is None:
            return None
        return dataclasses.replace(picture, image=turned(picture.image, self._degrees))

    def close(self) -> None:
        """Closes the other source."""
        self._source.close()


def _media(camera: CameraConfig, path: Path, is_hardware: bool, model_wh: Optional[Size]) -> Source:
    loop, realtime = camera.loop, camera.realtime

    def video() -> Source:
        if is_hardware:
            feed = file_feed(path, camera)
            return HardwareVideo(path, feed, model_wh, loop=loop, realtime=realtime)
        return _turned(VideoFile(path, loop=loop, realtime=realtime), camera)

    def folder() -> Source:
        images = FolderSource(path, camera.fps or _FOLDER_FPS, loop=loop, realtime=realtime)
        return _turned(images, camera)

    return MediaSource(path, video, folder)


def _hardware_camera(
    camera: CameraConfig, spec: Union[CsiSpec, RtspSpec, V4l2Spec], model_wh: Optional[Size]
) -> HardwareCamera:
    if isinstance(spec, CsiSpec):
        origin = Origin(f"csi://{spec.sensor}", _CSI_ADVICE)
        return HardwareCamera(lambda: csi_feed(spec, camera), model_wh, origin)
    if isinstance(spec, RtspSpec):
        origin = Origin(spec.address, _RTSP_ADVICE)
        return HardwareCamera(lambda: _find_network_camera(spec, camera), model_wh, origin)
    origin = Origin(str(spec.device), _USB_ADVICE)
    return HardwareCamera(lambda: _find_device(spec, camera), model_wh, origin)


def _find_network_camera(spec: RtspSpec, camera: CameraConfig) -> HardwareFeed:
    url = url_at(spec.url, check_reachable(spec.address))
    return rtsp_feed(dataclasses.replace(spec, url=url), camera)


def _find_device(spec: V4l2Spec, camera: CameraConfig) -> HardwareFeed:
    check_readable(spec.device)
    if camera.exposure_ms is None:
        release_exposure(spec.device)
    return v4l2_feed(spec, camera)


def _software_camera(camera: CameraConfig, spec: Union[RtspSpec, V4l2Spec]) -> Source:
    if isinstance(spec, V4l2Spec):
        return V4l2Camera(spec.device, wishes_of(camera))
    return RtspStream(spec.url, spec.address, camera.transport, SystemClock())


def _turned(source: Source, camera: CameraConfig) -> Source:
    return TurnedSource(source, camera.rotate) if camera.rotate else source


def _warn_of_idle_keys(camera: CameraConfig) -> None:
    for key in sorted({"latency_ms", "codec"} & camera.model_fields_set):
        log.warning(
            "camera %s: %s does nothing: FFmpeg decodes here, which has no such setting",
            camera.name,
            key,
        )
