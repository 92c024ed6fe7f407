from __future__ import annotations

from typing import Any, Tuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.geometry import PAD_GREY, Image, Letterbox, PadAnchor

Size = Tuple[int, int]

ANCHORS = st.sampled_from(PadAnchor)
SOURCES = st.tuples(st.integers(64, 3840), st.integers(64, 2160))
MODELS = st.tuples(st.integers(32, 1280), st.integers(32, 1280))
# Pictures are made of these, so they stay small.
SMALL_SOURCES = st.tuples(st.integers(2, 400), st.integers(2, 400))
SMALL_MODELS = st.tuples(st.integers(32, 320), st.integers(32, 320))


def noise(size_wh: Size, seed: int = 0) -> Image:
    width, height = size_wh
    picture: Image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return picture


def content(letterbox: Letterbox) -> Tuple[slice, slice]:
    (width, height), left, top = letterbox.resized_wh, letterbox.pad_left, letterbox.pad_top
    return slice(top, top + height), slice(left, left + width)


def blank(model_wh: Size, grey: int) -> Image:
    return np.full((model_wh[1], model_wh[0], 3), grey, np.uint8)


def reference(source: Image, letterbox: Letterbox) -> Image:
    """The letterbox as detectors' training code writes it: resize, then copyMakeBorder."""
    (width, height), (model_w, model_h) = letterbox.resized_wh, letterbox.model_wh
    resized = cv2.resize(source, (width, height), interpolation=cv2.INTER_LINEAR)
    picture = cv2.copyMakeBorder(
        resized,
        letterbox.pad_top,
        model_h - height - letterbox.pad_top,
        letterbox.pad_left,
        model_w - width - letterbox.pad_left,
        cv2.BORDER_CONSTANT,
        value=(114, 114, 114),
    )
    return np.asarray(picture, np.uint8)


FITS = {
    "1080p": ((1920, 1080), (640, 640), PadAnchor.CENTER, (640, 360), (0, 140)),
    "1080p top left": ((1920, 1080), (640, 640), PadAnchor.TOP_LEFT, (640, 360), (0, 0)),
    "portrait": ((1080, 1920), (640, 640), PadAnchor.CENTER, (360, 640), (140, 0)),
    "same size": ((640, 640), (640, 640), PadAnchor.CENTER, (640, 640), (0, 0)),
    "enlarged": ((320, 240), (640, 640), PadAnchor.CENTER, (640, 480), (0, 80)),
    "wide model": ((640, 640), (1280, 640), PadAnchor.CENTER, (640, 640), (320, 0)),
    "odd border: the larger half is below": (
        (640, 359), (640, 640), PadAnchor.CENTER, (640, 359), (0, 140),
    ),
    "sliver": ((3840, 1), (32, 32), PadAnchor.CENTER, (32, 1), (0, 15)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("source_wh", "model_wh", "anchor", "resized_wh", "pad"), FITS.values(), ids=FITS
)
def test_fit(
    source_wh: Size, model_wh: Size, anchor: PadAnchor, resized_wh: Size, pad: Size
) -> None:
    letterbox = Letterbox.fit(source_wh, model_wh, anchor)
    assert letterbox.resized_wh == resized_wh
    assert (letterbox.pad_left, letterbox.pad_top) == pad


@pytest.mark.parametrize(
    ("source_wh", "model_wh"),
    [((0, 9), (9, 9)), ((9, 0), (9, 9)), ((9, 9), (0, 9)), ((9, 9), (9, -1))],
)
def test_sizes_must_be_positive(source_wh: Size, model_wh: Size) -> None:
    with pytest.raises(ValueError, match="sizes must be positive"):
        Letterbox.fit(source_wh, model_wh)


@given(SOURCES, MODELS, ANCHORS)
def test_the_picture_lies_inside_and_touches_two_edges(
    source_wh: Size, model_wh: Size, anchor: PadAnchor
) -> None:
    letterbox = Letterbox.fit(source_wh, model_wh, anchor)
    width, height = letterbox.resized_wh
    left, top = letterbox.pad_left, letterbox.pad_top
    right, bottom = model_wh[0] - left - width, model_wh[1] - top - height

    assert min(left, top, right, bottom) >= 0
    assert width == model_wh[0] or height == model_wh[1]
    if anchor is PadAnchor.TOP_LEFT:
        assert (left, top) == (0, 0)
    else:
        assert right - left in (0, 1)
        assert bottom - top in (0, 1)


@given(SOURCES, MODELS, ANCHORS)
def test_the_aspect_is_kept_up_to_a_pixel(
    source_wh: Size, model_wh: Size, anchor: PadAnchor
) -> None:
    letterbox = Letterbox.fit(source_wh, model_wh, anchor)
    scale = min(model_wh[0] / source_wh[0], model_wh[1] / source_wh[1])
    for resized, source in zip(letterbox.resized_wh, source_wh):
        assert abs(resized - max(source * scale, 1)) <= 0.5 + 1e-9


FRACTIONS = st.floats(0, 1, width=32)


@given(SOURCES, MODELS, ANCHORS, st.tuples(FRACTIONS, FRACTIONS, FRACTIONS, FRACTIONS))
@settings(max_examples=400)
def test_there_and_back_is_exact(
    source_wh: Size,
    model_wh: Size,
    anchor: PadAnchor,
    corners: Tuple[float, float, float, float],
) -> None:
    letterbox = Letterbox.fit(source_wh, model_wh, anchor)
    boxes = np.array([corners], np.float32) * np.array(source_wh * 2, np.float32)

    in_model = letterbox.to_model(boxes)
    rows, columns = content(letterbox)
    assert (in_model >= np.array([columns.start, rows.start] * 2) - 0.01).all()
    assert (in_model <= np.array([columns.stop, rows.stop] * 2) + 0.01).all()
    # Half a source pixel is the promise; float32 keeps far better.
    np.testing.assert_allclose(letterbox.to_source(in_model), boxes, atol=0.05)


@given(SOURCES, MODELS, ANCHORS)
def test_boxes_are_clipped_to_the_source(
    source_wh: Size, model_wh: Size, anchor: PadAnchor
) -> None:
    letterbox = Letterbox.fit(source_wh, model_wh, anchor)
    beyond = np.array([[-1e6, -1e6, 1e6, 1e6]], np.float32)
    assert letterbox.to_source(beyond).tolist() == [[0, 0, *map(float, source_wh)]]


def test_no_boxes_stay_no_boxes() -> None:
    letterbox = Letterbox.fit((1920, 1080), (640, 640))
    nothing = np.empty((0, 4), np.float32)
    assert letterbox.to_model(nothing).shape == (0, 4)
    assert letterbox.to_source(nothing).shape == (0, 4)
    assert letterbox.to_source(nothing).dtype == np.float32


@given(SMALL_SOURCES, SMALL_MODELS, ANCHORS)
def test_every_pixel_of_a_poisoned_row_is_written(
    source_wh: Size, model_wh: Size, anchor: PadAnchor
) -> None:
    letterbox = Letterbox.fit(source_wh, model_wh, anchor)
    source = noise(source_wh)
    on_black, on_white = blank(model_wh, 0), blank(model_wh, 255)
    letterbox.draw(source, on_black)
    letterbox.draw(source, on_white)

    assert np.array_equal(on_black, on_white)
    is_border = np.ones(on_black.shape[:2], bool)
    is_border[content(letterbox)] = False
    assert (on_black[is_border] == PAD_GREY).all()


@given(SMALL_SOURCES, SMALL_MODELS, ANCHORS)
def test_draw_equals_the_plain_recipe(source_wh: Size, model_wh: Size, anchor: PadAnchor) -> None:
    letterbox = Letterbox.fit(source_wh, model_wh, anchor)
    source, row = noise(source_wh), blank(model_wh, 0)
    letterbox.draw(source, row)
    difference = row.astype(np.int16) - reference(source, letterbox)
    assert np.abs(difference).max() <= 1


@given(SMALL_SOURCES, SMALL_SOURCES, SMALL_MODELS)
def test_drawing_again_leaves_nothing_of_the_old_picture(
    first_wh: Size, second_wh: Size, model_wh: Size
) -> None:
    row, fresh = blank(model_wh, 0), blank(model_wh, 0)
    second = Letterbox.fit(second_wh, model_wh)
    Letterbox.fit(first_wh, model_wh).draw(noise(first_wh, 1), row)

    second.draw(noise(second_wh, 2), row)
    second.draw(noise(second_wh, 2), fresh)

    assert np.array_equal(row, fresh)


def test_the_border_can_be_left_alone() -> None:
    letterbox = Letterbox.fit((200, 100), (64, 64))
    row = blank((64, 64), 9)
    letterbox.draw(noise((200, 100)), row, paint_border=False)
    is_border = np.ones((64, 64), bool)
    is_border[content(letterbox)] = False
    assert (row[is_border] == 9).all()
    assert not (row[content(letterbox)] == 9).all()


def test_draw_writes_into_the_row_of_a_larger_array() -> None:
    letterbox = Letterbox.fit((200, 100), (64, 64))
    rows = np.zeros((3, 64, 64, 3), np.uint8)
    letterbox.draw(noise((200, 100)), rows[1])
    assert not rows[0].any()
    assert not rows[2].any()
    assert np.array_equal(rows[1], reference(noise((200, 100)), letterbox))


WRONG_SOURCES = {
    "other size": np.zeros((100, 201, 3), np.uint8),
    "turned": np.zeros((200, 100, 3), np.uint8),
    "grey": np.zeros((100, 200), np.uint8),
    "with alpha": np.zeros((100, 200, 4), np.uint8),
    "floats": np.zeros((100, 200, 3), np.float32),
}


@pytest.mark.parametrize("source", WRONG_SOURCES.values(), ids=WRONG_SOURCES)
def test_draw_refuses_what_the_letterbox_was_not_made_for(source: NDArray[Any]) -> None:
    row = blank((64, 64), 9)
    with pytest.raises(ValueError, match="expected a uint8 BGR frame of 200x100"):
        Letterbox.fit((200, 100), (64, 64)).draw(source, row)
    assert (row == 9).all()


RECTANGLES = {
    "1080p to 640": ((1920, 1080), (640, 640), (480, 270, 1440, 810)),
    "1080p to 320": ((1920, 1080), (320, 320), (96, 96, 960, 1020)),
    "portrait": ((720, 1280), (640, 640), (100, 200, 500, 1200)),
    "enlarged": ((160, 120), (640, 640), (20, 30, 100, 110)),
    "odd sizes": ((1279, 717), (416, 352), (201, 101, 901, 633)),
    "wide model": ((640, 480), (1280, 384), (60, 40, 600, 440)),
}


@pytest.mark.parametrize("anchor", PadAnchor)
@pytest.mark.parametrize(("source_wh", "model_wh", "box"), RECTANGLES.values(), ids=RECTANGLES)
def test_a_rectangle_is_found_where_its_box_is_mapped(
    source_wh: Size, model_wh: Size, box: Tuple[int, int, int, int], anchor: PadAnchor
) -> None:
    letterbox = Letterbox.fit(source_wh, model_wh, anchor)
    x1, y1, x2, y2 = box
    source = np.zeros((source_wh[1], source_wh[0], 3), np.uint8)
    source[y1:y2, x1:x2] = 255
    row = blank(model_wh, 0)
    letterbox.draw(source, row)

    is_white = np.zeros(row.shape[:2], bool)
    is_white[content(letterbox)] = row[content(letterbox)][..., 0] > 127
    columns, rows = np.flatnonzero(is_white.any(0)), np.flatnonzero(is_white.any(1))
    found = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)

    # A pixel counts as white from half its area on, so an edge is found to half a pixel.
    np.testing.assert_allclose(found, letterbox.to_model(np.array([box])), atol=0.51)
    source_pixel = 1 / min(letterbox.scale_xy)
    np.testing.assert_allclose(letterbox.to_source(found), [box], atol=0.51 * source_pixel)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("is_contiguous", [True, False])
def test_whole_factors_give_the_very_pixels_of_bilinear(factor: int, is_contiguous: bool) -> None:
    width, height = 40, 24
    noise = np.random.default_rng(factor).integers(
        0, 256, (height * factor, width * factor + 8, 3), np.uint8
    )
    source = noise[:, 4:-4]
    if is_contiguous:
        source = np.ascontiguousarray(source)
    expected = cv2.resize(source, (width, height), interpolation=cv2.INTER_LINEAR)
    row = np.full((40, 40, 3), 7, np.uint8)
    Letterbox.fit((width * factor, height * factor), (40, 40)).draw(source, row)
    assert (row[8:32] == expected).all()
    assert (row[:8] == PAD_GREY).all()
    assert (row[32:] == PAD_GREY).all()
