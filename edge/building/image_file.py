"""Image files: which there are, whether each is whole, how large it is and what it looks like."""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

import cv2
import numpy as np

from edge.building.likeness import CELLS, thumbnail
from edge.errors import BuildError, ConfigError
from edge.geometry import Image

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")

_JPEG, _PNG, _BMP = b"\xff\xd8", b"\x89PNG", b"BM"
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
# SOF0 to SOF15; C4, C8 and CC among them are no frame headers.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_REDUCTIONS = (
    (8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
    (4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    (2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
)


@dataclass(frozen=True, eq=False)
class Look:
    """What one pass over an image's bytes tells; `thumbnail` is uint8 [32, 32] grey."""

    size_wh: Tuple[int, int]
    thumbnail: Image


def list_images(folder: Path) -> List[Path]:
    """The folder's image files by name; ConfigError if it cannot be listed or has none."""
    try:
        paths = sorted(path for path in folder.iterdir() if _is_image_name(path))
    except FileNotFoundError as error:
        raise ConfigError(
            f"calibration.folder: {folder} does not exist; correct the path, or let "
            "`edge calibrate --collect` fill it"
        ) from error
    except NotADirectoryError as error:
        raise ConfigError(
            f"calibration.folder: {folder} is not a folder; name the folder that holds the images"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"calibration.folder: {folder} cannot be opened: {reason}; let this user read it, or "
            "choose another"
        ) from error
    if not paths:
        raise ConfigError(
            f"calibration.folder: {folder} has no images ({', '.join(SUFFIXES)}); put 500 or more "
            "there, or let `edge calibrate --collect` do it"
        )
    return paths


def read_bytes(path: Path) -> bytes:
    """A regular file's content; nothing of one that is none, or that may not be read."""
    # A pipe with an image's name would be waited for.
    if not os.path.isfile(path):
        return b""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def sha256_of(data: bytes) -> str:
    """The content's name."""
    return hashlib.sha256(data).hexdigest()


def look_at(data: bytes) -> Optional[Look]:
    """Looks at an image file's content; None if it is damaged, cut short, or no image.

    A JPEG is decoded at an eighth of its size, which takes a sixth of the time.
    """
    if not _is_whole(data):
        return None
    size_wh = _jpeg_size_wh(data) if data.startswith(_JPEG) else None
    grey = _decode(data, _reduction(size_wh))
    if grey is None:
        return None
    height, width = grey.shape
    if size_wh is None or _reduction(size_wh) == cv2.IMREAD_GRAYSCALE:
        size_wh = (width, height)
    elif (width > height) != (size_wh[0] > size_wh[1]):
        size_wh = (size_wh[1], size_wh[0])  # EXIF says that the camera was held upright
    return Look(size_wh, thumbnail(grey))


def read_image(path: Path) -> Image:
    """Decodes an image as uint8 [h, w, 3] BGR; BuildError if it is no longer one."""
    image = _decode(read_bytes(path), cv2.IMREAD_COLOR)
    if image is None:
        raise BuildError(f"{path} can no longer be read as an image; was the folder changed?")
    return image


def _is_image_name(path: Path) -> bool:
    # A name with a leading dot is another system's note about the file of that name.
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _is_whole(data: bytes) -> bool:
    """Some OpenCVs fill up the rest of a file that was cut short with grey, and say nothing."""
    if data.startswith(_JPEG):
        # Neither marker can stand in the coded pixels, where a zero follows each 0xff.
        return data.rfind(_JPEG_END) > data.rfind(_JPEG_SCAN)
    if data.startswith(_PNG):
        return b"IEND" in data
    if data.startswith(_BMP) and len(data) > 6:
        (size,) = struct.unpack_from("<I", data, 2)
        return len(data) >= int(size)
    return bool(data)


def _jpeg_size_wh(data: bytes) -> Optional[Tuple[int, int]]:
    """Width and height as stored, before any turn."""
    position = len(_JPEG)
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return int(width), int(height)
        is_filling = marker == 0xFF
        (length,) = struct.unpack_from(">H", data, position + 2)
        position += 1 if is_filling else 2 + length
    return None


def _reduction(size_wh: Optional[Tuple[int, int]]) -> int:
    """How small a JPEG may be decoded and still fill the thumbnail's cells, none askew.

    A side that the factor does not divide ends in a pixel of fewer pixels.
    """
    if size_wh is not None:
        for factor, flag in _REDUCTIONS:
            if min(size_wh) >= factor * CELLS and not any(side % factor for side in size_wh):
                return int(flag)
    return int(cv2.IMREAD_GRAYSCALE)


def _decode(data: bytes, flag: int) -> Optional[Image]:
    try:
        # imread would announce a bad file on stderr.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        return None
    return None if image is None else np.asarray(image, np.uint8)
