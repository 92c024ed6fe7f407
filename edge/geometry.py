"""Letterbox: from source pixels to model pixels and exactly back.

Pixel coordinates are continuous: a w x h image spans [0, w] x [0, h] and pixel i covers
[i, i + 1]. That is the convention of OpenCV's resize (dst edge 0 lies on src edge 0) and of the
detector's boxes, so the inverse needs no half-pixel terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Boxes = NDArray[np.float32]

PAD_GREY = 114
"""Grey level of the border that YOLO detectors are trained with."""


class PadAnchor(str, Enum):
    """Where the picture sits inside the model's input."""

    CENTER = "center"
    TOP_LEFT = "top_left"


@dataclass(frozen=True)
class Letterbox:
    """How one source size maps into one model size; both sizes and the pads are in pixels."""

    source_wh: Tuple[int, int]
    model_wh: Tuple[int, int]
    resized_wh: Tuple[int, int]
    pad_left: int
    pad_top: int

    @classmethod
    def fit(
        cls,
        source_wh: Tuple[int, int],
        model_wh: Tuple[int, int],
        anchor: PadAnchor = PadAnchor.CENTER,
    ) -> Letterbox:
        """Scales the source as large as the model allows, keeping its aspect up to one pixel."""
        source_w, source_h = source_wh
        model_w, model_h = model_wh
        if min(source_w, source_h, model_w, model_h) < 1:
            raise ValueError(f"sizes must be positive, got {source_wh} and {model_wh}")
        scale = min(model_w / source_w, model_h / source_h)
        resized_w = min(max(round(source_w * scale), 1), model_w)
        resized_h = min(max(round(source_h * scale), 1), model_h)
        if anchor is PadAnchor.TOP_LEFT:
            left = top = 0
        else:
            left, top = (model_w - resized_w) // 2, (model_h - resized_h) // 2
        return cls(source_wh, model_wh, (resized_w, resized_h), left, top)

    @property
    def scale_xy(self) -> Tuple[float, float]:
        """Model pixels per source pixel, per axis.

        The axes differ slightly because the resized size is whole; using each axis' own factor
        is what makes the way back exact.
        """
        return (
            self.resized_wh[0] / self.source_wh[0],
            self.resized_wh[1] / self.source_wh[1],
        )

    def to_model(self, boxes_xyxy: Boxes) -> Boxes:
        """Maps boxes [N, 4] from source pixels to model pixels."""
        scale = np.array(self.scale_xy * 2, np.float32)
        pad = np.array((self.pad_left, self.pad_top) * 2, np.float32)
        in_model: Boxes = np.asarray(boxes_xyxy, np.float32) * scale + pad
        return in_model

    def to_source(self, boxes_xyxy: Boxes) -> Boxes:
        """Maps boxes [N, 4] from model pixels to source pixels, clipped to the source."""
        scale = np.array(self.scale_xy * 2, np.float32)
        pad = np.array((self.pad_left, self.pad_top) * 2, np.float32)
        limit = np.array(self.source_wh * 2, np.float32)
        in_source = (np.asarray(boxes_xyxy, np.float32) - pad) / scale
        clipped: Boxes = np.clip(in_source, np.float32(0), limit)
        return clipped

    def draw(self, source: Image, row: Image, *, paint_border: bool = True) -> None:
        """Resizes `source` [h, w, 3] straight into `row` [H, W, 3], both uint8 BGR.

        `row` is typically a view of pinned memory, and this the frame's only copy on the CPU.
        `paint_border` may be off when the row already holds the border of this very geometry.
        Bilinear like the detectors' own training code; INTER_AREA costs five times as much.
        """
        if source.dtype != np.uint8 or source.shape != (*self.source_wh[::-1], 3):
            # OpenCV would not complain: it would leave `row` alone and return a new array.
            raise ValueError(
                f"expected a uint8 BGR frame of {self.source_wh[0]}x{self.source_wh[1]}, "
                f"got {source.dtype} of shape {source.shape}"
            )
        width, height = self.resized_wh
        left, top = self.pad_left, self.pad_top
        inner = row[top : top + height, left : left + width]
        _resize_into(inner, source)
        if paint_border:
            row[:top] = PAD_GREY
            row[top + height :] = PAD_GREY
            row[top : top + height, :left] = PAD_GREY
            row[top : top + height, left + width :] = PAD_GREY


def _resize_into(target: Image, source: Image) -> None:
    """Bilinear resize of `source` into `target`, which may be a view with gaps between rows."""
    height, width = target.shape[:2]
    factor = source.shape[1] // width
    is_exact = source.shape[:2] == (height * factor, width * factor)
    if is_exact and factor % 2 and source.flags.c_contiguous:
        # At an odd whole factor (1080p to 640 is 3) bilinear falls on the middle pixel of each
        # block: the same picture in about 0.6 of the time. As rows of `factor` source rows, the
        # middle ones lie side by side, and so OpenCV's nearest neighbour finds the middle pixels.
        half = factor // 2
        columns = source.shape[1]
        blocks = source.reshape(height, columns * factor, 3)
        middles = blocks[:, half * columns + half : (half + 1) * columns + half]
        cv2.resize(middles, (width, height), dst=target, interpolation=cv2.INTER_NEAREST)
    else:
        cv2.resize(source, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
