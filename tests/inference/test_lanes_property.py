"""Whatever happens to the lanes, in whatever order: every frame is accounted for, once."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import Dict, List, Optional

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.batching.lane_queue import LaneQueue
from edge.clock import SystemClock
from edge.geometry import Letterbox
from edge.inference.chunks import ChunkedEngine
from edge.inference.lanes import Lanes
from edge.inference.seat import EngineSeat
from edge.records import Batch, BatchItem, BatchResult, FrameInfo, Lane, Slot, TimestampSource
from tests.inference.async_engine import HANG_S, INPUT_WH, AsyncEngine, Permits

PAUSE_S = 0.002  # what happens before it has mostly had its effect
LETTERBOX = Letterbox.fit(INPUT_WH, INPUT_WH)
GATES = ("gate0", "gate1", "gate2")
EVENTS = (
    "shared", "shared", *GATES, *GATES, "stale", "open",
    "exchange", "exchange priority", "shared done", "shared done", "priority done", "priority done",
    "pause",
)  # fmt: skip


class Exchanger:
    """Exchanges engines in a thread of its own, one after the other, as they are built."""

    def __init__(self) -> None:
        self._wanted: SimpleQueue[Optional[EngineSeat]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def exchange(self, seat: EngineSeat) -> None:
        self._wanted.put(seat)

    def end(self) -> None:
        self._wanted.put(None)
        self._thread.join(HANG_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            seat = self._wanted.get()
            if seat is None:
                return
            seat.exchange(seated(seat.engine)).close()


def seated(like: ChunkedEngine) -> ChunkedEngine:
    """Another engine that the same permits let through."""
    engine = like._engine
    assert isinstance(engine, AsyncEngine)
    return ChunkedEngine(AsyncEngine(engine.permits), like.cap, lambda cap: None)


class Play:
    """Cameras, lanes and engines; writes down what becomes of each frame."""

    def __init__(self) -> None:
        self.permits = {lane: Permits() for lane in Lane}
        for permits in self.permits.values():
            permits.hold()
        self.seats = {lane: self._seat(lane) for lane in Lane}
        self.submitted: List[int] = []
        self.superseded: List[int] = []
        self.stale: List[int] = []
        self.told: Dict[str, List[int]] = {}
        self.released: List[int] = []
        self.failures: List[str] = []
        self._waiting: Dict[str, Batch] = {}
        self._is_open = False
        self._exchanger = Exchanger()
        self._is_telling = threading.Lock()
        self.lanes = Lanes(
            self.seats[Lane.BATCH], LaneQueue(2), self._result, SystemClock(), self._failure, 3
        )
        self.lanes.start(lambda: None, lambda info: self.stale.append(info.frame_id))

    def happen(self, event: str) -> None:
        if event == "shared" and self.lanes.can_take():
            self.lanes.submit(self._batch("cam", Lane.BATCH))
        elif event in GATES:
            self._deliver(event)
        elif event == "stale":
            self._deliver(GATES[0], fresh_until_ns=1)
        elif event == "open" and not self._is_open:
            self._is_open = True
            self.lanes.open_priority(self.seats[Lane.PRIORITY], LaneQueue(2))
        elif event.startswith("exchange"):
            lane = Lane.PRIORITY if event.endswith("priority") else Lane.BATCH
            self._exchanger.exchange(self.seats[lane])
        elif event.endswith("done"):
            self.permits[Lane.BATCH if event.startswith("shared") else Lane.PRIORITY].give(1)
        elif event == "pause":
            time.sleep(PAUSE_S)

    def end(self, *, at_once: bool) -> None:
        if at_once:
            assert self.lanes.stop(0.0) in (True, False)
            abandoned = self.lanes.abandoned
            self._free()
            self.lanes.stop(HANG_S)
            assert self.lanes.abandoned == abandoned
        else:
            self._free()
            assert self.lanes.stop(HANG_S), self.failures
            assert self.lanes.abandoned == ()
        assert self.lanes.has_ended
        self._exchanger.end()
        for seat in self.seats.values():
            seat.engine.close()

    def assert_accounts_add_up(self) -> None:
        assert self.failures == []
        told = [number for numbers in self.told.values() for number in numbers]
        abandoned = [batch.batch_id for batch in self.lanes.abandoned]
        assert sorted([*told, *abandoned, *self.superseded, *self.stale]) == self.submitted
        assert sorted([*self.released, *abandoned, *self.superseded]) == self.submitted
        for camera, numbers in self.told.items():
            assert numbers == sorted(numbers), camera

    def _free(self) -> None:
        for permits in self.permits.values():
            permits.free()

    def _seat(self, lane: Lane) -> EngineSeat:
        return EngineSeat(ChunkedEngine(AsyncEngine(self.permits[lane]), 1, lambda cap: None))

    def _deliver(self, camera: str, fresh_until_ns: Optional[int] = None) -> None:
        """As the batcher's priority lane does it."""
        batch = self._batch(camera, Lane.PRIORITY, fresh_until_ns)
        before = self._waiting.get(camera)
        if before is not None and self.lanes.exchange(before, batch):
            self.superseded.append(before.batch_id)
        else:
            self.lanes.submit(batch)
        self._waiting[camera] = batch

    def _batch(self, camera: str, lane: Lane, fresh_until_ns: Optional[int] = None) -> Batch:
        number = len(self.submitted)
        self.submitted.append(number)
        info = FrameInfo(camera, number, INPUT_WH, 1, 2, TimestampSource.RECEIVE)
        item = BatchItem(info, LETTERBOX, fresh_until_ns=fresh_until_ns)
        rows = np.full((1, *INPUT_WH, 3), number, np.uint8)
        slot = Slot(number, rows, lambda slot: self.released.append(slot.index))
        return Batch(number, slot, (item,), 0, 0, lane)

    def _result(self, result: BatchResult) -> None:
        assert self._is_telling.acquire(blocking=False), "two results at once"
        number = result.batch.batch_id
        assert result.detections[0, 0, 0] == number
        self.told.setdefault(result.batch.items[0].info.camera, []).append(number)
        self._is_telling.release()
        self.lanes.give_way()

    def _failure(self, thread: str, error: BaseException) -> None:
        self.failures.append(f"{thread}: {error}")


@settings(max_examples=150, deadline=None)
@given(events=st.lists(st.sampled_from(EVENTS), max_size=60), at_once=st.booleans())
@example(["gate0", "gate0", "gate0", "open", "gate0", "gate0", "shared done", "gate0"], False)
@example(["gate0", "open", "gate0", "priority done", "pause"], False)
@example(
    ["gate0", "pause", "gate0", "pause", "gate0", "gate0", "open", "shared done", "pause", "gate0",
     "shared done", "pause", "priority done", "pause"], False,
)  # fmt: skip
@example(["gate0", "gate1", "open", "gate0", "exchange", "exchange priority"], True)
def test_no_frame_is_lost_doubled_or_overtaken_by_its_own_camera(
    events: List[str], at_once: bool
) -> None:
    play = Play()
    for event in events:
        play.happen(event)
    play.end(at_once=at_once)
    play.assert_accounts_add_up()
