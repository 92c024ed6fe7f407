"""From a camera's configuration to its source."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Optional, Tuple

from edge.capture.folder import FolderSource
from edge.capture.source import Picture, Source
from edge.capture.synthetic import SyntheticSource
from edge.capture.video import RtspStream, V4l2Camera, VideoFile, silence_decoders
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
    silence_decoders()
    spec = config.uri.resolve(base_dir)
    if isinstance(spec, RtspSpec):
        return RtspStream(spec.url, spec.address)
    if isinstance(spec, V4l2Spec):
        return V4l2Camera(spec.device)
    if isinstance(spec, SyntheticSpec):
        return SyntheticSource(render(spec.seed, spec.size_wh), config.fps or _SYNTHETIC_FPS)
    return MediaSource(spec.path, config.fps or _FOLDER_FPS, loop=config.loop)


class MediaSource:
    """A video file or a folder of images: which of both, the disk tells at each opening.

    A stick or a network share may be mounted long after the start.
    """

    def __init__(self, path: Path, folder_fps: float, *, loop: bool) -> None:
        self._path = path
        self._folder_fps = folder_fps
        self._loop = loop
        self._source: Optional[Source] = None

    def open(self) -> None:
        """Raises CaptureError if neither can be opened."""
        self.close()
        # os.path.isdir says no, where Path.is_dir may raise, to a path nobody may look into.
        if os.path.isdir(self._path):
            source: Source = FolderSource(self._path, self._folder_fps, loop=self._loop)
        else:
            source = VideoFile(self._path, loop=self._loop)
        self._source = source
        source.open()

    def read(self) -> Optional[Picture]:
        """The next frame; None at the end."""
        return None if self._source is None else self._source.read()

    def close(self) -> None:
        """Closes what is open."""
        if self._source is not None:
            self._source.close()
