"""What people marked on an image: YOLO's text files, `class cx cy w h` per line, 0..1."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.config.faults import quoted
from edge.errors import ConfigError
from edge.geometry import Boxes

# A label tool's rounding may put an edge this far outside the picture.
_SLACK = 1e-3


@dataclass(frozen=True, eq=False)
class Labels:
    """An image's objects: boxes_xyxy float32 [N, 4] in source pixels, class_ids int64 [N]."""

    boxes_xyxy: Boxes
    class_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.class_ids)


def find_labels(image: Path) -> Optional[Path]:
    """The image's label file: beside it, in `labels/` there, or next to a folder `images/`."""
    name = f"{image.stem}.txt"
    places = [image.parent / name, image.parent / "labels" / name]
    if image.parent.name == "images":
        places.append(image.parent.parent / "labels" / name)
    return next((place for place in places if os.path.isfile(place)), None)


def read_labels(path: Path, size_wh: Tuple[int, int], class_count: Optional[int]) -> Labels:
    """Reads a label file of an image of `size_wh`; an empty one means no objects.

    Raises ConfigError with file:line. Without `class_count` any class will do.
    """
    rows = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        if line.strip():
            try:
                rows.append(_row(line.split(), class_count))
            except ValueError as error:
                raise ConfigError(f"{path}:{number}: {error}") from error
    table = np.array(rows, np.float64).reshape(-1, 5)
    centres, sizes = table[:, 1:3], table[:, 3:5]
    corners = np.hstack([centres - sizes / 2, centres + sizes / 2]).clip(0, 1)
    boxes = (corners * np.array(size_wh * 2)).astype(np.float32)
    return Labels(boxes, table[:, 0].astype(np.int64))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not text; labels are `class cx cy w h`") from error


def _row(words: List[str], class_count: Optional[int]) -> List[float]:
    """Class, centre and size; ValueError, in words, for anything else."""
    if len(words) != 5:
        raise ValueError(
            f"has {len(words)} numbers; expected 5, class cx cy w h (a box, not an outline)"
        )
    try:
        row = [float(word) for word in words]
    except ValueError as error:
        raise ValueError(f"{quoted(' '.join(words))} is not five numbers") from error
    class_id, centre_and_size = row[0], row[1:]
    # An infinite or missing number is not an integer either.
    if not class_id.is_integer() or class_id < 0:
        raise ValueError(f"class {quoted(words[0])} is not a class number")
    if class_count is not None and class_id >= class_count:
        raise ValueError(f"class {words[0]} does not exist: the model has 0 to {class_count - 1}")
    if not all(0 <= value <= 1 + _SLACK for value in centre_and_size):
        raise ValueError("cx cy w h must be shares of the image, 0 to 1, not pixels")
    if not (row[3] and row[4]):
        raise ValueError("the box has no width or no height")
    return row
