"""The little of a picture that tells whether it is alive, lit and detailed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from edge.geometry import Image

# About so many pixels are looked at, in cells of a few: a cell's mean tames the sensor's noise.
_COLUMNS, _ROWS = 128, 72
_CELL_PX = 8
# Whole rows are compared bit by bit, every few: an encoder's blocks are wider than the gaps
# between columns, and one run of bytes is read faster than many pixels.
_LINE_BYTES = 64 * 1024
_MIN_LINES, _MAX_LINES = 8, 36
# Rows are judged by segments: at few bits, most of those in which nothing moves do not change.
_SEGMENTS = 8
_EVERYWHERE, _SHOWN_OF = 0.9, 0.2
_MOVED_BY = 2.0
_DARK, _BRIGHT = 16, 240
# Text that the camera writes over its picture takes less of it than these leave out.
_BRIGHTEST_OF = 0.9
_UNEVEN_OF = 0.7
# Keeps what little is left in the dark from looking like detail.
_DARK_FLOOR = 8.0


@dataclass(frozen=True)
class PictureSample:
    """Some whole rows of a picture, `lines` uint8 [rows, width * 3], and their `fingerprint`.

    `cells`: brightness 0..255, float32 [rows, cols]; a very small picture has none.
    """

    lines: NDArray[np.uint8]
    fingerprint: int
    cells: NDArray[np.float32]

    @property
    def brightest(self) -> float:
        """The brightness that all but 10 % of the cells stay below; 255 without cells."""
        return _upper(self.cells, _BRIGHTEST_OF) if self.cells.size else 255.0

    @property
    def shows_noise(self) -> bool:
        """False where nearly all is black or white, which has no noise to see."""
        within = np.count_nonzero((self.cells > _DARK) & (self.cells < _BRIGHT))
        return bool(within * 20 >= self.cells.size)


def flickers(before: PictureSample, seen: PictureSample) -> Optional[bool]:
    """Whether everything has changed a little, as a sensor's noise does; None if things moved."""
    if before.lines.shape != seen.lines.shape or not seen.cells.size:
        return None
    if float(np.median(np.abs(seen.cells - before.cells))) >= _MOVED_BY:
        return None
    changed = _by_segment(seen.lines != before.lines)
    if changed.mean() >= _EVERYWHERE:
        return True
    # What is all black or all white has no noise to see.
    shows = _by_segment((seen.lines > _DARK) & (seen.lines < _BRIGHT))
    return bool(shows.mean() >= _SHOWN_OF and changed[shows].mean() >= _EVERYWHERE)


def _by_segment(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether any of a segment's is set: [rows, width * 3] -> [rows, segments]."""
    rows, size = pixels.shape[0], pixels.shape[1] // _SEGMENTS
    whole = pixels[:, : size * _SEGMENTS].reshape(rows, _SEGMENTS, size)
    return np.asarray(whole.any(axis=2), np.bool_)


def detail(cells: NDArray[np.float32]) -> Optional[float]:
    """How uneven [rows, cols] are, per brightness: 0 for a plain surface and an even gradient.

    None for fewer than 3 rows or columns.
    """
    if min(cells.shape) < 3:
        return None
    across = cells[:, :-2] - 2 * cells[:, 1:-1] + cells[:, 2:]
    down = cells[:-2] - 2 * cells[1:-1] + cells[2:]
    bends = np.abs(np.concatenate((across.ravel(), down.ravel())))
    return _upper(bends, _UNEVEN_OF) / (float(cells.mean()) + _DARK_FLOOR)


def _upper(values: NDArray[np.float32], share: float) -> float:
    # np.percentile takes longer than all the rest.
    return float(np.sort(values, axis=None)[int(values.size * share)])


def sample(image: Image) -> PictureSample:
    """Looks at an image, uint8 [h, w, 3]; takes 0.2 ms, whatever its size."""
    lines = _lines(image)
    return PictureSample(lines, zlib.crc32(lines.data), _cells(image))


def _lines(image: Image) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    count = min(max(_LINE_BYTES // (width * 3), _MIN_LINES), _MAX_LINES, height)
    # A copy: the picture is not kept alive by its sample.
    lines = image[height // (2 * count) :: height // count].reshape(-1, width * 3)
    return np.array(lines, np.uint8)


def _cells(image: Image) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    seen = image[:: max(height // _ROWS, 1), :: max(width // _COLUMNS, 1)]
    rows, columns = seen.shape[0] // _CELL_PX, seen.shape[1] // _CELL_PX
    whole = np.ascontiguousarray(seen[: rows * _CELL_PX, : columns * _CELL_PX])
    # In two steps over long axes: numpy is slow on short ones.
    bands = whole.reshape(rows, _CELL_PX, columns * _CELL_PX * 3).sum(axis=1, dtype=np.uint16)
    sums = bands.reshape(rows, columns, _CELL_PX * 3).sum(axis=2, dtype=np.uint16)
    return np.asarray(sums / (3 * _CELL_PX * _CELL_PX), np.float32)
