"""The contact sheet: a picture of every camera, or why there is none."""

from __future__ import annotations

import math
import textwrap
import time
from typing import Sequence, Tuple

import cv2
import numpy as np

from edge.cameras.words import rate_words
from edge.capture.survey.probe import ProbeResult, ProbeState
from edge.clock import MS_PER_S
from edge.demo.annotate import contact_sheet
from edge.errors import CaptureError
from edge.geometry import Image

_TILE_WH = (480, 300)
_MOST_COLUMNS = 6
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GREY, _RED, _WHITE = (60, 60, 60), (90, 90, 255), (235, 235, 235)
_LETTERS_PER_LINE = 46
_LINES = 12
_LINE_PX = 22
_NAME_LETTERS = 22


def render_sheet(results: Sequence[ProbeResult]) -> bytes:
    """A JPEG with one tile per camera, in their order."""
    columns = min(math.ceil(math.sqrt(len(results))), _MOST_COLUMNS)
    tiles = [_tile(result) for result in results]
    encoded, data = cv2.imencode(".jpg", contact_sheet(tiles, columns, _TILE_WH))
    if not encoded:
        raise CaptureError("the contact sheet could not be encoded")
    return np.asarray(data).tobytes()


def _tile(result: ProbeResult) -> Tuple[str, Image]:
    name, view = _shortened(result.camera.name), result.view
    if view is None or result.state is not ProbeState.OK:
        return f"{name}  {result.state.value}", _notice(result)
    taken = time.strftime("%H:%M:%S", time.localtime(view.taken_unix_ms / MS_PER_S))
    width, height = view.size_wh
    return f"{name}  {width}x{height}  {rate_words(view)}  {taken}", view.image


def _notice(result: ProbeResult) -> Image:
    width, height = _TILE_WH
    picture = np.full((height, width, 3), _GREY, np.uint8)
    finding = result.finding
    reason = finding.reason if finding else ""
    advice = finding.advice if finding else ""
    lines = [(line, _RED) for line in textwrap.wrap(reason, _LETTERS_PER_LINE)]
    lines += [(line, _WHITE) for line in textwrap.wrap(advice, _LETTERS_PER_LINE)]
    for number, (line, colour) in enumerate(lines[:_LINES], 1):
        # OpenCV's letters are ASCII only.
        text = line.encode("ascii", "replace").decode()
        origin = (14, 10 + number * _LINE_PX)
        cv2.putText(picture, text, origin, _FONT, 0.5, colour, 1, cv2.LINE_AA)
    return picture


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME_LETTERS else f"{name[: _NAME_LETTERS - 3]}..."
