"""An engine that works on two batches at once, done when the test permits it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Deque, List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.errors import EngineError
from edge.geometry import Image
from edge.inference.engine import Pending
from edge.records import EngineInfo, StageTimes

HANG_S = 30.0
INPUT_WH = (2, 2)


class Permits:
    """Without limit, until `hold`; then each batch of an engine needs one to be done."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._left: Optional[int] = None

    def hold(self) -> None:
        with self._changed:
            self._left = 0

    def give(self, count: int) -> None:
        with self._changed:
            if self._left is not None:
                self._left += count
            self._changed.notify_all()

    def free(self) -> None:
        with self._changed:
            self._left = None
            self._changed.notify_all()

    def take(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._left != 0, HANG_S)
            if self._left is not None:
                self._left -= 1


class AsyncEngine:
    """Echoes each frame's first byte; holds its users to the rules of launching and waiting."""

    in_flight = 2
    input_wh = INPUT_WH
    info = EngineInfo("async", "1", "test", "fp32", 4)
    stage_times: Tuple[StageTimes, ...] = ()

    def __init__(self, permits: Permits) -> None:
        self.permits = permits
        self._changed = threading.Condition()
        self._out: Deque[object] = deque()
        self.launched: List[int] = []
        self.fails = False
        self.is_closed = False

    def launch(self, frames: Image) -> Pending:
        with self._changed:
            assert not self.is_closed
            assert len(self._out) < self.in_flight, "launched before there was room"
            pending = _Echo(self, frames)
            self._out.append(pending)
            self.launched.append(int(frames[0, 0, 0, 0]))
            self._changed.notify_all()
        return pending

    def infer(self, frames: Image) -> NDArray[np.float32]:
        return self.launch(frames).wait()

    def wait_for(self, launched: List[int]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.launched == launched, HANG_S), self.launched

    def finish(self, pending: object) -> None:
        self.permits.take()
        if self.fails:
            raise EngineError("the device fell off the bus")
        with self._changed:
            assert self._out.popleft() is pending, "waited for out of order"

    def close(self) -> None:
        assert not self._out, "closed under a batch"
        self.is_closed = True


class _Echo:
    def __init__(self, engine: AsyncEngine, frames: Image) -> None:
        self._engine = engine
        self._frames = frames

    def wait(self) -> NDArray[np.float32]:
        self._engine.finish(self)
        detections = np.zeros((len(self._frames), 1, 6), np.float32)
        detections[:, 0, 0] = self._frames[:, 0, 0, 0]
        return detections
