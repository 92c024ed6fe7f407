from __future__ import annotations

from pathlib import Path
from typing import List

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge.cameras.suggestions import suggest, yaml_lines
from edge.capture.survey.v4l2_devices import V4l2Device
from edge.config.schema import CameraConfig
from tests.cameras.samples import GRABBER, LOST_SENSOR, RAW_SENSOR, SENSOR, WEBCAM, camera

ALL = ([WEBCAM, GRABBER, RAW_SENSOR], [SENSOR, LOST_SENSOR])


def test_each_connected_camera_by_a_name_that_lasts() -> None:
    found = suggest(*ALL, configured=[], base_dir=Path("/"))
    assert [(one.name, str(one.uri)) for one in found] == [
        ("imx219", "csi://0"),
        ("hd-pro-webcam-c920", "/dev/v4l/by-id/usb-046d_C920_1A2B-video-index0"),
        ("video4", "/dev/video4"),
    ]


@pytest.mark.parametrize(
    ("configured", "names"),
    [
        pytest.param(["/dev/video0"], ["imx219", "video4"], id="by its node"),
        pytest.param(["csi://0", "/dev/video4"], ["hd-pro-webcam-c920"], id="others"),
        pytest.param(
            ["csi://1", "rtsp://h/s"], ["imx219", "hd-pro-webcam-c920", "video4"], id="no relation"
        ),
    ],
)
def test_what_is_configured_is_not_suggested(configured: List[str], names: List[str]) -> None:
    cameras = [camera(f"c{number}", uri) for number, uri in enumerate(configured)]
    assert [one.name for one in suggest(*ALL, cameras, Path("/"))] == names


def test_names_do_not_clash() -> None:
    twins = [V4l2Device(Path(f"/dev/video{number}"), card="USB Cam") for number in (0, 2, 4)]
    taken = [camera("usb-cam-2", "rtsp://h/s")]
    names = [one.name for one in suggest(twins, [], taken, Path("/"))]
    assert names == ["usb-cam", "usb-cam-3", "usb-cam-4"]


def test_the_lines_are_the_yaml_of_the_cameras() -> None:
    found = suggest(*ALL, configured=[], base_dir=Path("/"))
    read = yaml.safe_load("\n".join(["cameras:", *yaml_lines(found)]))
    assert [CameraConfig.model_validate(entry) for entry in read["cameras"]] == found


@given(st.text(max_size=40), st.text(min_size=1, max_size=20).filter(lambda text: "\0" not in text))
def test_whatever_a_card_is_called_the_yaml_is_right(card: str, name: str) -> None:
    device = V4l2Device(
        Path("/dev/video0"), stable_name=Path("/dev/v4l/by-id") / name.replace("/", ""), card=card
    )
    found = suggest([device], [], [], Path("/"))
    lines = ["cameras:", *yaml_lines(found)]
    if name.isprintable() and "/" not in name:
        (entry,) = yaml.safe_load("\n".join(lines))["cameras"]
        assert entry == {"name": found[0].name, "uri": str(found[0].uri)}


@pytest.mark.parametrize("name", ["on", "1e3", "12"])
def test_a_name_that_yaml_takes_for_something_else_is_quoted(name: str) -> None:
    lines = list(yaml_lines([camera(name, "/dev/video0")]))
    assert yaml.safe_load("\n".join(lines)) == [{"name": name, "uri": "/dev/video0"}]
