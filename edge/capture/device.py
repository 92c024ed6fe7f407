"""What a camera is to the machine that reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Hashable, Optional

from edge.config.camera_uri import MediaSpec, SyntheticSpec, V4l2Spec
from edge.config.schema import CameraConfig


def device_of(camera: CameraConfig) -> Optional[Path]:
    """The device file that comes and goes with a camera's plug; None for all but USB cameras."""
    spec = camera.uri.resolve(Path())
    return spec.device if isinstance(spec, V4l2Spec) else None


def claim_of(camera: CameraConfig) -> Optional[Hashable]:
    """What only one reader may have open at a time, to be compared; None where many may."""
    spec = camera.uri.resolve(Path())
    if not camera.enabled or isinstance(spec, (MediaSpec, SyntheticSpec)):
        return None
    # A device has several names: /dev/video0, and those under /dev/v4l.
    return os.path.realpath(spec.device) if isinstance(spec, V4l2Spec) else spec
