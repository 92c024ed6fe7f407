"""Both lanes with real letterboxing in real threads, and a sink whose speed the test decides."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.batching.batcher import Batcher
from edge.batching.drawing import Drawer
from edge.batching.feed import Feed
from edge.batching.policy import BatchPolicy
from edge.batching.priority_lane import PriorityLane
from edge.batching.ring import SlotRing
from edge.batching.shared_lane import SharedLane
from edge.clock import NS_PER_MS, SystemClock
from edge.config.schema import BatchingConfig
from edge.geometry import Image
from edge.records import (
    Batch,
    DropCause,
    Frame,
    FrameInfo,
    Lane,
    Preprocessing,
    TimestampSource,
)

MODEL_WH = (64, 48)


class Box:
    """A camera's mailbox."""

    def __init__(self, camera: str, wake: Callable[[], None]) -> None:
        self.camera = camera
        self.sent = 0
        self.dropped: Counter[DropCause] = Counter()
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: Optional[Frame] = None

    @property
    def received(self) -> int:
        return self.sent

    def close(self) -> None:
        if self.take() is not None:
            self.count_drop(DropCause.ABORTED)

    def send(self, image: Image, captured_ns: Optional[int] = None) -> None:
        now_ns = time.monotonic_ns() if captured_ns is None else captured_ns
        size_wh = (image.shape[1], image.shape[0])
        source = TimestampSource.RECEIVE
        info = FrameInfo(self.camera, self.sent, size_wh, now_ns, 0, source)
        with self._lock:
            self.sent += 1
            if self._waiting is not None:
                self.dropped[DropCause.SUPERSEDED] += 1
            self._waiting = Frame(info, image)
        self._wake()

    def peek(self) -> Optional[FrameInfo]:
        with self._lock:
            return self._waiting.info if self._waiting else None

    def take(self, expected: Optional[FrameInfo] = None) -> Optional[Frame]:
        with self._lock:
            frame = self._waiting
            if frame is None or (expected is not None and frame.info is not expected):
                return None
            self._waiting = None
            return frame

    def count_drop(self, cause: DropCause) -> None:
        with self._lock:
            self.dropped[cause] += 1


class Gate:
    """A pipeline of one shared batch that takes more when the test says so."""

    def __init__(self) -> None:
        self.busy = False
        self.holds_slots = False
        self.is_engine_taken = False
        self.waiting: List[Batch] = []
        self.batches: List[Batch] = []
        self.pixels: List[Image] = []
        self.arrived = threading.Event()

    def can_take(self) -> bool:
        return not self.busy

    def submit(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.pixels.append(batch.frames.copy())
        if self.is_engine_taken and batch.lane is Lane.PRIORITY:
            self.waiting.append(batch)
        elif not self.holds_slots:
            batch.slot.release()
        self.arrived.set()

    def exchange(self, waiting: Batch, batch: Batch) -> bool:
        if waiting not in self.waiting:
            return False
        self.waiting[self.waiting.index(waiting)] = batch
        place = self.batches.index(waiting)
        self.batches[place], self.pixels[place] = batch, batch.frames.copy()
        return True

    def take_waiting(self) -> None:
        """The engine is done with all that waited for it."""
        self.is_engine_taken = False
        for batch in self.waiting:
            batch.slot.release()
        self.waiting.clear()

    def cameras(self) -> List[List[str]]:
        return [[item.info.camera for item in batch.items] for batch in self.batches]


class Rig:
    """A batcher over named cameras, driven step by step on the test's own thread."""

    def __init__(
        self,
        cameras: int,
        slots: int = 2,
        priority: Sequence[int] = (),
        priority_slots: int = 3,
        max_staleness_ms: Optional[float] = None,
        **config: Optional[float],
    ) -> None:
        settings = BatchingConfig.model_validate({"target": 4, "max_wait_ms": 0, **config})
        self.gate = Gate()
        self.failures: List[BaseException] = []
        self.feeds = {f"cam{n}": Box(f"cam{n}", self.wake) for n in range(cameras)}
        self.ring = SlotRing(slots, settings.target, MODEL_WH)
        clock, ids = SystemClock(), itertools.count(1)
        self.pools = ThreadPoolExecutor(2), ThreadPoolExecutor(1)
        shared_drawer, priority_drawer = [
            Drawer(Preprocessing(MODEL_WH), pool, self.wake, keep_images=True)
            for pool in self.pools
        ]
        feeds = [Feed(box, max_staleness_ms) for box in self.feeds.values()]
        reserved = {feeds[number]: SlotRing(priority_slots, 1, MODEL_WH) for number in priority}
        self.reserved = list(reserved.values())
        shared = [feed for feed in feeds if feed not in reserved]
        self.policy = BatchPolicy(settings)
        self.batcher = Batcher(
            PriorityLane(reserved, priority_drawer, ids, clock),
            SharedLane(self.policy, shared, shared_drawer, self.ring, ids, clock),
            clock,
        )

    def wake(self) -> None:
        if hasattr(self, "batcher"):
            self.batcher.wake()

    def step(self) -> None:
        """One step of the lanes, and one more once every drawing is done."""
        self.batcher.step(self.gate)
        # All threads that draw and this one meet here: nothing is being drawn any more.
        meeting = threading.Barrier(4, timeout=30)
        jobs = [pool.submit(meeting.wait) for pool in (*self.pools, self.pools[0])]
        meeting.wait()
        for job in jobs:
            job.result()
        self.batcher.step(self.gate)

    def expect_all(self) -> None:
        """Lets the policy know every camera as one that delivers."""
        for camera in self.feeds:
            self.policy.arrivals.admitted(camera, 0, time.monotonic_ns())

    def on_failure(self, name: str, error: BaseException) -> None:
        self.failures.append(error)


def grey(level: int, size_wh: tuple[int, int] = (128, 96)) -> Image:
    return np.full((size_wh[1], size_wh[0], 3), level, np.uint8)


def undrawable() -> Image:
    return np.zeros((96, 128, 4), np.uint8)  # four channels


def test_a_batch_holds_each_cameras_frame_in_its_row() -> None:
    rig = Rig(cameras=3)
    for level, feed in enumerate(rig.feeds.values()):
        feed.send(grey(50 * level))
    rig.step()
    assert rig.gate.cameras() == [["cam0", "cam1", "cam2"]]
    for level, row in enumerate(rig.gate.pixels[0]):
        assert row.min() == row.max() == 50 * level


def test_at_saturation_the_newest_frame_takes_over_its_cameras_row() -> None:
    rig = Rig(cameras=2)
    rig.gate.busy = True
    rig.feeds["cam1"].send(grey(7))
    for level in (10, 20, 30):
        rig.feeds["cam0"].send(grey(level))
        rig.step()
    assert rig.gate.batches == []
    rig.gate.busy = False
    rig.step()
    (batch,) = rig.gate.batches
    by_camera = {item.info.camera: (number, item) for number, item in enumerate(batch.items)}
    row, item = by_camera["cam0"]
    assert item.info.frame_id == 2
    assert rig.gate.pixels[0][row].min() == rig.gate.pixels[0][row].max() == 30
    assert rig.feeds["cam0"].dropped == {DropCause.SUPERSEDED: 2}
    assert rig.feeds["cam1"].dropped == {}


def test_a_cameras_share_of_rows_moves_on_with_its_newest_frames() -> None:
    rig = Rig(cameras=1, max_frames_per_camera=3)
    rig.gate.busy = True
    for level in range(5):
        rig.feeds["cam0"].send(grey(level))
        rig.step()
    rig.gate.busy = False
    rig.step()
    (batch,) = rig.gate.batches
    assert sorted(item.info.frame_id for item in batch.items) == [2, 3, 4]
    levels = [int(row[20, 20, 0]) for row in rig.gate.pixels[0]]
    assert levels == [item.info.frame_id for item in batch.items]
    assert rig.feeds["cam0"].dropped == {DropCause.SUPERSEDED: 2}


def test_a_frame_that_cannot_be_drawn_leaves_no_hole() -> None:
    rig = Rig(cameras=3)
    rig.feeds["cam0"].send(grey(10))
    rig.feeds["cam1"].send(undrawable())
    rig.feeds["cam2"].send(grey(30))
    rig.step()
    assert rig.gate.cameras() == [["cam0", "cam2"]]
    assert [row.max() for row in rig.gate.pixels[0]] == [10, 30]
    assert rig.feeds["cam1"].dropped == {DropCause.ABORTED: 1}


@pytest.mark.parametrize("priority", [(), (0,)], ids=["shared", "priority"])
def test_an_undrawable_frame_gives_its_slot_back(priority: tuple[int, ...]) -> None:
    rig = Rig(cameras=1, slots=1, priority=priority)
    for _ in range(3):
        rig.feeds["cam0"].send(undrawable())
        rig.step()
    rig.feeds["cam0"].send(grey(9))
    rig.step()
    assert len(rig.gate.batches) == 1
    assert rig.feeds["cam0"].dropped == {DropCause.ABORTED: 3}


def test_without_a_free_slot_frames_wait_in_their_mailboxes() -> None:
    rig = Rig(cameras=1, slots=1)
    taken = rig.ring.acquire()
    assert taken is not None
    rig.feeds["cam0"].send(grey(1))
    rig.step()
    assert rig.feeds["cam0"].peek() is not None
    taken.release()
    rig.step()
    assert len(rig.gate.batches) == 1


@pytest.mark.parametrize("priority", [(), (0,)], ids=["shared", "priority"])
def test_a_stale_frame_is_counted_and_not_drawn(priority: tuple[int, ...]) -> None:
    rig = Rig(cameras=1, max_staleness_ms=1000, priority=priority)
    old_ns = time.monotonic_ns() - 5_000 * NS_PER_MS
    rig.feeds["cam0"].send(grey(1), old_ns)
    rig.step()
    assert rig.feeds["cam0"].dropped == {DropCause.STALE: 1}
    assert rig.gate.batches == []


@pytest.mark.parametrize("priority", [(), (0,)], ids=["shared", "priority"])
@pytest.mark.parametrize("max_staleness_ms", [None, 60_000.0])
def test_a_batch_says_until_when_each_frame_is_fresh(
    max_staleness_ms: Optional[float], priority: tuple[int, ...]
) -> None:
    rig = Rig(cameras=1, max_staleness_ms=max_staleness_ms, priority=priority)
    rig.feeds["cam0"].send(grey(1))
    rig.step()
    (item,) = rig.gate.batches[0].items
    if max_staleness_ms is None:
        assert item.fresh_until_ns is None
        assert not item.is_stale(2**62)
        return
    last_ns = item.info.captured_ns + 60_000 * NS_PER_MS
    assert (item.is_stale(last_ns), item.is_stale(last_ns + 1)) == (False, True)


def test_a_priority_frame_leaves_at_once_and_alone() -> None:
    rig = Rig(cameras=3, priority=[1], max_wait_ms=1000)
    rig.expect_all()
    rig.feeds["cam0"].send(grey(1))
    rig.step()
    rig.feeds["cam1"].send(grey(2))
    rig.step()
    (batch,) = rig.gate.batches
    assert (batch.lane, rig.gate.cameras()) == (Lane.PRIORITY, [["cam1"]])
    assert int(rig.gate.pixels[0][0, 20, 20, 0]) == 2
    # The shared slot was neither closed nor disturbed.
    assert "1 rows bound" in repr(rig.batcher)


def test_a_busy_pipeline_does_not_hold_a_priority_frame() -> None:
    rig = Rig(cameras=2, priority=[0])
    rig.gate.busy = True
    rig.feeds["cam0"].send(grey(1))
    rig.feeds["cam1"].send(grey(2))
    rig.step()
    assert rig.gate.cameras() == [["cam0"]]


def frame_ids(rig: Rig) -> List[List[int]]:
    return [[item.info.frame_id for item in batch.items] for batch in rig.gate.batches]


def test_until_the_engine_takes_it_a_newer_priority_frame_takes_its_place() -> None:
    rig = Rig(cameras=1, priority=[0])
    rig.gate.is_engine_taken = True
    for level in range(4):
        rig.feeds["cam0"].send(grey(level))
        rig.step()
        assert frame_ids(rig) == [[level]]
        assert int(rig.gate.pixels[0][0, 20, 20, 0]) == level
    assert rig.feeds["cam0"].dropped == {DropCause.SUPERSEDED: 3}
    assert repr(rig.reserved[0]) == "<SlotRing 2 of 3 slots free>"
    rig.gate.take_waiting()
    rig.feeds["cam0"].send(grey(4))
    rig.step()
    assert frame_ids(rig) == [[3], [4]]
    assert repr(rig.reserved[0]) == "<SlotRing 3 of 3 slots free>"


def test_a_priority_frame_stays_in_its_place_until_the_newer_one_is_drawn() -> None:
    rig = Rig(cameras=1, priority=[0])
    rig.gate.is_engine_taken = True
    rig.feeds["cam0"].send(grey(0))
    rig.step()
    let_draw = threading.Event()
    rig.pools[1].submit(let_draw.wait, 30)
    for level in (1, 2, 3):
        rig.feeds["cam0"].send(grey(level))
        rig.batcher.step(rig.gate)
    assert frame_ids(rig) == [[0]]
    rig.gate.take_waiting()  # at this very moment the engine takes it
    let_draw.set()
    rig.step()
    rig.step()
    assert frame_ids(rig) == [[0], [1], [3]]
    assert rig.feeds["cam0"].dropped == {DropCause.SUPERSEDED: 1}


def test_an_undrawable_frame_takes_nobodys_place() -> None:
    rig = Rig(cameras=1, priority=[0])
    rig.gate.is_engine_taken = True
    rig.feeds["cam0"].send(grey(0))
    rig.step()
    rig.feeds["cam0"].send(undrawable())
    rig.step()
    assert frame_ids(rig) == [[0]]
    assert rig.feeds["cam0"].dropped == {DropCause.ABORTED: 1}


def test_without_a_free_slot_a_priority_camera_keeps_its_newest_frame() -> None:
    rig = Rig(cameras=1, priority=[0], priority_slots=1)
    rig.gate.holds_slots = True  # results that nobody takes away
    for level in range(4):
        rig.feeds["cam0"].send(grey(level))
        rig.step()
    assert len(rig.gate.batches) == 1
    rig.gate.batches[0].slot.release()
    rig.step()
    assert frame_ids(rig) == [[0], [3]]
    assert rig.feeds["cam0"].dropped == {DropCause.SUPERSEDED: 2}


def test_a_closing_slot_waits_for_its_drawings_and_holds_up_no_priority_frame() -> None:
    rig = Rig(cameras=3, priority=[2])
    let_draw = threading.Event()
    for _ in range(2):  # both threads of the shared lane
        rig.pools[0].submit(let_draw.wait, 30)
    rig.feeds["cam0"].send(grey(1))
    rig.batcher.step(rig.gate)
    # Due, and not drawn yet: it takes no more, neither a newer frame of its own nor another's.
    rig.feeds["cam0"].send(grey(2))
    rig.feeds["cam1"].send(grey(3))
    rig.feeds["cam2"].send(grey(4))
    rig.batcher.step(rig.gate)
    rig.pools[1].submit(bool).result(30)  # the priority frame is drawn
    assert rig.batcher.step(rig.gate) is None
    assert rig.gate.cameras() == [["cam2"]]
    let_draw.set()
    rig.step()
    rig.step()
    assert rig.gate.cameras() == [["cam2"], ["cam0"], ["cam1", "cam0"]]
    assert [int(pixels[0, 20, 20, 0]) for pixels in rig.gate.pixels] == [4, 1, 3]
    assert rig.feeds["cam0"].dropped == {}


def test_aligned_frames_share_a_batch_and_the_error_is_told() -> None:
    rig = Rig(cameras=3, align_ms=5, max_wait_ms=1000)
    rig.expect_all()
    base_ns = time.monotonic_ns()
    for camera, offset_ms in (("cam0", 0), ("cam1", 4), ("cam2", 300)):
        rig.feeds[camera].send(grey(1), base_ns + offset_ms * NS_PER_MS)
        rig.step()
    # The third is too new: what was together leaves without it.
    assert rig.gate.cameras()[0] == ["cam0", "cam1"]
    assert rig.gate.batches[0].info.align_error_ns == 4 * NS_PER_MS
    rig.feeds["cam0"].send(grey(1), base_ns + 301 * NS_PER_MS)
    rig.feeds["cam1"].send(grey(1), base_ns + 302 * NS_PER_MS)
    rig.step()
    assert sorted(rig.gate.cameras()[1]) == ["cam0", "cam1", "cam2"]


def test_at_saturation_a_newer_group_takes_the_slot_once_it_is_complete() -> None:
    rig = Rig(cameras=2, align_ms=5, max_wait_ms=1000)
    rig.gate.busy = True
    base_ns = time.monotonic_ns()

    def send(camera: str, ms: int) -> None:
        rig.feeds[camera].send(grey(ms), base_ns + ms * NS_PER_MS)
        rig.step()

    send("cam0", 0)
    send("cam1", 1)
    send("cam0", 33)
    assert "2 rows bound" in repr(rig.batcher)
    assert rig.feeds["cam0"].peek() is not None  # its group still lacks the other
    send("cam1", 34)
    send("cam0", 66)
    rig.gate.busy = False
    rig.step()
    assert frame_ids(rig)[0] == [1, 1]
    assert sorted(int(row[20, 20, 0]) for row in rig.gate.pixels[0]) == [33, 34]
    assert rig.gate.batches[0].info.align_error_ns == NS_PER_MS
    assert [feed.dropped for feed in rig.feeds.values()] == [{DropCause.SUPERSEDED: 1}] * 2


def test_the_deadline_alone_sends_a_partial_batch() -> None:
    rig = Rig(cameras=2, max_wait_ms=20)
    rig.expect_all()
    rig.batcher.start(rig.gate, rig.on_failure)
    rig.feeds["cam0"].send(grey(1))  # the other one is expected, and does not come
    assert rig.gate.arrived.wait(30)
    assert rig.batcher.stop(30)
    (batch,) = rig.gate.batches
    assert len(batch.items) == 1
    assert batch.closed_ns - batch.opened_ns >= 20 * NS_PER_MS
    assert rig.failures == []


@pytest.mark.parametrize("priority", [(), (0,)], ids=["shared", "priority"])
def test_stop_sends_off_what_is_bound_and_counts_what_still_waits(
    priority: tuple[int, ...],
) -> None:
    rig = Rig(cameras=1, max_wait_ms=1000, slots=1, priority=priority)
    rig.gate.busy = True
    rig.gate.holds_slots = True
    rig.batcher.start(rig.gate, rig.on_failure)
    for _ in range(3):
        rig.feeds["cam0"].send(grey(1))
    assert rig.batcher.stop(30)
    feed = rig.feeds["cam0"]
    inferred = sum(len(batch.items) for batch in rig.gate.batches)
    assert inferred + sum(feed.dropped.values()) == feed.sent == 3


@settings(max_examples=60, deadline=None)
@given(
    actions=st.lists(
        st.tuples(
            st.sampled_from(
                ["send", "send", "step", "busy", "free", "hold", "let go", "spoil", "take"]
            ),
            st.integers(0, 5),
        ),
        max_size=60,
    ),
    align_ms=st.sampled_from([None, 0.1, 1000.0]),
    per_camera=st.integers(1, 3),
)
def test_every_frame_is_inferred_once_or_counted_and_order_is_kept(
    actions: list[tuple[str, int]], align_ms: Optional[float], per_camera: int
) -> None:
    rig = Rig(
        cameras=6, target=3, priority=[5], max_frames_per_camera=per_camera, align_ms=align_ms
    )
    let_go = 0
    for action, camera in actions:
        if action in ("send", "spoil"):
            rig.feeds[f"cam{camera}"].send(grey(camera) if action == "send" else undrawable())
        elif action == "step":
            rig.batcher.step(rig.gate)
        elif action in ("hold", "let go"):
            rig.gate.holds_slots = action == "hold"
        elif action == "take":
            rig.gate.take_waiting()
        else:
            rig.gate.busy = rig.gate.is_engine_taken = action == "busy"
    let_go = sum(1 for batch in rig.gate.batches)
    rig.gate.take_waiting()
    rig.gate.holds_slots = True
    rig.batcher.start(rig.gate, rig.on_failure)
    assert rig.batcher.stop(30)
    assert rig.failures == []
    assert let_go <= len(rig.gate.batches)
    check_accounts(rig, align_ms)


def check_accounts(rig: Rig, align_ms: Optional[float]) -> None:
    """No frame twice, none lost uncounted, order per camera kept, alignment kept."""
    inferred: Dict[str, List[int]] = {name: [] for name in rig.feeds}
    for batch in rig.gate.batches:
        assert 1 <= len(batch.items) <= 3
        assert len(batch.items) == 1 or batch.lane is Lane.BATCH
        if align_ms is not None:
            assert batch.info.align_error_ns <= align_ms * NS_PER_MS
        for item in sorted(batch.items, key=lambda item: item.info.captured_ns):
            inferred[item.info.camera].append(item.info.frame_id)
    for name, feed in rig.feeds.items():
        assert inferred[name] == sorted(set(inferred[name]))
        assert len(inferred[name]) + sum(feed.dropped.values()) == feed.sent


def test_a_failing_sink_is_reported_not_swallowed() -> None:
    rig = Rig(cameras=1)

    class Broken(Gate):
        def submit(self, batch: Batch) -> None:
            raise RuntimeError("sink is gone")

    failed = threading.Event()

    def on_failure(name: str, error: BaseException) -> None:
        rig.on_failure(name, error)
        failed.set()

    rig.batcher.start(Broken(), on_failure)
    rig.feeds["cam0"].send(grey(1))
    assert failed.wait(30)
    assert "sink is gone" in str(rig.failures[0])


@pytest.mark.parametrize("size_wh", [(64, 48), (640, 480), (33, 201), (1920, 16)])
def test_sources_of_any_shape_fit_into_the_row(size_wh: tuple[int, int]) -> None:
    rig = Rig(cameras=1)
    rig.feeds["cam0"].send(grey(200, size_wh))
    rig.step()
    (batch,) = rig.gate.batches
    assert batch.items[0].letterbox.source_wh == size_wh
    assert set(np.unique(rig.gate.pixels[0])) <= {114, 200}
