"""From a camera's configuration to its source."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Tuple

from edge.capture.folder import FolderSource
from edge.capture.source import Source
from edge.capture.synthetic import SyntheticSource
from edge.capture.video import RtspStream, V4l2Camera, VideoFile
from edge.config.camera_uri import RtspSpec, SyntheticSpec, V4l2Spec
from edge.config.schema import CameraConfig
from edge.geometry import Image

_FOLDER_FPS = 2.0
_SYNTHETIC_FPS = 10.0

RenderFactory = Callable[[int, Tuple[int, int]], Callable[[int], Image]]
"""Makes, from a seed and a size (width, height), what renders the scene's frame of an index."""


def open_source(config: CameraConfig, base_dir: Path, render: RenderFactory) -> Source:
    """Makes the camera's source, which its reader will open; paths are relative to `base_dir`.

    Whether a camera or file is there is seen, and retried, when the reader opens it.
    """
    spec = config.uri.resolve(base_dir)
    if isinstance(spec, RtspSpec):
        return RtspStream(spec.url, spec.address)
    if isinstance(spec, V4l2Spec):
        return V4l2Camera(spec.device)
    if isinstance(spec, SyntheticSpec):
        return SyntheticSource(render(spec.seed, spec.size_wh), config.fps or _SYNTHETIC_FPS)
    if spec.path.is_dir():
        return FolderSource(spec.path, config.fps or _FOLDER_FPS, loop=config.loop)
    return VideoFile(spec.path, loop=config.loop)
