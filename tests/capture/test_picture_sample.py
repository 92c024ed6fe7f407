from __future__ import annotations

from typing import Optional, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.capture.picture_sample import PictureSample, detail, flickers, sample
from edge.geometry import Image


def plain(level: int, size_wh: Tuple[int, int] = (320, 240)) -> Image:
    width, height = size_wh
    return np.full((height, width, 3), level, np.uint8)


def cells(level: float) -> PictureSample:
    return PictureSample(np.zeros((8, 48), np.uint8), 0, np.full((9, 16), level, np.float32))


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 255))
def test_any_size_can_be_looked_at(width: int, height: int, level: int) -> None:
    seen = sample(plain(level, (width, height)))
    if seen.cells.size:
        assert float(np.abs(seen.cells - level).max()) < 0.01
        assert seen.brightest == pytest.approx(level, abs=0.01)
    uneven = detail(seen.cells)
    assert (uneven is None) is (min(seen.cells.shape) < 3)
    assert uneven is None or uneven < 0.001


@pytest.mark.parametrize(
    "size_wh", [(640, 360), (1280, 720), (1920, 1080), (3840, 2160), (720, 1280)]
)
def test_the_cells_are_about_as_many_whatever_the_size(size_wh: Tuple[int, int]) -> None:
    rows, columns = sample(plain(7, size_wh)).cells.shape
    assert 9 <= rows <= 17
    assert 16 <= columns <= 31


def test_a_cell_is_the_mean_brightness_of_its_part() -> None:
    image = plain(0, (128, 72))
    image[:36, :64] = (30, 60, 90)
    seen = sample(image).cells
    assert seen.shape == (9, 16)
    assert seen[:4, :8] == pytest.approx(60.0)
    assert seen[5:, 8:] == pytest.approx(0.0)


@given(st.integers(0, 2**32 - 1))
def test_noise_changes_the_fingerprint(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = plain(100)
    noisy = image + rng.integers(0, 2, image.shape, np.uint8)
    assert sample(noisy).fingerprint != sample(image).fingerprint
    assert sample(noisy.copy()).fingerprint == sample(noisy).fingerprint


@pytest.mark.parametrize(
    ("level", "shows"),
    [(0, False), (16, False), (17, True), (239, True), (240, False), (255, False)],
)
def test_black_and_white_show_no_noise(level: int, shows: bool) -> None:
    assert cells(level).shows_noise is shows


def unevenness(cells: NDArray[np.float32]) -> float:
    uneven = detail(cells)
    assert uneven is not None
    return uneven


def test_an_even_gradient_is_no_detail_and_a_pattern_is() -> None:
    across = np.tile(np.linspace(0, 250, 640, dtype=np.float32), (360, 1))
    gradient = np.repeat(across[:, :, None], 3, axis=2).astype(np.uint8)
    pattern = gradient.copy()
    pattern[:, ::80] = 0
    pattern[(np.arange(360) // 40) % 2 == 0] //= 2
    assert unevenness(sample(gradient).cells) < 0.01
    assert unevenness(sample(pattern).cells) > 0.1


def test_the_dark_keeps_its_detail_per_brightness() -> None:
    rng = np.random.default_rng(1)
    day = rng.integers(40, 255, (9, 16)).astype(np.float32)
    quarter, hundredth = day * np.float32(0.25), day * np.float32(0.01)
    assert unevenness(quarter) == pytest.approx(unevenness(day), rel=0.4)
    assert unevenness(hundredth) < 0.25 * unevenness(day)


SCENE: NDArray[np.int64] = (
    np.random.default_rng(3).integers(40, 200, (18, 32, 3)).repeat(8, axis=0).repeat(8, axis=1)
)


def noisy(view: NDArray[np.int64], seed: int, left: float = 0.0, right: float = 1.0) -> Image:
    """With a sensor's noise in a part of the width."""
    noise = np.random.default_rng(seed).integers(-2, 3, view.shape)
    first, last = round(left * view.shape[1]), round(right * view.shape[1])
    noise[:, :first] = noise[:, last:] = 0
    return np.asarray(np.clip(view + noise, 0, 255), np.uint8)


def white_right_of(share: float) -> NDArray[np.int64]:
    view: NDArray[np.int64] = np.array(SCENE)
    view[:, round(share * view.shape[1]) :] = 255
    return view


@pytest.mark.parametrize(
    ("before", "seen", "expected"),
    [
        pytest.param(noisy(SCENE, 1), noisy(SCENE, 2), True, id="noise"),
        pytest.param(noisy(SCENE, 1), noisy(SCENE, 1), False, id="nothing"),
        pytest.param(noisy(SCENE, 1, 0.2), noisy(SCENE, 2, 0.2), False, id="in parts only"),
        pytest.param(noisy(SCENE, 1), noisy(SCENE[:, ::-1], 2), None, id="another view"),
        pytest.param(noisy(SCENE, 1), noisy(SCENE + 3, 2), None, id="another light"),
        pytest.param(noisy(SCENE, 1), noisy(SCENE[:72], 2), None, id="another size"),
        pytest.param(noisy(SCENE[:3], 1), noisy(SCENE[:3], 2), None, id="too small"),
    ],
)
def test_noise_changes_all_of_a_picture_at_rest(
    before: Image, seen: Image, expected: Optional[bool]
) -> None:
    assert flickers(sample(before), sample(seen)) is expected


@pytest.mark.parametrize(("share", "expected"), [(0.5, True), (0.25, True), (0.125, False)])
def test_what_is_white_has_no_noise_to_see(share: float, expected: bool) -> None:
    view = white_right_of(share)
    seen = [sample(noisy(view, seed, 0.0, share)) for seed in (1, 2)]
    assert flickers(*seen) is expected


def test_somebody_who_walks_through_is_no_motion_of_the_picture() -> None:
    view: NDArray[np.int64] = np.array(SCENE)
    view[:, 60:140] = 20
    assert flickers(sample(noisy(SCENE, 1)), sample(noisy(view, 2))) is True
