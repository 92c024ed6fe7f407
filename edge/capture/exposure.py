"""The exposure of a USB camera, which stays as it was set until somebody sets it again."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from edge.capture.v4l2_abi import (
    EXPOSURE_APERTURE_PRIORITY,
    EXPOSURE_AUTO,
    EXPOSURE_MANUAL,
    GET_CONTROL,
    QUERY_CONTROL,
    SET_CONTROL,
    control_request,
    default_request,
    parse_control,
    parse_default,
)
from edge.capture.v4l2_node import Ioctl, opened

log = logging.getLogger(__name__)


def release_exposure(device: Path) -> None:
    """Lets a camera expose by itself that an earlier configuration has fixed; it never raises."""
    # Capture cards have no such control. What else is wrong, opening the camera will tell.
    with contextlib.suppress(OSError), opened(device) as ioctl:
        if make_automatic(ioctl):
            log.info("%s exposes by itself again: there is no exposure_ms any more", device)


def make_automatic(ioctl: Ioctl) -> bool:
    """Undoes a fixed exposure; True if there was one. OSError without such a control."""
    answer = control_request(EXPOSURE_AUTO)
    ioctl(GET_CONTROL, answer)
    if parse_control(bytes(answer)) != EXPOSURE_MANUAL:
        return False
    limits = default_request(EXPOSURE_AUTO)
    ioctl(QUERY_CONTROL, limits)
    default = parse_default(bytes(limits))
    # Hardly a camera moves its aperture: for all others the two automatic ways are the same.
    wanted = EXPOSURE_APERTURE_PRIORITY if default == EXPOSURE_MANUAL else default
    ioctl(SET_CONTROL, control_request(EXPOSURE_AUTO, wanted))
    return True
