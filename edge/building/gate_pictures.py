"""Pictures of where a candidate engine disagrees with the reference, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, FrozenSet, List, Sequence, Tuple

import cv2
import numpy as np

from edge.building.disagreement import Disagreement, Mark, Marked, rank
from edge.building.gate import Predictions
from edge.building.judge import HoldOut
from edge.errors import BuildError
from edge.geometry import Image

SHEET_NAME = "worst.jpg"
_PATTERN = "worst*.jpg"
_JPEG_QUALITY = 90

Colour = Tuple[int, int, int]
Rectangle = Tuple[int, int, int, int]

# Okabe and Ito's palette (BGR), told apart with every common colour vision; the words say it too.
_COLOURS: Dict[Mark, Colour] = {
    Mark.SAME: (200, 200, 200),
    Mark.MOVED: (66, 228, 240),
    Mark.LOST: (0, 94, 213),
    Mark.GAINED: (233, 180, 86),
}
_DARK: Colour = (20, 20, 20)
_LIGHT: Colour = (250, 250, 250)
_FONT = cv2.FONT_HERSHEY_SIMPLEX

# Smaller pictures are enlarged to this width, or nobody could read the labels.
_PANEL_PX = 640
_GAP_PX = 8
_SHEET_COLUMNS = 2
_SHEET_TILE_PX = 960


def write_pictures(
    folder: Path,
    hold_out: HoldOut,
    engines: Tuple[Predictions, Predictions],
    class_names: Sequence[str],
    most: int = 12,
) -> List[Path]:
    """Writes the worst disagreements of (reference, candidate), each a JPEG, and a contact sheet.

    Returns their paths, the sheet first; none where the engines agree. What an earlier gate has
    left in `folder` goes. Raises BuildError where the folder cannot be written.
    """
    reference, candidate = engines
    worst = rank(reference, candidate)[:most]
    frames = _frames(hold_out, frozenset(one.image for one in worst))
    titles = [hold_out.names[one.image] for one in worst]
    pictures = [
        side_by_side(frames[one.image], one, class_names, (title, reference.name, candidate.name))
        for one, title in zip(worst, titles)
    ]
    named = {f"worst_{place:02}.jpg": picture for place, picture in enumerate(pictures, 1)}
    if named:
        named = {SHEET_NAME: contact_sheet(pictures), **named}
    try:
        return _replace(folder, named)
    except OSError as error:
        raise BuildError(
            f"cannot write the gate's pictures to {folder}: {error.strerror or error}; make it "
            "writable and leave room on its disk"
        ) from error


def side_by_side(
    frame: Image, disagreement: Disagreement, class_names: Sequence[str], names: Tuple[str, ...]
) -> Image:
    """A letterboxed frame twice, uint8 BGR: with the reference's boxes, and the candidate's.

    `names` are of the image, the reference and the candidate.
    """
    title, reference, candidate = names
    ours, theirs = disagreement.reference, disagreement.candidate
    panels = []
    for name, shown, other in ((reference, ours, theirs), (candidate, theirs, ours)):
        panel = _Panel(frame, class_names)
        panel.ghosts(other)
        panel.boxes(shown)
        panels.append(_captioned(panel.canvas, f"{name}: {len(shown.detections)} boxes"))
    gap = np.full((panels[0].shape[0], _GAP_PX, 3), _LIGHT, np.uint8)
    counts = ((ours, Mark.LOST), (theirs, Mark.GAINED), (ours, Mark.MOVED))
    legend = [(f"{marked.count(mark)} {mark.value}", mark) for marked, mark in counts]
    return _titled(np.hstack([panels[0], gap, panels[1]]), title, legend)


def contact_sheet(pictures: Sequence[Image]) -> Image:
    """All pictures, at least one, made small in rows of two."""
    tiles = [_fitted(picture, _SHEET_TILE_PX) for picture in pictures]
    height = max(tile.shape[0] for tile in tiles)
    blank = np.full((height, _SHEET_TILE_PX, 3), _LIGHT, np.uint8)
    cells = []
    for tile in tiles:
        cell = blank.copy()
        cell[: tile.shape[0]] = tile
        cells.append(cell)
    columns = min(_SHEET_COLUMNS, len(cells))
    cells += [blank] * (-len(cells) % columns)
    rows = [np.hstack(cells[at : at + columns]) for at in range(0, len(cells), columns)]
    return np.vstack(rows)


class _Panel:
    """One frame, enlarged where it is small, that boxes and labels are drawn on."""

    def __init__(self, frame: Image, class_names: Sequence[str]) -> None:
        self._scale = max(_PANEL_PX / frame.shape[1], 1.0)
        size = (round(frame.shape[1] * self._scale), round(frame.shape[0] * self._scale))
        enlarged = cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC)
        self.canvas: Image = np.asarray(enlarged, np.uint8)
        self._class_names = class_names
        self._stroke_px = max(round(size[0] / 320), 2)
        self._letter = max(size[0] / 1400, 0.42)
        self._taken: List[Rectangle] = []

    def boxes(self, shown: Marked) -> None:
        """Draws an engine's boxes, and labels where they fit: disagreements first."""
        order = sorted(range(len(shown.marks)), key=lambda at: shown.marks[at] is Mark.SAME)
        # What agrees is drawn first, so that it covers nothing.
        for at in reversed(order):
            self._box(self._place(shown, at), shown.marks[at])
        for at in order:
            detections, mark = shown.detections, shown.marks[at]
            name = self._class_names[int(detections.class_ids[at])]
            word = "" if mark is Mark.SAME else f"{mark.value} "
            text = f"{word}{name} {detections.scores[at]:.2f}"
            self._label(text, self._place(shown, at), mark)

    def ghosts(self, other: Marked) -> None:
        """Marks by their corners the boxes that only the other engine reports."""
        for at, mark in enumerate(other.marks):
            if mark in (Mark.LOST, Mark.GAINED):
                self._corners(self._place(other, at), _COLOURS[mark])

    def _place(self, marked: Marked, at: int) -> Rectangle:
        left, top, right, bottom = (marked.detections.boxes_xyxy[at] * self._scale).tolist()
        return round(left), round(top), round(right), round(bottom)

    def _box(self, box: Rectangle, mark: Mark) -> None:
        thick = max(self._stroke_px // 2, 1) if mark is Mark.SAME else self._stroke_px
        # The dark rim keeps a light box visible on light ground.
        for colour, width in ((_DARK, thick + 2), (_COLOURS[mark], thick)):
            cv2.rectangle(self.canvas, box[:2], box[2:], colour, width, cv2.LINE_AA)

    def _corners(self, box: Rectangle, colour: Colour) -> None:
        left, top, right, bottom = box
        arm_x, arm_y = (right - left) // 4, (bottom - top) // 4
        for x, arm_right in ((left, arm_x), (right, -arm_x)):
            for y, arm_down in ((top, arm_y), (bottom, -arm_y)):
                for end in ((x + arm_right, y), (x, y + arm_down)):
                    cv2.line(self.canvas, (x, y), end, _DARK, self._stroke_px + 2, cv2.LINE_AA)
                    cv2.line(self.canvas, (x, y), end, colour, self._stroke_px, cv2.LINE_AA)

    def _label(self, text: str, box: Rectangle, mark: Mark) -> None:
        text = _ascii(text)
        (width, height), baseline = cv2.getTextSize(text, _FONT, self._letter, 1)
        width, height = width + 6, height + baseline + 4
        places = [self._inside(x, y, width, height) for x, y in _label_places(box, width, height)]
        free = [place for place in places if not any(_overlap(place, it) for it in self._taken)]
        if not free and mark is Mark.SAME:
            return  # an agreement is worth no clutter
        left, top, right, bottom = (free or places)[0]
        self._taken.append((left, top, right, bottom))
        cv2.rectangle(self.canvas, (left, top), (right, bottom), _COLOURS[mark], cv2.FILLED)
        ink = _LIGHT if mark is Mark.LOST else _DARK
        origin = (left + 3, bottom - baseline)
        cv2.putText(self.canvas, text, origin, _FONT, self._letter, ink, 1, cv2.LINE_AA)

    def _inside(self, x: int, y: int, width: int, height: int) -> Rectangle:
        canvas_h, canvas_w = self.canvas.shape[:2]
        left = min(max(x, 0), max(canvas_w - width, 0))
        top = min(max(y, 0), max(canvas_h - height, 0))
        return left, top, left + width, top + height


def _label_places(box: Rectangle, width: int, height: int) -> List[Tuple[int, int]]:
    """Where a label may have its top left corner: at the box, above or below, then farther off."""
    left, top, right, bottom = box
    tops = (top - height, bottom, top, bottom - height, top - 2 * height, bottom + height)
    return [(x, y) for y in tops for x in (left, right - width)]


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _captioned(picture: Image, text: str) -> Image:
    strip = _strip(picture.shape[1], 28)
    _write(strip, text, 6)
    return np.vstack([strip, picture])


def _titled(picture: Image, title: str, legend: Sequence[Tuple[str, Mark]]) -> Image:
    strip = _strip(picture.shape[1], 36)
    x = _write(strip, title, 6)
    for text, mark in legend:
        cv2.rectangle(strip, (x + 18, 10), (x + 34, 26), _COLOURS[mark], cv2.FILLED)
        cv2.rectangle(strip, (x + 18, 10), (x + 34, 26), _DARK, 1)
        x = _write(strip, text, x + 40)
    _write(strip, "corners: what only the other engine reports", x + 30)
    return np.vstack([strip, picture])


def _strip(width: int, height: int) -> Image:
    return np.full((height, width, 3), _LIGHT, np.uint8)


def _write(strip: Image, text: str, x: int) -> int:
    """Writes a line of text and returns where it ends."""
    text = _ascii(text)
    (width, _), _ = cv2.getTextSize(text, _FONT, 0.6, 1)
    cv2.putText(strip, text, (x, strip.shape[0] - 10), _FONT, 0.6, _DARK, 1, cv2.LINE_AA)
    return x + int(width)


def _ascii(text: str) -> str:
    # OpenCV's own letters are no more than these.
    return text.encode("ascii", "replace").decode()


def _fitted(picture: Image, width: int) -> Image:
    height = max(round(picture.shape[0] * width / picture.shape[1]), 1)
    fitted = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(fitted, np.uint8)


def _frames(hold_out: HoldOut, wanted: FrozenSet[int]) -> Dict[int, Image]:
    frames: Dict[int, Image] = {}
    first = 0
    for batch in hold_out.frames() if wanted else ():
        for at, frame in enumerate(batch, first):
            if at in wanted:
                frames[at] = frame.copy()
        first += len(batch)
    return frames


def _replace(folder: Path, named: Dict[str, Image]) -> List[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(_PATTERN):
        old.unlink()
    paths = []
    for name, picture in named.items():
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        path = folder / name
        path.write_bytes(data.tobytes())
        paths.append(path)
    return paths
