"""A folder of images, played like a slow video."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Iterator, List, Optional, Set

import cv2
import numpy as np

from edge.capture.source import Picture
from edge.errors import CaptureError
from edge.geometry import Image

log = logging.getLogger(__name__)

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")


class FolderSource:
    """The images of a folder in the order of their names, listed afresh on every lap."""

    def __init__(self, folder: Path, fps: float, *, loop: bool, realtime: bool = True) -> None:
        self._folder = folder
        self._frame_s = 1.0 / fps
        self._loop = loop
        self._realtime = realtime
        self._images: Iterator[Image] = iter(())
        self._images_shown = 0
        self._unreadable: Set[Path] = set()

    @property
    def unreadable_files(self) -> int:
        """Files that were skipped because they hold no image."""
        return len(self._unreadable)

    def open(self) -> None:
        """Raises CaptureError if the folder is missing, may not be read, or has no images."""
        list_images(self._folder)
        self._images_shown = 0
        self._images = self._play()

    def read(self) -> Optional[Picture]:
        """Decodes the next image; after the last comes None, or the first again."""
        image = next(self._images, None)
        if image is None:
            return None
        media_s = self._images_shown * self._frame_s
        self._images_shown += 1
        return Picture(image, media_s if self._realtime else None)

    def close(self) -> None:
        """Forgets the place in the folder."""
        self._images = iter(())

    def _play(self) -> Iterator[Image]:
        while True:
            shown_before = self._images_shown
            for path in list_images(self._folder):
                image = self._decode(path)
                if image is not None:
                    yield image
            if self._images_shown == shown_before:
                raise CaptureError(f"none of the images in {self._folder} can be read")
            if not self._loop:
                return

    def _decode(self, path: Path) -> Optional[Image]:
        image = decode_image(path)
        if image is None and path not in self._unreadable:
            self._unreadable.add(path)
            log.warning("%s is skipped: it cannot be read as an image", path)
        return image


def list_images(folder: Path) -> List[Path]:
    """The folder's image files by name; CaptureError if there are none."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise CaptureError(f"{folder} cannot be opened: {error.strerror}") from error
    if not paths:
        raise CaptureError(f"{folder} has no images ({', '.join(SUFFIXES)})")
    return paths


def decode_image(path: Path) -> Optional[Image]:
    """Reads an image as uint8 [h, w, 3] BGR; None if the file cannot be read as one."""
    try:
        # imread would announce a bad file on stderr.
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
    return None if image is None else np.asarray(image, np.uint8)
