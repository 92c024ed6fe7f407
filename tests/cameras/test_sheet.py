from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge.cameras.sheet import render_sheet
from edge.capture.survey.finding import Finding
from edge.capture.survey.probe import ProbeResult, ProbeState
from edge.geometry import Image
from tests.cameras.samples import DISABLED, FAILED, OK, camera, view

TILE_W, TILE_H, CAPTION_PX = 480, 300, 26


def decode(data: bytes) -> Image:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, np.uint8)


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (5, 3, 2), (64, 6, 11)]
)
def test_every_camera_has_a_tile(count: int, columns: int, rows: int) -> None:
    sheet = decode(render_sheet([OK] * count))
    assert sheet.shape == (rows * (TILE_H + CAPTION_PX), columns * TILE_W, 3)


def test_a_tile_shows_the_picture_or_the_reason() -> None:
    broken = ProbeResult(camera("broken", "rtsp://h/s"), ProbeState.FAILED, view(), Finding("off"))
    sheet = decode(render_sheet([OK, FAILED, DISABLED, broken]))
    height = TILE_H + CAPTION_PX
    shown = sheet[height // 2, TILE_W // 2]
    assert abs(int(shown[0]) - 200) < 8
    for top, left in ((0, TILE_W), (height, 0), (height, TILE_W)):
        tile = sheet[top + CAPTION_PX : top + height, left : left + TILE_W]
        assert np.median(tile) < 90  # a dark notice, no picture
    notice = sheet[CAPTION_PX:height, TILE_W:]
    is_red = notice[..., 2].astype(int) - notice[..., 0] > 50
    assert is_red.sum() > 100


def test_words_in_any_script_and_of_any_length_fit() -> None:
    finding = Finding("Kamera größer 日本 " * 60, "x" * 500)
    long_name = camera("n" * 64, "rtsp://h/s")
    sheet = decode(render_sheet([ProbeResult(long_name, ProbeState.FAILED, finding=finding)]))
    assert sheet.shape == (TILE_H + CAPTION_PX, TILE_W, 3)
