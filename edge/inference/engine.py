"""What every inference backend can do."""

from __future__ import annotations

from typing import Protocol, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.geometry import Image
from edge.records import EngineInfo, StageTimes


class Pending(Protocol):
    """A batch that an engine works on."""

    def wait(self) -> NDArray[np.float32]:
        """Waits for its detections, once: float32 [n, K, 6]; raises EngineError."""


class Launcher(Protocol):
    """Takes a batch while it works on another.

    `in_flight` is how many it works on at once: 1 where it has done a batch when it returns.
    """

    @property
    def in_flight(self) -> int:
        """Batches that may be launched before one is waited for."""

    def launch(self, frames: Image) -> Pending:
        """Begins a batch uint8 [n, H, W, 3] BGR, which must not change until it is waited for.

        Raises EngineError. One thread launches, another waits, in the order of launch.
        """


class Engine(Launcher, Protocol):
    """A deployed graph, loaded and warm; launches from 1 to `info.max_batch` frames."""

    @property
    def info(self) -> EngineInfo:
        """What serves, and the largest batch it takes at once."""

    @property
    def input_wh(self) -> Tuple[int, int]:
        """Width and height of a frame in pixels."""

    @property
    def stage_times(self) -> Sequence[StageTimes]:
        """What the last sampled batches took on a GPU, the oldest first; empty on a CPU."""

    def infer(self, frames: Image) -> NDArray[np.float32]:
        """Launches and waits: float32 [n, K, 6] that belongs to the caller; raises EngineError."""

    def close(self) -> None:
        """Frees what the engine holds, all that was launched being done. May be called again."""


class Done:
    """A batch that was done before anybody waited."""

    def __init__(self, detections: NDArray[np.float32]) -> None:
        self._detections = detections

    def wait(self) -> NDArray[np.float32]:
        """Its detections, at once."""
        return self._detections


class Synchronous:
    """The launching half of an engine that computes in the caller's thread."""

    in_flight = 1
    stage_times: Sequence[StageTimes] = ()

    def infer(self, frames: Image) -> NDArray[np.float32]:
        """What the engine brings with it."""
        raise NotImplementedError

    def launch(self, frames: Image) -> Pending:
        """Does all of it."""
        return Done(self.infer(frames))
