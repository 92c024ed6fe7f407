from __future__ import annotations

from typing import List, Tuple

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.building.likeness import Album, is_alike, thumbnail
from edge.geometry import Image
from tests.building.calibration_folder import encoded, picture

GREY = np.full((32, 32), 100, np.uint8)


def with_cell(level: int) -> Image:
    cells: Image = GREY.copy()
    cells[9, 30] = level
    return cells


@pytest.mark.parametrize(
    ("level", "expected"), [(92, True), (91, False), (108, True), (109, False), (0, False)]
)
def test_one_cell_decides(level: int, expected: bool) -> None:
    assert is_alike(GREY, with_cell(level)) is expected
    assert is_alike(with_cell(level), GREY) is expected
    assert Album([GREY]).holds_alike(with_cell(level)) is expected


def test_a_recompressed_picture_is_alike_and_another_is_not() -> None:
    original = picture(1, (640, 480))
    data = np.frombuffer(encoded(original, quality=60), np.uint8)
    again = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    assert is_alike(thumbnail(original), thumbnail(again))
    assert not is_alike(thumbnail(original), thumbnail(picture(2, (640, 480))))


def test_a_small_part_on_an_empty_belt_is_seen() -> None:
    belt = np.full((480, 640, 3), 90, np.uint8)
    with_part = belt.copy()
    with_part[200:220, 300:320] = 220
    assert not is_alike(thumbnail(belt), thumbnail(with_part))


def test_noise_on_a_flat_surface_is_not_seen() -> None:
    noise = np.random.default_rng(0).integers(-9, 10, (2, 480, 640, 3))
    one, other = (90 + noise).astype(np.uint8)
    assert is_alike(thumbnail(one), thumbnail(other))


def test_an_album_can_be_looked_at_up_to_a_place() -> None:
    album = Album([with_cell(0), GREY])
    assert not album.holds_alike(GREY, before=0)
    assert not album.holds_alike(GREY, before=1)
    assert album.holds_alike(GREY, before=2)
    assert not Album([]).holds_alike(GREY)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=8), st.integers(0, 12))
def test_the_coarse_look_misses_nothing(levels: List[int], offset: int) -> None:
    rng = np.random.default_rng(levels)
    one = rng.integers(60, 180, (32, 32)).astype(np.uint8)
    many = [one + rng.integers(0, level + 1, (32, 32)).astype(np.uint8) for level in levels]
    one = one + np.uint8(offset)
    assert Album(many).holds_alike(one) == any(is_alike(cells, one) for cells in many)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 500, 3), (500, 3), (32, 32)])
def test_any_picture_has_a_thumbnail(shape: Tuple[int, ...]) -> None:
    assert thumbnail(np.zeros(shape, np.uint8)).shape == (32, 32)
