"""All of batching and inference in real threads, fed by cameras that keep no time."""

from __future__ import annotations

import itertools
import random
import threading
import time
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import DefaultDict, Dict, List, Optional

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.batching.batcher import Batcher
from edge.batching.drawing import Drawer
from edge.batching.feed import Feed
from edge.batching.lane_queue import LaneQueue
from edge.batching.policy import BatchPolicy
from edge.batching.priority_lane import PriorityLane
from edge.batching.ring import SlotRing
from edge.batching.shared_lane import SharedLane
from edge.capture.mailbox import Mailbox
from edge.clock import NS_PER_MS, SystemClock
from edge.config.schema import BatchingConfig, Window
from edge.errors import EngineError, EngineOutOfMemory
from edge.geometry import Image
from edge.inference.chunks import ChunkedEngine
from edge.inference.engine import Synchronous
from edge.inference.lanes import Lanes
from edge.records import (
    Batch,
    BatchResult,
    DropCause,
    EngineInfo,
    Frame,
    FrameInfo,
    Lane,
    Preprocessing,
    TimestampSource,
)

HANG_S = 30.0
MODEL_WH = (32, 32)
TARGET = 8
CAMERAS = 12
PRIORITY = (0, 1)
PRIORITY_SLOTS = 3
MAX_STALENESS_MS = {1: 15.0, 2: 25.0}  # of a priority camera and of another
UNDRAWABLE_EVERY = 40
IDS = 250  # frame ids are told apart modulo this, in a pixel


class FlakyEngine(Synchronous):
    """Slow; echoes the pixel in each frame's middle; has less memory from its 50th call on."""

    info = EngineInfo("flaky", "1", "test", "fp32", TARGET)
    input_wh = MODEL_WH

    def __init__(self, dies_at_call: Optional[int] = None, frame_s: float = 0.001) -> None:
        self._dies_at_call = dies_at_call
        self._frame_s = frame_s
        self.calls = 0

    def infer(self, frames: Image) -> NDArray[np.float32]:
        self.calls += 1
        if self.calls == self._dies_at_call:
            raise EngineError("the device fell off the bus")
        if self.calls > 50 and len(frames) > 4:
            raise EngineOutOfMemory("no memory for so many")
        time.sleep(0.004 + self._frame_s * len(frames))
        detections = np.zeros((len(frames), 1, 6), np.float32)
        detections[:, 0, :2] = frames[:, MODEL_WH[1] // 2, MODEL_WH[0] // 2, :2]
        return detections

    def close(self) -> None:
        """Has nothing to give back."""


class Camera(threading.Thread):
    """Sends frames at no particular pace; each frame's pixels say whose it is and which."""

    def __init__(self, number: int, box: Mailbox, stop: threading.Event) -> None:
        super().__init__(name=f"camera {number}", daemon=True)
        self.sent = 0
        self._number = number
        self._box = box
        self._stop_sending = stop

    def run(self) -> None:
        rng = random.Random(self._number)
        while not self._stop_sending.wait(rng.expovariate(1 / 0.02)):
            for _ in range(rng.choice((1, 1, 1, 3))):  # sometimes a burst
                self._send()

    def _send(self) -> None:
        channels = 4 if self._number and self.sent % UNDRAWABLE_EVERY == 7 else 3
        image = np.zeros((32, 32, channels), np.uint8)
        image[:, :, 0], image[:, :, 1] = self._number, self.sent % IDS
        now_ns = time.monotonic_ns()
        source = TimestampSource.RECEIVE
        info = FrameInfo(self._box.camera, self.sent, (32, 32), now_ns, 0, source)
        self.sent += 1
        self._box.put(Frame(info, image))


class Watch:
    """The pipeline as the batcher sees it; notes what was in flight ahead of priority batches."""

    def __init__(self, pipeline: Lanes) -> None:
        self._pipeline = pipeline
        self.ahead: Dict[int, int] = {}
        self.submitted_ns: Dict[int, int] = {}

    def can_take(self) -> bool:
        return self._pipeline.can_take()

    def submit(self, batch: Batch) -> None:
        self._note(batch)
        self._pipeline.submit(batch)

    def exchange(self, waiting: Batch, batch: Batch) -> bool:
        self._note(batch)
        return self._pipeline.exchange(waiting, batch)

    def _note(self, batch: Batch) -> None:
        if batch.lane is Lane.PRIORITY:
            self.ahead[batch.batch_id] = self._pipeline.in_flight
            self.submitted_ns[batch.batch_id] = time.monotonic_ns()


class Plant:
    """Cameras, batcher, pipeline and engine, with everything that came out."""

    def __init__(self, engine: FlakyEngine, config: BatchingConfig) -> None:
        clock, ids = SystemClock(), itertools.count(1)
        self.config = config
        self.results: List[BatchResult] = []
        self.failures: List[str] = []
        self.has_failed = threading.Event()
        self.caps: List[int] = []
        self._silence = threading.Event()
        self.boxes = [Mailbox(f"cam{number}", self._wake) for number in range(CAMERAS)]
        feeds = [Feed(box, MAX_STALENESS_MS.get(number)) for number, box in enumerate(self.boxes)]
        shared_ring = SlotRing(2, config.target, MODEL_WH)
        reserved = {feeds[number]: SlotRing(PRIORITY_SLOTS, 1, MODEL_WH) for number in PRIORITY}
        self.rings = [shared_ring, *reserved.values()]
        drawer, priority_drawer = [
            Drawer(Preprocessing(MODEL_WH), ThreadPoolExecutor(2), self._wake) for _ in range(2)
        ]
        shared = [feed for feed in feeds if feed not in reserved]
        lane = SharedLane(BatchPolicy(config), shared, drawer, shared_ring, ids, clock)
        priority_lane = PriorityLane(reserved, priority_drawer, ids, clock)
        self.batcher = Batcher(priority_lane, lane, clock)
        chunked = ChunkedEngine(engine, TARGET, self.caps.append)
        queue = LaneQueue(config.priority_burst)
        self.pipeline = Lanes(chunked, queue, self.results.append, clock, self._fail, depth=1)
        self.watch = Watch(self.pipeline)
        self.cameras = [Camera(n, box, self._silence) for n, box in enumerate(self.boxes)]

    def run(self, seconds: float) -> None:
        """Plays, ends early where a thread fails, and stops everything in order."""
        self.pipeline.start(self._wake, self._count_stale)
        self.batcher.start(self.watch, self._fail)
        for camera in self.cameras:
            camera.start()
        self.has_failed.wait(seconds)
        self._silence.set()
        for camera in self.cameras:
            camera.join(HANG_S)
            assert not camera.is_alive()
        assert self.batcher.stop(HANG_S)
        assert self.pipeline.stop(HANG_S) is not self.has_failed.is_set()

    def inferred(self) -> Dict[str, List[int]]:
        """The frame ids of each camera in the order in which they are told."""
        told: DefaultDict[str, List[int]] = defaultdict(list)
        for result in self.results:
            for item in sorted(result.batch.items, key=lambda item: item.info.captured_ns):
                told[item.info.camera].append(item.info.frame_id)
        return told

    def _wake(self) -> None:
        # Mailboxes call from the first frame on, and there are none before the batcher is made.
        self.batcher.wake()

    def _count_stale(self, info: FrameInfo) -> None:
        self.boxes[int(info.camera[3:])].count_drop(DropCause.STALE)

    def _fail(self, thread: str, error: BaseException) -> None:
        self.failures.append(f"{thread}: {error}")
        self.has_failed.set()


def assert_accounts_add_up(plant: Plant) -> None:
    inferred = plant.inferred()
    lost = Counter(item.info.camera for batch in plant.pipeline.abandoned for item in batch.items)
    for camera, box in zip(plant.cameras, plant.boxes):
        told = inferred[box.camera]
        assert len(set(told)) == len(told), f"{box!r} was inferred twice"
        assert camera.sent == len(told) + lost[box.camera] + sum(box.dropped.values()), repr(box)
        assert told == sorted(told), f"{box!r} out of order"


def assert_results_are_of_their_frames(plant: Plant) -> None:
    for result in plant.results:
        for item, detection in zip(result.batch.items, result.detections[:, 0]):
            number, shown_id = int(detection[0]), int(detection[1])
            assert (f"cam{number}", shown_id) == (item.info.camera, item.info.frame_id % IDS)


def assert_nothing_was_stale_when_it_began(plant: Plant) -> None:
    for result in plant.results:
        for item in result.batch.items:
            limit_ms = MAX_STALENESS_MS.get(int(item.info.camera[3:]), HANG_S * 1e3)
            assert result.started_ns - item.info.captured_ns <= limit_ms * NS_PER_MS


def assert_priority_only_waits_for_what_was_in_flight(plant: Plant) -> None:
    started = {result.batch.batch_id: result.started_ns for result in plant.results}
    in_order = sorted(started.values())
    for batch_id, ahead in plant.watch.ahead.items():
        if batch_id not in started:  # a newer frame took its place, or it was stale
            continue
        at_submission = bisect_right(in_order, plant.watch.submitted_ns[batch_id])
        assert bisect_left(in_order, started[batch_id]) - at_submission <= ahead


def assert_nothing_is_left(plant: Plant, threads_before: List[threading.Thread]) -> None:
    assert [repr(ring).split()[1] for ring in plant.rings] == ["2", "3", "3"]
    assert plant.pipeline.in_flight == 0
    for thread in threading.enumerate():
        if thread not in threads_before:
            thread.join(HANG_S)
            assert not thread.is_alive(), thread.name


def batching(**keys: object) -> BatchingConfig:
    return BatchingConfig.model_validate({"target": TARGET, "max_wait_ms": 5, **keys})


def stress(config: BatchingConfig, seconds: float) -> Plant:
    before = threading.enumerate()
    plant = Plant(FlakyEngine(), config)
    plant.run(seconds)
    assert plant.failures == []
    assert plant.caps == [4]
    assert_accounts_add_up(plant)
    assert_results_are_of_their_frames(plant)
    assert_priority_only_waits_for_what_was_in_flight(plant)
    assert_nothing_was_stale_when_it_began(plant)
    assert_nothing_is_left(plant, before)
    return plant


def test_every_frame_is_inferred_once_or_counted() -> None:
    plant = stress(batching(window=Window.AUTO), seconds=5)
    dropped: Counter[DropCause] = Counter()
    for box in plant.boxes:
        dropped.update(box.dropped)
    assert dropped[DropCause.SUPERSEDED] > 0
    assert dropped[DropCause.ABORTED] > 0
    assert {result.batch.lane for result in plant.results} == set(Lane)
    assert max(len(result.batch.items) for result in plant.results) == TARGET


def test_priority_frames_stay_fresh_beside_a_slow_engine() -> None:
    """A shared batch takes ten times as long as a priority frame may be old."""
    before = threading.enumerate()
    plant = Plant(FlakyEngine(frame_s=0.02), batching())
    plant.run(4.0)
    assert plant.failures == []
    assert_accounts_add_up(plant)
    assert_nothing_was_stale_when_it_began(plant)
    assert_nothing_is_left(plant, before)
    lanes = Counter(result.batch.lane for result in plant.results)
    assert lanes[Lane.PRIORITY] >= lanes[Lane.BATCH] > 0
    assert all(plant.boxes[number].dropped[DropCause.SUPERSEDED] for number in PRIORITY)


def test_the_priority_lane_gets_an_engine_of_its_own_under_load() -> None:
    before = threading.enumerate()
    plant = Plant(FlakyEngine(frame_s=0.02), batching())
    own = FlakyEngine()

    def open_priority() -> None:
        alone = ChunkedEngine(own, 1, plant.caps.append)
        plant.pipeline.open_priority(alone, LaneQueue(plant.config.priority_burst))

    opening = threading.Timer(1.0, open_priority)
    opening.start()
    plant.run(3.0)
    assert plant.failures == []
    assert_accounts_add_up(plant)
    assert_results_are_of_their_frames(plant)
    assert_nothing_was_stale_when_it_began(plant)
    assert_nothing_is_left(plant, before)
    lanes = Counter(result.batch.lane for result in plant.results)
    assert lanes[Lane.PRIORITY] > own.calls > 0


def test_several_frames_of_a_camera_in_a_batch_keep_their_order() -> None:
    plant = stress(batching(max_frames_per_camera=3), seconds=2)
    most = max(
        Counter(item.info.camera for item in result.batch.items).most_common(1)[0][1]
        for result in plant.results
    )
    assert most > 1


def test_an_engine_that_dies_takes_no_frame_out_of_the_books() -> None:
    plant = Plant(FlakyEngine(dies_at_call=70), batching())
    plant.run(HANG_S)
    assert plant.failures == ["inference: the device fell off the bus"]
    assert plant.pipeline.abandoned
    assert_accounts_add_up(plant)
    assert_results_are_of_their_frames(plant)


@pytest.mark.soak
@pytest.mark.parametrize("per_camera", [1, 2])
def test_a_minute_of_it(per_camera: int) -> None:
    config = batching(window=Window.AUTO, max_frames_per_camera=per_camera)
    stress(config, seconds=60)
