from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import List, Sequence, Tuple

import cv2
import numpy as np
import pytest

from edge.building.disagreement import rank
from edge.building.gate import Predictions
from edge.building.gate_pictures import contact_sheet, side_by_side, write_pictures
from edge.building.judge import HoldOut
from edge.errors import BuildError
from edge.geometry import Image
from tests.building.scored_boxes import Row, predictions

NAMES = ("bolt", "nut")
SIDE = 640
GREY = 90
TITLE_PX, CAPTION_PX, GAP_PX = 36, 28, 8

LOST: Row = (40, 100, 200, 260, 0.9, 0)
GAINED: Row = (300, 100, 460, 260, 0.8, 1)
KEPT: Row = (40, 400, 200, 560, 0.7, 0)
BEFORE = ("fp16", [[LOST, KEPT], [KEPT], [LOST]])
AFTER = ("int8", [[GAINED, KEPT], [KEPT], []])

VERMILLION, SKY_BLUE = (0, 94, 213), (233, 180, 86)


def engines() -> Tuple[Predictions, Predictions]:
    return predictions(*BEFORE), predictions(*AFTER)


def grey(side: int = SIDE, count: int = 3) -> HoldOut:
    frames = np.full((count, side, side, 3), GREY, np.uint8)
    return HoldOut(lambda: iter([frames[:2], frames[2:]]), tuple(f"{n}.jpg" for n in range(count)))


def first_picture(side: int = SIDE) -> Image:
    worst = rank(*engines())[0]
    frame = np.full((side, side, 3), GREY, np.uint8)
    return side_by_side(frame, worst, NAMES, ("0.jpg", "fp16", "int8"))


def panels(picture: Image) -> Tuple[Image, Image]:
    """The reference's and the candidate's frame, without the writing above them."""
    frames = picture[TITLE_PX + CAPTION_PX :]
    width = (picture.shape[1] - GAP_PX) // 2
    return frames[:, :width], frames[:, width + GAP_PX :]


def has_colour(patch: Image, colour: Sequence[int]) -> bool:
    return bool((np.abs(patch.astype(int) - colour).max(axis=-1) <= 8).any())


def middle_of_left_edge(panel: Image, row: Row) -> Image:
    x, y = round(row[0]), round((row[1] + row[3]) / 2)
    return panel[y - 2 : y + 2, x - 4 : x + 4]


def corner(panel: Image, row: Row) -> Image:
    x, y = round(row[0]), round(row[3])
    return panel[y - 4 : y + 4, x - 4 : x + 4]


def test_each_side_shows_its_own_boxes_and_the_corners_of_the_others() -> None:
    reference, candidate = panels(first_picture())
    assert has_colour(middle_of_left_edge(reference, LOST), VERMILLION)
    assert has_colour(middle_of_left_edge(candidate, GAINED), SKY_BLUE)
    assert not has_colour(middle_of_left_edge(candidate, LOST), VERMILLION)
    assert not has_colour(middle_of_left_edge(reference, GAINED), SKY_BLUE)
    assert has_colour(corner(candidate, LOST), VERMILLION)
    assert has_colour(corner(reference, GAINED), SKY_BLUE)


def test_what_agrees_is_drawn_alike_on_both_sides() -> None:
    reference, candidate = panels(first_picture())
    below = slice(380, 580)
    np.testing.assert_array_equal(reference[below, :300], candidate[below, :300])
    assert (reference[below, :300] != GREY).any()


def test_the_frame_itself_is_left_alone() -> None:
    frame = np.full((SIDE, SIDE, 3), GREY, np.uint8)
    side_by_side(frame, rank(*engines())[0], NAMES, ("0.jpg", "fp16", "int8"))
    assert (frame == GREY).all()


@pytest.mark.parametrize(("side", "panel_px"), [(64, 640), (639, 640), (640, 640), (1280, 1280)])
def test_small_frames_are_enlarged(side: int, panel_px: int) -> None:
    picture = first_picture(side)
    assert picture.shape == (panel_px + TITLE_PX + CAPTION_PX, 2 * panel_px + GAP_PX, 3)


def test_boxes_at_the_edge_and_strange_names_do_no_harm() -> None:
    rows: List[Row] = [(-5, -5, 30, 30, 0.9, 0), (630, 630, 700, 700, 0.8, 1)]
    (worst,) = rank(predictions("fp16", [rows]), predictions("int8", [[]]))
    names = ("Schräubchen " * 20, "螺母")
    frame = np.full((SIDE, SIDE, 3), GREY, np.uint8)
    picture = side_by_side(frame, worst, names, ("Bild ü.jpg", "fp16", "int8"))
    reference, _ = panels(picture)
    assert has_colour(reference[-40:, -80:], VERMILLION)
    assert has_colour(reference[:40, :80], VERMILLION)


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (12, 2, 6)]
)
def test_contact_sheet(count: int, columns: int, rows: int) -> None:
    sheet = contact_sheet([np.zeros((300, 600, 3), np.uint8)] * count)
    assert sheet.shape == (480 * rows, 960 * columns, 3)
    drawn = (sheet[240::480, 480::960] == 0).all(axis=-1)
    assert drawn.sum() == count


def test_files_are_written_worst_first(tmp_path: Path) -> None:
    folder = tmp_path / "gate"
    paths = write_pictures(folder, grey(), engines(), NAMES)
    assert [path.name for path in paths] == ["worst.jpg", "worst_01.jpg", "worst_02.jpg"]
    assert sorted(folder.iterdir()) == sorted(paths)
    shapes = [np.asarray(cv2.imread(str(path))).shape for path in paths]
    assert shapes == [(525, 1920, 3), first_picture().shape, first_picture().shape]


def test_at_most_so_many(tmp_path: Path) -> None:
    assert len(write_pictures(tmp_path, grey(), engines(), NAMES, most=1)) == 2


def test_earlier_pictures_go_and_other_files_stay(tmp_path: Path) -> None:
    write_pictures(tmp_path, grey(), engines(), NAMES)
    (tmp_path / "gate.json").write_text("{}")
    reference = predictions(*BEFORE)
    assert write_pictures(tmp_path, grey(), (reference, reference), NAMES) == []
    assert [path.name for path in tmp_path.iterdir()] == ["gate.json"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    in_the_way = tmp_path / "gate"
    in_the_way.write_text("a file")
    with pytest.raises(BuildError, match=f"cannot write the gate's pictures to {in_the_way}: File"):
        write_pictures(in_the_way, grey(), engines(), NAMES)


def test_images_that_are_gone_are_told(tmp_path: Path) -> None:
    gone = dataclasses.replace(grey(), names=("0.jpg", "1.jpg", "2.jpg", "3.jpg"))
    with pytest.raises(BuildError, match="1 of 4 held-out images are gone"):
        write_pictures(tmp_path, gone, engines(), NAMES)
