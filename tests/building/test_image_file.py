from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Tuple

import cv2
import numpy as np
import pytest

from edge.building.image_file import list_images, look_at, read_bytes, read_image
from edge.building.likeness import is_alike, thumbnail
from edge.errors import BuildError, ConfigError
from tests.building.calibration_folder import encoded, picture

SUFFIXES = (".jpg", ".png", ".bmp")
SIZES = [(1, 1), (31, 33), (64, 64), (257, 250), (250, 258), (132, 128), (640, 480), (264, 256)]


def turned_by_exif(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an APP1 segment that says how the camera was held."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    payload = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("size_wh", SIZES)
def test_a_look_has_the_size_and_the_cells_of_the_image(
    suffix: str, size_wh: Tuple[int, int]
) -> None:
    image = picture(3, size_wh)
    look = look_at(encoded(image, suffix))
    assert look is not None
    assert look.size_wh == size_wh
    assert is_alike(look.thumbnail, thumbnail(image))


@pytest.mark.parametrize("size_wh", SIZES)
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_image_has_the_size_it_is_decoded_to(
    orientation: int, size_wh: Tuple[int, int], tmp_path: Path
) -> None:
    data = turned_by_exif(encoded(picture(4, size_wh)), orientation)
    path = tmp_path / "held.jpg"
    path.write_bytes(data)
    look, image = look_at(data), read_image(path)
    assert look is not None
    assert look.size_wh == (image.shape[1], image.shape[0])
    assert (look.size_wh == size_wh) is (orientation in (1, 3) or size_wh[0] == size_wh[1])
    assert is_alike(look.thumbnail, thumbnail(image))


@pytest.mark.parametrize("share", [0.999, 0.7, 0.3, 0.02])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_cut_short_is_no_image(suffix: str, share: float) -> None:
    data = encoded(picture(5, (320, 240)), suffix)
    assert look_at(data[: int(len(data) * share)]) is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"notes", id="text"),
        pytest.param(b"\xff\xd8\xff\xd9", id="jpeg of nothing"),
        pytest.param(b"\xff\xd8\xff\xda\xff\xd9", id="jpeg of no frame"),
        pytest.param(b"\xff\xd8" + b"\xff" * 40 + b"\xda\xff\xd9", id="jpeg of filling"),
        pytest.param(b"\xff\xd8\xff\xe0\x00\x00" * 9 + b"\xff\xda\xff\xd9", id="segments of 0"),
        pytest.param(b"BM\x06\0\0\0", id="bmp of nothing"),
        pytest.param(b"\x89PNG\r\n\x1a\nIEND", id="png of nothing"),
    ],
)
def test_what_is_no_image_is_seen(data: bytes) -> None:
    assert look_at(data) is None


def test_a_jpeg_with_filling_bytes_and_a_trailer_is_whole() -> None:
    data = encoded(picture(6, (320, 240)))
    look = look_at(data[:2] + b"\xff\xff" + data[2:] + b"made by a camera")
    assert look is not None
    assert look.size_wh == (320, 240)


def test_only_images_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.jpeg", "c.png", "d.bmp", "._b.JPG", "notes.txt", "e.gif", "a.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_images(tmp_path)] == ["a.jpeg", "b.JPG", "c.png", "d.bmp"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("none", "does not exist; correct the path", id="missing"),
        pytest.param("file", "is not a folder", id="a file"),
        pytest.param("empty", "has no images (.bmp, .jpeg, .jpg, .png); put 500", id="empty"),
        pytest.param("loop", "cannot be opened: Too many levels", id="a link to itself"),
        pytest.param("x" * 300, "cannot be opened: File name too long", id="long name"),
        pytest.param("a\0b", "embedded null", id="NUL"),
        pytest.param(
            "locked",
            "cannot be opened: Permission denied",
            id="locked",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything"),
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_said_in_a_line(
    name: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "locked").mkdir(mode=0)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ConfigError) as raised:
        list_images(tmp_path / name)
    assert str(raised.value).startswith("calibration.folder: ")
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert read_bytes(tmp_path / "a.jpg") == b""
    assert read_bytes(tmp_path / "none.jpg") == b""


def test_an_image_that_is_gone_fails_the_build(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"a\.jpg can no longer be read"):
        read_image(tmp_path / "a.jpg")


def test_a_grey_image_is_read_in_colour(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 6), 7, np.uint8))
    assert (read_image(tmp_path / "a.png") == np.full((4, 6, 3), 7)).all()
