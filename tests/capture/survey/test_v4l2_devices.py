from __future__ import annotations

import errno
import os
import re
import threading
from pathlib import Path
from typing import Dict

import pytest

from edge.capture.survey import v4l2_devices
from edge.capture.survey.v4l2_devices import (
    FrameSize,
    PixelFormat,
    V4l2Device,
    describe,
    find_devices,
    holders,
    inspect,
    opening_trouble,
    stable_names,
    video_nodes,
)
from tests.capture.survey.kernel import CODEC, METADATA, WEBCAM, Kernel, Sizes

NODE = Path("/dev/video0")
FORMATS: Dict[bytes, Sizes] = {
    b"MJPG": {(1280, 720): [(1, 30), (1, 60)], (640, 480): [(1, 30)]},
    b"YUYV": {(640, 480): [(1001, 30000)]},
}


def test_a_webcam_with_all_it_offers(tmp_path: Path) -> None:
    assert describe(NODE, Kernel(formats=FORMATS), tmp_path) == V4l2Device(
        node=NODE,
        card="HD Webcam: HD Webcam",
        driver="uvcvideo",
        bus="usb-0000:00:14.0-1",
        formats=(
            PixelFormat(
                "MJPG",
                "words",
                (FrameSize((1280, 720), (60.0, 30.0)), FrameSize((640, 480), (30.0,))),
            ),
            PixelFormat("YUYV", "words", (FrameSize((640, 480), (29.97,)),)),
        ),
    )


@pytest.mark.parametrize(
    ("flags", "is_listed"), [(WEBCAM, True), (METADATA, False), (CODEC, False)]
)
def test_only_cameras_are_listed(flags: int, is_listed: bool, tmp_path: Path) -> None:
    assert (describe(NODE, Kernel(flags), tmp_path) is not None) is is_listed


def test_a_csi_sensors_raw_end_is_known_by_its_driver(tmp_path: Path) -> None:
    device = describe(NODE, Kernel(driver=b"tegra-video"), tmp_path)
    assert device is not None
    assert device.is_csi_sensor


def test_a_driver_that_repeats_its_last_entry_for_ever(tmp_path: Path) -> None:
    kernel = Kernel(formats={b"YUYV": {(640, 480): [(1, 30)]}}, never_says_no_more=True)
    device = describe(NODE, kernel, tmp_path)
    assert device is not None
    assert device.formats == (PixelFormat("YUYV", "words", (FrameSize((640, 480), (30.0,)),)),)


def process(root: Path, number: str, name: str, opens: str) -> None:
    folder = root / "proc" / number
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(f"{name}\n")
    os.symlink(opens, folder / "fd" / "5")


def test_a_busy_camera_names_who_has_it(tmp_path: Path) -> None:
    process(tmp_path, "812", "ffmpeg", "/dev/video0")
    process(tmp_path, "97", "python3", "/dev/video1")
    process(tmp_path, str(os.getpid()), "edge", "/dev/video0")
    (tmp_path / "proc/13").mkdir()  # somebody else's: may not be looked into
    assert holders(NODE, tmp_path) == ["ffmpeg (process 812)"]
    device = describe(NODE, Kernel(is_busy=True), tmp_path)
    assert device is not None
    assert device.trouble is not None
    assert device.trouble.reason == "in use by ffmpeg (process 812)"


def test_a_busy_camera_of_somebody_unknown(tmp_path: Path) -> None:
    device = describe(NODE, Kernel(is_busy=True), tmp_path)
    assert device is not None
    assert device.trouble is not None
    assert device.trouble.reason == "in use by another program"


@pytest.mark.parametrize(
    ("number", "reason", "advice"),
    [
        (errno.EACCES, "no permission", r"usermod -aG video \$USER"),
        (errno.EPERM, "no permission", "--group-add video"),
        (errno.EBUSY, "in use by another program", "stop"),
        (errno.ENODEV, "does not answer", "plug it in again"),
        (errno.ENXIO, "does not answer", "plug it in again"),
        (errno.EMFILE, "cannot be opened: Too many open files", ""),
    ],
)
def test_why_a_node_cannot_be_opened(number: int, reason: str, advice: str, tmp_path: Path) -> None:
    found = opening_trouble(tmp_path / "dev/video9", OSError(number, os.strerror(number)), tmp_path)
    assert reason in found.reason
    assert re.search(advice, found.advice)


def test_nodes_in_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for name in ("video10", "video2", "videocam", "media0", "video0"):
        (tmp_path / "dev" / name).touch()
    assert [node.name for node in video_nodes(tmp_path)] == ["video0", "video2", "video10"]
    assert video_nodes(tmp_path / "absent") == []


def test_the_cameras_own_name_goes_before_that_of_its_socket(tmp_path: Path) -> None:
    for kind, name, node in (
        ("by-id", "usb-046d_C920-video-index0", "video0"),
        ("by-path", "pci-0000:00:14.0-usb-0:1:1.0-video-index0", "video0"),
        ("by-path", "pci-0000:00:14.0-usb-0:2:1.0-video-index0", "video2"),
    ):
        folder = tmp_path / "dev/v4l" / kind
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dev" / node).touch()
        os.symlink(f"../../{node}", folder / name)
    names = stable_names(tmp_path)
    assert names[tmp_path / "dev/video0"].name == "usb-046d_C920-video-index0"
    assert names[tmp_path / "dev/video2"].parent.name == "by-path"


def sysfs(root: Path, node: str, index: str, name: str) -> None:
    folder = root / "sys/class/video4linux" / node
    folder.mkdir(parents=True)
    (folder / "index").write_text(f"{index}\n")
    (folder / "name").write_text(f"{name}\n")


def test_a_node_that_cannot_be_opened_is_listed_with_its_name(tmp_path: Path) -> None:
    # A folder refuses to be opened for writing, whoever runs the tests.
    for node, index in (("video0", "0"), ("video1", "1")):
        (tmp_path / "dev" / node).mkdir(parents=True)
        sysfs(tmp_path, node, index, "HD Webcam")
    (tmp_path / "dev/video2").touch()  # a file: not V4L2 at all
    (device,) = find_devices(tmp_path)
    assert (device.node.name, device.card) == ("video0", "HD Webcam")
    assert device.trouble is not None
    assert device.trouble.reason == "cannot be opened: Is a directory"


def test_what_is_no_video_device_is_left_out() -> None:
    assert inspect(Path("/dev/null")) is None


def test_a_driver_that_hangs_does_not_hold_the_survey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/video0").touch()
    release = threading.Event()
    monkeypatch.setattr(v4l2_devices, "inspect", lambda *_: release.wait(60) and None)
    monkeypatch.setattr(v4l2_devices, "_TIMEOUT_S", 0.05)
    (device,) = find_devices(tmp_path)
    release.set()
    assert device.trouble is not None
    assert device.trouble.reason == "its driver hangs"
