"""What every inference backend can do."""

from __future__ import annotations

from typing import Protocol, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.geometry import Image
from edge.records import EngineInfo


class Pending(Protocol):
    """A batch that an engine works on."""

    def wait(self) -> NDArray[np.float32]:
        """Waits for its detections, once: float32 [n, K, 6]; raises EngineError."""


class Engine(Protocol):
    """A deployed graph, loaded and warm."""

    @property
    def info(self) -> EngineInfo:
        """What serves, and the largest batch it takes at once."""

    @property
    def input_wh(self) -> Tuple[int, int]:
        """Width and height of a frame in pixels."""

    def infer(self, frames: Image) -> NDArray[np.float32]:
        """Runs frames uint8 [n, H, W, 3] BGR, n from 1 to `info.max_batch`.

        Returns float32 [n, K, 6] that belongs to the caller; raises EngineError.
        """

    def close(self) -> None:
        """Frees what the engine holds; it cannot infer afterwards. May be called again."""
