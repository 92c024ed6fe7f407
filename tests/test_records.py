from __future__ import annotations

from typing import Tuple

import numpy as np
import pytest

from edge.geometry import PAD_GREY, Image, Letterbox
from edge.records import Batch, BatchItem, Detections, FrameInfo, Slot, TimestampSource

MODEL_WH = (64, 64)
WIDE = Letterbox.fit((64, 32), MODEL_WH)
TALL = Letterbox.fit((32, 64), MODEL_WH)


def white(letterbox: Letterbox) -> Image:
    width, height = letterbox.source_wh
    return np.full((height, width, 3), 255, np.uint8)


def slot(rows: int = 2) -> Slot:
    """A slot whose memory holds nothing sensible yet."""
    pixels = np.full((rows, MODEL_WH[1], MODEL_WH[0], 3), 77, np.uint8)
    return Slot(3, pixels, lambda _: None)


def is_drawn(row: Image, letterbox: Letterbox) -> bool:
    expected = np.full((MODEL_WH[1], MODEL_WH[0], 3), PAD_GREY, np.uint8)
    (width, height), left, top = letterbox.resized_wh, letterbox.pad_left, letterbox.pad_top
    expected[top : top + height, left : left + width] = 255
    return bool(np.array_equal(row, expected))


def test_a_row_is_drawn_and_the_others_are_left_alone() -> None:
    a_slot = slot()
    a_slot.draw(1, white(WIDE), WIDE)
    assert is_drawn(a_slot.rows[1], WIDE)
    assert (a_slot.rows[0] == 77).all()


def test_the_border_is_painted_again_only_when_the_geometry_changes() -> None:
    a_slot = slot()
    a_slot.draw(0, white(WIDE), WIDE)
    a_slot.rows[0, 0, 0] = 5  # a mark in the border

    a_slot.draw(0, white(WIDE), Letterbox.fit((64, 32), MODEL_WH))
    assert (a_slot.rows[0, 0, 0] == 5).all()

    a_slot.draw(0, white(TALL), TALL)
    assert is_drawn(a_slot.rows[0], TALL)

    a_slot.draw(0, white(WIDE), WIDE)
    assert is_drawn(a_slot.rows[0], WIDE)


def test_rows_remember_their_borders_apart() -> None:
    a_slot = slot()
    for row, letterbox in ((0, WIDE), (1, TALL), (0, WIDE), (1, TALL), (1, WIDE)):
        a_slot.draw(row, white(letterbox), letterbox)
        assert is_drawn(a_slot.rows[row], letterbox)


def test_slot_tells_its_size() -> None:
    assert slot(5).capacity == 5
    assert repr(slot(5)) == "<Slot 3 of 5 rows>"


@pytest.mark.parametrize("occupied", [0, 1, 4])
def test_a_batchs_frames_are_a_view_of_its_occupied_rows(occupied: int) -> None:
    info = FrameInfo("dock", 0, (64, 32), 0, 0, TimestampSource.PTS)
    a_slot = slot(4)
    batch = Batch(0, a_slot, (BatchItem(info, WIDE),) * occupied, opened_ns=0, closed_ns=1)
    assert batch.frames.shape == (occupied, 64, 64, 3)
    assert batch.frames.base is a_slot.rows


SHAPES = {
    "none": ((0, 4), 0, (0,), True),
    "three": ((3, 4), 3, (3,), True),
    "a box too few": ((2, 4), 3, (3,), False),
    "a class too many": ((3, 4), 3, (4,), False),
    "boxes of five": ((3, 5), 3, (3,), False),
    "flat boxes": ((12,), 3, (3,), False),
    "classes in a column": ((3, 4), 3, (3, 1), False),
}


@pytest.mark.parametrize(("boxes", "scores", "classes", "is_valid"), SHAPES.values(), ids=SHAPES)
def test_detections_have_one_length(
    boxes: Tuple[int, ...], scores: int, classes: Tuple[int, ...], is_valid: bool
) -> None:
    arrays = (
        np.zeros(boxes, np.float32),
        np.zeros(scores, np.float32),
        np.zeros(classes, np.int64),
    )
    if is_valid:
        assert len(Detections(*arrays)) == scores
    else:
        with pytest.raises(ValueError, match=r"expected boxes \(3, 4\) and class_ids \(3,\), got"):
            Detections(*arrays)


def test_no_detections() -> None:
    nothing = Detections.empty()
    assert len(nothing) == 0
    assert nothing.boxes_xyxy.shape == (0, 4)
    dtypes = [a.dtype.name for a in (nothing.boxes_xyxy, nothing.scores, nothing.class_ids)]
    assert dtypes == ["float32", "float32", "int64"]
