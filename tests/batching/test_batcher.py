"""The batcher with real threads, real letterboxing and a sink whose speed the test decides."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Callable, Dict, List, Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.batching.batcher import Batcher
from edge.batching.ring import SlotRing
from edge.clock import SystemClock
from edge.config.schema import BatchingConfig
from edge.geometry import Image
from edge.records import (
    Batch,
    DropCause,
    Frame,
    FrameInfo,
    Preprocessing,
    TimestampSource,
)

MODEL_WH = (64, 48)


class Feed:
    """A mailbox that counts."""

    def __init__(self, camera: str, wake: Callable[[], None]) -> None:
        self.camera = camera
        self.sent = 0
        self.dropped: Counter[DropCause] = Counter()
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: Optional[Frame] = None

    def send(self, image: Image) -> None:
        info = FrameInfo(
            self.camera,
            self.sent,
            (image.shape[1], image.shape[0]),
            time.monotonic_ns(),
            0,
            TimestampSource.RECEIVE,
        )
        with self._lock:
            self.sent += 1
            if self._waiting is not None:
                self.dropped[DropCause.SUPERSEDED] += 1
            self._waiting = Frame(info, image)
        self._wake()

    def peek(self) -> Optional[FrameInfo]:
        with self._lock:
            return self._waiting.info if self._waiting else None

    def take(self) -> Optional[Frame]:
        with self._lock:
            frame, self._waiting = self._waiting, None
            return frame

    def count_drop(self, cause: DropCause) -> None:
        with self._lock:
            self.dropped[cause] += 1


class Gate:
    """A pipeline of one batch that finishes when the test says so."""

    def __init__(self, ring: SlotRing) -> None:
        self._ring = ring
        self.busy = False
        self.batches: List[Batch] = []
        self.pixels: List[Image] = []
        self.arrived = threading.Event()

    def can_take(self) -> bool:
        return not self.busy

    def submit(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.pixels.append(batch.frames.copy())
        self._ring.release(batch.slot)
        self.arrived.set()


class Rig:
    """A batcher over named cameras, driven step by step on the test's own thread."""

    def __init__(
        self, cameras: int, target: int = 4, max_wait_ms: float = 0, slots: int = 2
    ) -> None:
        self.ring = SlotRing(slots, target, MODEL_WH)
        self.gate = Gate(self.ring)
        self.feeds: Dict[str, Feed] = {
            f"cam{number}": Feed(f"cam{number}", self.wake) for number in range(cameras)
        }
        self.failures: List[BaseException] = []
        self.batcher = Batcher(
            BatchingConfig(target=target, max_wait_ms=max_wait_ms, letterbox_threads=2),
            Preprocessing(MODEL_WH),
            list(self.feeds.values()),
            self.ring,
            SystemClock(),
            keep_images=True,
        )

    def wake(self) -> None:
        if hasattr(self, "batcher"):
            self.batcher.wake()

    def on_failure(self, name: str, error: BaseException) -> None:
        self.failures.append(error)


def grey(level: int, size_wh: tuple[int, int] = (128, 96)) -> Image:
    return np.full((size_wh[1], size_wh[0], 3), level, np.uint8)


def test_a_batch_holds_each_cameras_frame_in_its_row() -> None:
    rig = Rig(cameras=3)
    for level, feed in enumerate(rig.feeds.values()):
        feed.send(grey(50 * level))
    rig.batcher.step(rig.gate)
    (batch,) = rig.gate.batches
    assert [item.info.camera for item in batch.items] == ["cam0", "cam1", "cam2"]
    for level, row in enumerate(rig.gate.pixels[0]):
        assert row.min() == row.max() == 50 * level


def test_at_saturation_the_newest_frame_takes_over_its_cameras_row() -> None:
    rig = Rig(cameras=2)
    rig.gate.busy = True
    rig.feeds["cam1"].send(grey(7))
    for level in (10, 20, 30):
        rig.feeds["cam0"].send(grey(level))
        rig.batcher.step(rig.gate)
        open_slot = rig.batcher._open
        assert open_slot is not None
        open_slot.rows["cam0"].drawing.result(timeout=10)
    assert rig.gate.batches == []
    rig.gate.busy = False
    rig.batcher.step(rig.gate)
    (batch,) = rig.gate.batches
    by_camera = {item.info.camera: (number, item) for number, item in enumerate(batch.items)}
    row, item = by_camera["cam0"]
    assert item.info.frame_id == 2
    assert rig.gate.pixels[0][row].min() == rig.gate.pixels[0][row].max() == 30
    assert rig.feeds["cam0"].dropped == {DropCause.SUPERSEDED: 2}
    assert rig.feeds["cam1"].dropped == {}


def test_a_frame_that_cannot_be_drawn_leaves_no_hole() -> None:
    rig = Rig(cameras=3)
    rig.feeds["cam0"].send(grey(10))
    rig.feeds["cam1"].send(np.zeros((96, 128, 4), np.uint8))  # four channels: resize refuses
    rig.feeds["cam2"].send(grey(30))
    rig.batcher.step(rig.gate)
    (batch,) = rig.gate.batches
    assert [item.info.camera for item in batch.items] == ["cam0", "cam2"]
    assert [row.max() for row in rig.gate.pixels[0]] == [10, 30]
    assert rig.feeds["cam1"].dropped == {DropCause.ABORTED: 1}


def test_a_batch_of_undrawable_frames_only_gives_its_slot_back() -> None:
    rig = Rig(cameras=1, slots=1)
    for _ in range(3):
        rig.feeds["cam0"].send(np.zeros((96, 128, 4), np.uint8))
        rig.batcher.step(rig.gate)
    rig.feeds["cam0"].send(grey(9))
    rig.batcher.step(rig.gate)
    assert len(rig.gate.batches) == 1
    assert rig.feeds["cam0"].dropped == {DropCause.ABORTED: 3}


def test_without_a_free_slot_frames_wait_in_their_mailboxes() -> None:
    rig = Rig(cameras=1, slots=1)
    taken = rig.ring.acquire()
    assert taken is not None
    rig.feeds["cam0"].send(grey(1))
    assert rig.batcher.step(rig.gate) is None
    assert rig.feeds["cam0"].peek() is not None
    rig.ring.release(taken)
    rig.batcher.step(rig.gate)
    assert len(rig.gate.batches) == 1


def test_the_deadline_alone_sends_a_partial_batch() -> None:
    rig = Rig(cameras=2, max_wait_ms=20)
    rig.batcher.start(rig.gate, rig.on_failure)
    rig.feeds["cam0"].send(grey(1))
    assert rig.gate.arrived.wait(10)
    assert rig.batcher.stop(10)
    (batch,) = rig.gate.batches
    assert batch.closed_ns - batch.opened_ns >= 20_000_000
    assert rig.failures == []


def test_stop_sends_off_what_is_bound_and_counts_what_still_waits() -> None:
    rig = Rig(cameras=1, max_wait_ms=1000, slots=1)
    rig.gate.busy = True
    rig.batcher.start(rig.gate, rig.on_failure)
    rig.feeds["cam0"].send(grey(1))
    assert rig.batcher.stop(10)
    feed = rig.feeds["cam0"]
    inferred = sum(len(batch.items) for batch in rig.gate.batches)
    assert inferred + sum(feed.dropped.values()) == feed.sent == 1


@settings(max_examples=40, deadline=None)
@given(
    actions=st.lists(
        st.tuples(st.sampled_from(["send", "step", "busy", "free"]), st.integers(0, 4)),
        max_size=60,
    )
)
def test_every_frame_is_inferred_once_or_counted_and_order_is_kept(
    actions: list[tuple[str, int]],
) -> None:
    rig = Rig(cameras=5, target=3)
    for action, camera in actions:
        if action == "send":
            rig.feeds[f"cam{camera}"].send(grey(camera))
        elif action == "step":
            rig.batcher.step(rig.gate)
        else:
            rig.gate.busy = action == "busy"
    rig.gate.busy = False
    rig.batcher.start(rig.gate, rig.on_failure)
    assert rig.batcher.stop(10)
    inferred: Dict[str, List[int]] = {name: [] for name in rig.feeds}
    for batch in rig.gate.batches:
        assert 1 <= len(batch.items) <= 3
        for item in batch.items:
            inferred[item.info.camera].append(item.info.frame_id)
    for name, feed in rig.feeds.items():
        assert inferred[name] == sorted(set(inferred[name]))
        assert len(inferred[name]) + sum(feed.dropped.values()) == feed.sent
    assert repr(rig.ring) == "<SlotRing 2 of 2 slots free>"
    assert rig.failures == []


def test_a_failing_sink_is_reported_not_swallowed() -> None:
    rig = Rig(cameras=1)

    class Broken(Gate):
        def submit(self, batch: Batch) -> None:
            raise RuntimeError("sink is gone")

    failed = threading.Event()

    def on_failure(name: str, error: BaseException) -> None:
        rig.on_failure(name, error)
        failed.set()

    rig.batcher.start(Broken(rig.ring), on_failure)
    rig.feeds["cam0"].send(grey(1))
    assert failed.wait(10)
    assert "sink is gone" in str(rig.failures[0])


@pytest.mark.parametrize("size_wh", [(64, 48), (640, 480), (33, 201), (1920, 16)])
def test_sources_of_any_shape_fit_into_the_row(size_wh: tuple[int, int]) -> None:
    rig = Rig(cameras=1)
    rig.feeds["cam0"].send(grey(200, size_wh))
    rig.batcher.step(rig.gate)
    (batch,) = rig.gate.batches
    assert batch.items[0].letterbox.source_wh == size_wh
    assert set(np.unique(rig.gate.pixels[0])) <= {114, 200}
