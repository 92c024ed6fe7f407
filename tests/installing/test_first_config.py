from __future__ import annotations

from pathlib import Path
from typing import List

import pytest

from edge.config.load import load
from edge.installing.first_config import connected_cameras, first_config
from edge.installing.pieces import Flavour
from tests.capture.survey.test_csi_sensors import argus, bound, described

USB = ["  - name: webcam", "    uri: /dev/v4l/by-id/usb-046d_C920_1A2B-video-index0"]
CSI = ["  - name: imx219", "    uri: csi://0"]


def text(camera_lines: List[str], flavour: Flavour = Flavour.NATIVE) -> str:
    return first_config(camera_lines, flavour.value)


@pytest.mark.parametrize(
    ("camera_lines", "names"),
    [
        pytest.param([], ["test-picture"], id="none connected"),
        pytest.param(USB, ["webcam"], id="one"),
        pytest.param(CSI + USB, ["imx219", "webcam"], id="two"),
    ],
)
def test_it_can_be_read(camera_lines: List[str], names: List[str], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text(camera_lines))
    config = load(file, {})
    assert [camera.name for camera in config.cameras] == names
    assert config.device.state_dir == Path("/var/lib/edge")


def test_what_is_only_a_comment_can_be_read_too(tmp_path: Path) -> None:
    """A technician takes the # away."""
    file = tmp_path / "config.yaml"
    keys = ("id:", "target:", "port:", "username:", "tls:", "interval_s:")
    file.write_text(
        "\n".join(
            line.replace("# ", "", 1)
            if any(line.lstrip().startswith(f"# {key}") for key in keys)
            or line in ("# health:", "# calibration:")
            or line.startswith(("#   folder", "#   interval_s"))
            else line
            for line in text(CSI).splitlines()
        )
    )
    config = load(file, {})
    assert (config.device.id, config.batching.target, config.mqtt.port) == ("press-7", 8, 8883)
    assert config.calibration.folder == Path("/var/lib/edge/calibration")


@pytest.mark.parametrize("flavour", Flavour)
def test_it_says_what_to_type(flavour: Flavour) -> None:
    words = text([], flavour)
    assert f"#   sudo systemctl reload {flavour.value}\n" in words
    assert "#   sudo edge check -c /etc/edge/config.yaml" in words


def test_cameras_are_named_as_the_machine_names_them(tmp_path: Path) -> None:
    """Also where its files lie under another folder, as in a container."""
    argus(tmp_path)
    described(tmp_path, 0, "imx219 9-0010")
    bound(tmp_path, 0, "vi-output, imx219 9-0010")
    sysfs = tmp_path / "sys/class/video4linux/video1"
    sysfs.mkdir(parents=True)
    (sysfs / "name").write_text("HD Webcam\n")
    (sysfs / "index").write_text("0\n")
    (tmp_path / "dev").mkdir()
    # A node that cannot be opened is known by what the kernel says of it.
    (tmp_path / "dev/video1").symlink_to("nobody")
    assert connected_cameras(tmp_path) == [
        *("  - name: imx219", "    uri: csi://0"),
        *("  - name: hd-webcam", "    uri: /dev/video1"),
    ]
