from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Dict, Iterator

import pytest

from edge.capture import exposure
from edge.capture import v4l2_abi as abi
from edge.capture.exposure import make_automatic, release_exposure
from edge.capture.opening import source_factory
from edge.capture.v4l2_node import Ioctl
from edge.config.camera import CameraConfig
from edge.errors import CaptureError
from tests.capture.survey.kernel import Kernel
from tests.capture.test_opening import JETSON, PIP, render

MANUAL, APERTURE_PRIORITY = 1, 3


def webcam(value: int, default: int) -> Kernel:
    return Kernel(controls={abi.EXPOSURE_AUTO: value}, defaults={abi.EXPOSURE_AUTO: default})


@pytest.mark.parametrize(
    ("value", "default", "after"),
    [
        pytest.param(MANUAL, APERTURE_PRIORITY, APERTURE_PRIORITY, id="fixed: the driver's own"),
        pytest.param(MANUAL, 0, 0, id="fixed: fully automatic"),
        pytest.param(MANUAL, MANUAL, APERTURE_PRIORITY, id="fixed also by the driver"),
        pytest.param(APERTURE_PRIORITY, 0, APERTURE_PRIORITY, id="automatic already"),
        pytest.param(2, 0, 2, id="automatic in a way of its own"),
    ],
)
def test_a_fixed_exposure_is_undone_and_no_other(value: int, default: int, after: int) -> None:
    camera = webcam(value, default)
    assert make_automatic(camera) is (value == MANUAL)
    assert camera.controls == {abi.EXPOSURE_AUTO: after}


def test_a_capture_card_has_no_exposure() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        make_automatic(Kernel())
    release_exposure(Path("/dev/null"))  # no camera at all: the kernel says ENOTTY


@pytest.mark.parametrize("keys", [{}, {"pixel_format": "mjpeg"}], ids=["software", "hardware"])
@pytest.mark.parametrize("exposure_ms", [None, 5.0])
def test_a_camera_without_the_key_gets_its_own_exposure_back_when_it_is_opened(
    keys: Dict[str, object], exposure_ms: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera, asked = webcam(MANUAL, APERTURE_PRIORITY), []

    @contextlib.contextmanager
    def opened(node: Path) -> Iterator[Ioctl]:
        asked.append(node)
        yield camera

    monkeypatch.setattr(exposure, "opened", opened)
    device = "/dev/null"  # readable, and no camera
    monkeypatch.setattr("edge.config.camera_uri._V4L2_DEVICE", re.compile("^/dev/n"))
    config = {"name": "gate", "uri": device, "exposure_ms": exposure_ms, **keys}
    abilities = JETSON if keys else PIP
    make = source_factory(CameraConfig.model_validate(config), Path(), render, None, abilities)
    with pytest.raises(CaptureError):
        make().open()
    assert asked == ([Path(device)] if exposure_ms is None else [])
    expected = APERTURE_PRIORITY if exposure_ms is None else MANUAL
    assert camera.controls == {abi.EXPOSURE_AUTO: expected}
