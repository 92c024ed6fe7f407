from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import numpy as np
import pytest

from edge.capture import Source, open_source
from edge.capture.gstreamer import CustomPipeline, HardwareCamera
from edge.capture.hardware import Abilities
from edge.capture.opencv import silence_decoders
from edge.capture.opening import MediaSource, TurnedSource, source_factory
from edge.capture.synthetic import SyntheticSource
from edge.capture.v4l2_camera import V4l2Camera
from edge.capture.video import RtspStream
from edge.config.camera import CameraConfig
from edge.errors import CaptureError, ConfigError
from edge.geometry import Image
from tests.capture.conftest import Media


def render(seed: int, size_wh: Tuple[int, int]) -> Callable[[int], Image]:
    width, height = size_wh
    return lambda index: np.full((height, width, 3), seed + index, np.uint8)


def open_from(base_dir: Path, uri: str, **config: object) -> Source:
    camera = CameraConfig.model_validate({"name": "gate", "uri": uri, **config})
    return open_source(camera, base_dir, render)


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("clip.mp4", MediaSource),
        ("absent.mp4", MediaSource),
        ("pictures", MediaSource),
        ("synthetic://3", SyntheticSource),
        ("rtsp://10.0.0.5/s", RtspStream),
        ("/dev/video0", V4l2Camera),
    ],
)
def test_each_uri_has_its_source(media: Media, uri: str, kind: type) -> None:
    assert type(open_from(media.folder, uri)) is kind


@pytest.mark.parametrize(
    ("uri", "config", "gap_s"),
    [
        ("pictures", {}, 0.5),
        ("pictures", {"fps": 4.0}, 0.25),
        ("synthetic://3", {}, 0.1),
        ("synthetic://3", {"fps": 4.0}, 0.25),
        ("clip.mp4", {"fps": 4.0}, 0.1),
    ],
)
def test_the_pace_of_each_kind(
    media: Media, uri: str, config: Dict[str, float], gap_s: float
) -> None:
    source = open_from(media.folder, uri, **config)
    source.open()
    pictures = [source.read(), source.read()]
    source.close()
    assert [p.media_s for p in pictures if p] == [0.0, pytest.approx(gap_s)]


@pytest.mark.parametrize("uri", ["clip.mp4", "pictures"])
@pytest.mark.parametrize("loop", [True, False])
def test_loop_is_obeyed(media: Media, uri: str, loop: bool) -> None:
    source = open_from(media.folder, uri, loop=loop)
    source.open()
    reads: List[bool] = [source.read() is not None for _ in range(13)]
    source.close()
    assert all(reads) is loop


def test_a_scene_is_rendered_for_its_seed_and_size() -> None:
    source = open_from(Path(), "synthetic://3?size=96x64")
    source.open()
    picture = source.read()
    assert picture is not None
    assert picture.image.shape == (64, 96, 3)
    assert int(picture.image[0, 0, 0]) == 3


def test_a_folder_that_is_mounted_later_is_found(tmp_path: Path, media: Media) -> None:
    source = open_from(tmp_path, "later")
    with pytest.raises(CaptureError, match="later cannot be opened: No such file"):
        source.open()
    shutil.copytree(media.folder / "pictures", tmp_path / "later")
    source.open()
    assert source.read() is not None
    source.close()


def test_a_path_too_long_for_any_file_is_a_capture_error(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="File name too long"):
        open_from(tmp_path, "x" * 300).open()


JETSON = Abilities(gstreamer=True, nvidia_elements=True, opencv="OpenCV 4.5.4 in /usr/lib")
DEBIAN = Abilities(gstreamer=True, nvidia_elements=False, opencv="OpenCV 4.6.0 in /usr/lib")
PIP = Abilities(gstreamer=False, nvidia_elements=False, opencv="OpenCV 4.11.0 in /venv")


def made(uri: str, abilities: Abilities, **keys: object) -> Source:
    camera = CameraConfig.model_validate({"name": "gate", "uri": uri, **keys})
    return source_factory(camera, Path("/data"), render, (640, 640), abilities)()


MJPEG = {"pixel_format": "mjpeg"}
SOFTWARE = {"decoder": "software"}
KINDS: Dict[str, Tuple[str, Dict[str, str], Abilities, type]] = {
    "csi": ("csi://0", {}, JETSON, HardwareCamera),
    "rtsp": ("rtsp://h/s", {}, JETSON, HardwareCamera),
    "rtsp in software": ("rtsp://h/s", SOFTWARE, JETSON, RtspStream),
    "rtsp without a Jetson": ("rtsp://h/s", {}, DEBIAN, RtspStream),
    "rtsp without GStreamer": ("rtsp://h/s", {}, PIP, RtspStream),
    "usb mjpeg": ("/dev/video0", MJPEG, JETSON, HardwareCamera),
    "usb mjpeg in software": ("/dev/video0", {**MJPEG, **SOFTWARE}, JETSON, V4l2Camera),
    "usb mjpeg without a Jetson": ("/dev/video0", MJPEG, DEBIAN, V4l2Camera),
    "usb by its own choice": ("/dev/video0", {}, JETSON, V4l2Camera),
    "usb yuyv": ("/dev/video0", {"pixel_format": "yuyv"}, JETSON, V4l2Camera),
    "usb yuyv in hardware": (
        "/dev/video0",
        {"pixel_format": "yuyv", "decoder": "hardware"},
        JETSON,
        HardwareCamera,
    ),
    "a user's pipeline": ("gstreamer:videotestsrc", {}, DEBIAN, CustomPipeline),
    "a file": ("a.mp4", {"decoder": "hardware"}, JETSON, MediaSource),
    "a scene": ("synthetic://1", {}, PIP, SyntheticSource),
}


@pytest.mark.parametrize(("uri", "keys", "abilities", "kind"), KINDS.values(), ids=KINDS)
def test_who_decodes(uri: str, keys: Dict[str, str], abilities: Abilities, kind: type) -> None:
    assert type(made(uri, abilities, **keys)) is kind


@pytest.mark.parametrize(
    ("uri", "keys", "abilities", "words"),
    [
        ("csi://0", {}, PIP, "a csi:// camera needs an OpenCV with GStreamer"),
        ("gstreamer:videotestsrc", {}, PIP, "a gstreamer: pipeline needs an OpenCV"),
        ("rtsp://h/s", {"decoder": "hardware"}, PIP, "decoder: hardware needs an OpenCV"),
        ("csi://0", {}, DEBIAN, "a csi:// camera needs a Jetson's own GStreamer elements"),
        ("a.mp4", {"decoder": "hardware"}, DEBIAN, "decoder: hardware needs a Jetson's own"),
    ],
)
def test_what_this_machine_cannot_decode_is_a_fault_of_the_configuration(
    uri: str, keys: Dict[str, str], abilities: Abilities, words: str
) -> None:
    with pytest.raises(ConfigError, match=r"^cameras gate: ") as caught:
        made(uri, abilities, **keys)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    if abilities is PIP:
        assert "OpenCV 4.11.0 in /venv has none" in message
        assert "pip uninstall opencv-python opencv-python-headless" in message


def test_a_disabled_camera_needs_nothing() -> None:
    camera = CameraConfig.model_validate({"name": "a", "uri": "csi://0", "enabled": False})
    sources = source_factory(camera, Path(), render, None, PIP)
    with pytest.raises(CaptureError, match="disabled"):
        sources()


def test_each_source_is_another_one() -> None:
    camera = CameraConfig.model_validate({"name": "gate", "uri": "rtsp://h/s"})
    make = source_factory(camera, Path(), render, None, PIP)
    assert make() is not make()


@pytest.mark.parametrize("uri", ["clip.mp4", "pictures"])
def test_software_turns_pictures_too(media: Media, uri: str) -> None:
    def first(**keys: object) -> Image:
        source = open_from(media.folder, uri, **keys)
        source.open()
        picture = source.read()
        source.close()
        assert picture is not None
        return picture.image

    upright, turned = first(), first(rotate=90)
    assert turned.shape == (upright.shape[1], upright.shape[0], 3)
    assert np.array_equal(turned, np.rot90(upright, -1))
    assert turned.flags.c_contiguous


def test_a_turned_source_ends_with_its_source(media: Media) -> None:
    source = open_from(media.folder, "one.mp4", rotate=180, loop=False)
    source.open()
    assert source.read() is not None
    assert source.read() is None
    source.close()
    assert type(open_from(Path(), "/dev/video0", rotate=180)) is TurnedSource


@pytest.mark.parametrize("uri", ["clip.mp4", "pictures"])
def test_as_fast_as_possible(media: Media, uri: str) -> None:
    source = open_from(media.folder, uri, realtime=False)
    source.open()
    pictures = [source.read(), source.read()]
    source.close()
    assert [p and p.media_s for p in pictures] == [None, None]


def test_keys_without_effect_in_software_are_said(caplog: pytest.LogCaptureFixture) -> None:
    made("rtsp://h/s", PIP, latency_ms=50, codec="h264")
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "camera gate",
        "camera gate",
    ]
    assert "codec does nothing" in caplog.text
    assert "latency_ms does nothing" in caplog.text


def test_a_hardware_camera_that_is_not_there_is_named() -> None:
    # Port 9 (discard) of this machine refuses at once.
    for uri, keys, words in (
        ("rtsp://u:secret@127.0.0.1:9/s", {}, r"no answer from 127\.0\.0\.1:9: .*refused"),
        ("/dev/video4711", MJPEG, "/dev/video4711 cannot be opened: No such file"),
    ):
        with pytest.raises(CaptureError, match=words) as caught:
            made(uri, JETSON, **keys).open()
        assert "secret" not in str(caught.value)


def test_the_machine_is_asked_once_however_often_cameras_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: List[str] = []

    def has_gstreamer() -> bool:
        asked.append("gstreamer")
        return False

    monkeypatch.setattr("edge.capture.hardware.has_gstreamer", has_gstreamer)
    monkeypatch.setattr("os.putenv", lambda key, value: asked.append(key))
    Abilities.of_this_machine.cache_clear()
    silence_decoders.cache_clear()
    try:
        for _ in range(3):
            open_from(Path(), "rtsp://h/s")
    finally:
        Abilities.of_this_machine.cache_clear()
        silence_decoders.cache_clear()
    assert asked == ["OPENCV_FFMPEG_LOGLEVEL", "gstreamer"]
