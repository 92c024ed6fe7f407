"""A rendered scene in place of a camera."""

from __future__ import annotations

from typing import Callable, Optional

from edge.capture.source import Picture
from edge.geometry import Image


class SyntheticSource:
    """Frames drawn by `render(index)`, uint8 [h, w, 3] BGR; it never ends."""

    def __init__(self, render: Callable[[int], Image], fps: float) -> None:
        self._render = render
        self._frame_s = 1.0 / fps
        self._index = 0

    def open(self) -> None:
        """Starts at frame 0."""
        self._index = 0

    def read(self) -> Optional[Picture]:
        """Renders the next frame."""
        index = self._index
        self._index += 1
        return Picture(self._render(index), index * self._frame_s)

    def close(self) -> None:
        """Does nothing: a scene holds nothing open."""
