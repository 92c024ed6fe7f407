from __future__ import annotations

import numpy as np
import pytest

from edge.demo.annotate import annotate, colour_of, contact_sheet
from edge.records import Detections
from tests.demo.results import detections

NAMES = ("bolt", "nut", "washer")


@pytest.mark.parametrize("size_wh", [(320, 240), (3840, 2160), (64, 64)])
def test_draws_on_a_copy_at_any_size(size_wh: tuple[int, int]) -> None:
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    canvas = annotate(image, detections(3), NAMES)
    assert canvas.shape == image.shape
    assert not image.any()
    for class_id in range(3):
        assert (canvas == colour_of(class_id)).all(axis=2).any()


def test_strokes_grow_with_the_picture() -> None:
    one = Detections(
        np.array([[100, 100, 200, 200]], np.float32),
        np.array([0.5], np.float32),
        np.array([0], np.int64),
    )

    def painted_below_the_label(width: int) -> int:
        canvas = annotate(np.zeros((width // 2, width, 3), np.uint8), one, NAMES)
        return int((canvas[150, 80:120] > 0).any(axis=1).sum())

    assert painted_below_the_label(3840) > painted_below_the_label(640) >= 1


def test_a_box_at_the_edge_keeps_its_label_inside() -> None:
    corner = Detections(
        np.array([[300, 0, 320, 20]], np.float32),
        np.array([0.99], np.float32),
        np.array([1], np.int64),
    )
    canvas = annotate(np.zeros((240, 320, 3), np.uint8), corner, NAMES)
    label = (canvas == colour_of(1)).all(axis=2)
    assert label[:, :290].any()


def test_no_objects_leave_the_picture_alone() -> None:
    image = np.random.default_rng(1).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    assert (annotate(image, Detections.empty(), NAMES) == image).all()


def test_contact_sheet_fills_the_last_row() -> None:
    pictures = [(f"p{n}", np.full((50 + n, 80, 3), 9, np.uint8)) for n in range(4)]
    sheet = contact_sheet(pictures, columns=3, tile_wh=(100, 60))
    assert sheet.shape == (2 * (60 + 26), 300, 3)
    assert sheet[-1, -1].tolist() == [255, 255, 255]
