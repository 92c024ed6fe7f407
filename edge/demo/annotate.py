"""Draws detections so that a person can read them, on a picture of any size."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import cv2
import numpy as np

from edge.geometry import Image
from edge.records import Detections

Colour = Tuple[int, int, int]

# Okabe and Ito's palette (BGR): told apart with every common colour vision.
PALETTE: Tuple[Colour, ...] = (
    (0, 159, 230),
    (233, 180, 86),
    (115, 158, 0),
    (66, 228, 240),
    (178, 114, 0),
    (167, 121, 204),
    (0, 94, 213),
    (200, 200, 200),
)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_DARK: Colour = (20, 20, 20)
_LIGHT: Colour = (245, 245, 245)


def colour_of(class_id: int) -> Colour:
    """The colour of a class, BGR."""
    return PALETTE[class_id % len(PALETTE)]


def annotate(image: Image, detections: Detections, class_names: Sequence[str]) -> Image:
    """A copy of `image` [h, w, 3] BGR with boxes, class names and scores."""
    canvas: Image = image.copy()
    # Strokes and letters grow with the picture: readable at 320 px and at 4K.
    stroke_px = max(round(canvas.shape[1] / 480), 1)
    for box, score, class_id in zip(detections.boxes_xyxy, detections.scores, detections.class_ids):
        colour = colour_of(int(class_id))
        left, top, right, bottom = (round(float(edge)) for edge in box)
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, stroke_px, cv2.LINE_AA)
        _label(canvas, f"{class_names[int(class_id)]} {score:.2f}", (left, top), colour)
    return canvas


def _label(canvas: Image, text: str, corner_xy: Tuple[int, int], colour: Colour) -> None:
    scale = max(canvas.shape[1] / 1600, 0.38)
    thickness = max(round(scale * 1.6), 1)
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    left = min(max(corner_xy[0], 0), max(canvas.shape[1] - width - 4, 0))
    # Above the box where there is room, else inside it.
    bottom = corner_xy[1] if corner_xy[1] > height + baseline + 2 else corner_xy[1] + height + 6
    top_left = (left, bottom - height - baseline)
    cv2.rectangle(canvas, top_left, (left + width + 4, bottom), colour, cv2.FILLED)
    ink = _DARK if sum(colour) > 330 else _LIGHT
    origin = (left + 2, bottom - baseline // 2 - 1)
    cv2.putText(canvas, text, origin, _FONT, scale, ink, thickness, cv2.LINE_AA)


def contact_sheet(
    pictures: Sequence[Tuple[str, Image]], columns: int, tile_wh: Tuple[int, int]
) -> Image:
    """Lays titled pictures out in a grid of equal tiles, each letterboxed into its own."""
    tiles = [_tile(title, image, tile_wh) for title, image in pictures]
    blank = np.full_like(tiles[0], 255)
    rows: List[Image] = []
    for start in range(0, len(tiles), columns):
        row = tiles[start : start + columns]
        row += [blank] * (columns - len(row))
        rows.append(np.hstack(row))
    return np.vstack(rows)


def _tile(title: str, image: Image, tile_wh: Tuple[int, int]) -> Image:
    width, height = tile_wh
    caption_px = 26
    tile = np.full((height + caption_px, width, 3), 255, np.uint8)
    scale = min((width - 8) / image.shape[1], (height - 4) / image.shape[0])
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    left, top = (width - size[0]) // 2, (height - size[1]) // 2 + caption_px
    tile[top : top + size[1], left : left + size[0]] = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA
    )
    cv2.putText(tile, title, (6, 18), _FONT, 0.48, _DARK, 1, cv2.LINE_AA)
    return tile
