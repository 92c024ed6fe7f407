from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import numpy as np
import pytest

from edge.capture import Source, open_source
from edge.capture.opening import MediaSource
from edge.capture.synthetic import SyntheticSource
from edge.capture.video import RtspStream, V4l2Camera
from edge.config.schema import CameraConfig
from edge.errors import CaptureError
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
