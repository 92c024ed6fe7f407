"""Cameras whose driver does not come back."""

from __future__ import annotations

import queue
import random
import re
import threading
import tracemalloc
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np
import pytest

from edge.backoff import Backoff
from edge.capture.mailbox import Mailbox
from edge.capture.reader import Reader
from edge.capture.source import Picture, Source
from edge.capture.watchdog import MAX_HANGING, Watchdog
from edge.clock import ManualClock
from edge.config.schema import CameraConfig
from edge.errors import EXIT_SOFTWARE, CaptureError
from edge.records import CameraState, CameraStatus, Frame
from tests.capture.hanging_source import GENEROUS_S, FedSource, HangingSource, picture

STARTING, ONLINE = CameraState.STARTING, CameraState.ONLINE
STALLED, OFFLINE = CameraState.STALLED, CameraState.OFFLINE


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.capture.intake.Backoff", lambda rng: Backoff(rng, 0.001, 0.002))


class Camera:
    """A reader on a clock of its own, with all it tells and delivers written down."""

    def __init__(
        self,
        sources: Sequence[Source],
        name: str = "gate",
        clock: Optional[ManualClock] = None,
    ) -> None:
        self.clock = clock or ManualClock()
        self.statuses: queue.Queue[CameraStatus] = queue.Queue()
        self.frames: queue.Queue[Frame] = queue.Queue()
        self.failures: List[Tuple[str, BaseException]] = []
        self.mailbox = Mailbox(name, self._take)
        self._sources = iter(sources)
        self.reader = Reader(
            CameraConfig.model_validate({"name": name, "uri": "rtsp://gate/s"}),
            lambda: next(self._sources),
            self.mailbox,
            self.clock,
            self.statuses.put,
            lambda thread, error: self.failures.append((thread, error)),
        )

    def _take(self) -> None:
        frame = self.mailbox.take()
        assert frame is not None
        self.frames.put(frame)

    def next_frame(self) -> Frame:
        return self.frames.get(timeout=GENEROUS_S)

    def expect(self, *states: CameraState) -> CameraStatus:
        told = [self.statuses.get(timeout=GENEROUS_S) for _ in states]
        assert [status.state for status in told] == list(states)
        return told[-1]

    def pass_s(self, seconds: float) -> None:
        self.clock.advance_ms(1000 * seconds)
        self.reader.check_stall(self.clock.monotonic_ns())

    def has_all_back(self) -> bool:
        return self.reader.hanging == 0

    def stop(self, last: FedSource) -> None:
        self.reader.stop()
        last.feed.put(None)
        assert self.reader.join(GENEROUS_S)
        assert self.failures == []


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(GENEROUS_S / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it never happened")


def capture_threads() -> int:
    return sum(thread.name.startswith("capture-") for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("hangs_in", "pictures", "before", "words"),
    [
        pytest.param("open", 0, [STARTING], "opening it hung for 23 s", id="open"),
        pytest.param("read", 0, [STARTING], "reading it hung for 23 s", id="first read"),
        pytest.param("read", 3, [STARTING, ONLINE], "reading it hung for 23 s", id="a later read"),
        pytest.param(
            "close", 1, [STARTING, ONLINE, OFFLINE], "closing it hung for 23 s", id="close"
        ),
    ],
)
def test_a_call_that_never_returns_costs_a_thread_not_the_camera(
    hangs_in: str, pictures: int, before: List[CameraState], words: str
) -> None:
    stuck, fresh = HangingSource(hangs_in, pictures), FedSource()
    camera = Camera([stuck, fresh])
    camera.reader.start()
    assert stuck.hung.wait(GENEROUS_S)
    camera.expect(*before)
    camera.pass_s(3)
    if OFFLINE not in before:
        camera.expect(STALLED)
    camera.pass_s(19.9)
    assert camera.reader.abandoned == 0
    camera.pass_s(0.1)
    assert camera.expect(OFFLINE).reason == words
    assert (camera.reader.abandoned, camera.reader.hanging) == (1, 1)

    fresh.feed.put(picture(7))
    camera.expect(ONLINE)
    ids = [camera.next_frame().info.frame_id for _ in range(pictures + 1)]
    assert ids == list(range(pictures + 1))
    assert camera.reader.reconnects == (1 if pictures else 0)

    stuck.gate.set()
    assert stuck.closed.wait(GENEROUS_S)
    wait_until(camera.has_all_back)
    assert stuck.closed_by is stuck.threads[0]
    camera.stop(fresh)
    assert camera.reader.abandoned == 1
    assert camera.reader.frames_read == pictures + 1


@pytest.mark.parametrize(
    "late", [None, CaptureError("the stream broke off")], ids=["a late picture", "a late failure"]
)
def test_what_comes_late_is_nobodys(late: Optional[CaptureError]) -> None:
    stuck, fresh = HangingSource("read", 2, late), FedSource()
    camera = Camera([stuck, fresh])
    camera.reader.start()
    assert stuck.hung.wait(GENEROUS_S)
    camera.pass_s(23)
    fresh.feed.put(picture(7))
    camera.expect(STARTING, ONLINE, OFFLINE, ONLINE)
    stuck.gate.set()
    wait_until(camera.has_all_back)
    fresh.feed.put(picture(8))
    levels = [int(camera.next_frame().image[0, 0, 0]) for _ in range(4)]
    assert levels == [1, 1, 7, 8]
    camera.stop(fresh)
    assert camera.statuses.get(timeout=GENEROUS_S).state is CameraState.ENDED
    assert camera.statuses.empty()
    assert (camera.reader.frames_read, camera.mailbox.received) == (4, 4)
    assert camera.mailbox.dropped == {}


def test_a_call_that_returns_in_time_is_not_given_up() -> None:
    slow = HangingSource("read", 1)
    camera = Camera([slow])
    camera.reader.start()
    assert slow.hung.wait(GENEROUS_S)
    camera.pass_s(22.9)
    camera.expect(STARTING, ONLINE, STALLED)
    slow.gate.set()
    camera.expect(ONLINE)
    camera.reader.stop()
    assert camera.reader.join(GENEROUS_S)
    assert (camera.reader.abandoned, camera.reader.hanging) == (0, 0)


def test_nothing_is_given_up_after_stop() -> None:
    stuck = HangingSource("read", 1)
    camera = Camera([stuck])
    camera.reader.start()
    assert stuck.hung.wait(GENEROUS_S)
    camera.reader.stop()
    camera.pass_s(3600)
    assert camera.reader.abandoned == 0
    assert not camera.reader.join(0.01)
    stuck.gate.set()
    assert camera.reader.join(GENEROUS_S)


class Finished(HangingSource):
    """A recording that is over, and whose file system hangs when it is closed."""

    def read(self) -> Optional[Picture]:  # type: ignore[override]
        if self._left:
            self._left -= 1
            return picture(1)
        return None


def test_a_recording_that_is_over_is_not_played_again_where_closing_it_hangs() -> None:
    stuck = Finished("close", 2)
    camera = Camera([stuck])  # there is no other source to open
    camera.reader.start()
    assert stuck.hung.wait(GENEROUS_S)
    camera.expect(STARTING, ONLINE, CameraState.ENDED)
    camera.pass_s(23)
    assert (camera.reader.abandoned, camera.reader.hanging) == (1, 1)
    camera.pass_s(3600)
    assert camera.reader.abandoned == 1
    assert camera.reader.status.state is CameraState.ENDED
    stuck.gate.set()
    wait_until(camera.has_all_back)
    camera.reader.stop()
    assert camera.reader.join(GENEROUS_S)
    assert camera.statuses.empty()
    assert camera.failures == []


def test_a_defect_in_a_thread_that_was_given_up_is_still_told() -> None:
    class Defective(HangingSource):
        def close(self) -> None:
            super().close()
            raise ZeroDivisionError

    stuck, fresh = Defective("read", 1), FedSource()
    camera = Camera([stuck, fresh])
    camera.reader.start()
    assert stuck.hung.wait(GENEROUS_S)
    camera.pass_s(23)
    stuck.gate.set()
    wait_until(lambda: bool(camera.failures))
    assert camera.failures[0][0] == "capture-gate"
    camera.failures.clear()
    camera.stop(fresh)


class Absent:
    """A camera that is not there."""

    def open(self) -> None:
        raise CaptureError("no answer")

    def read(self) -> Optional[Picture]:
        return None

    def close(self) -> None:
        pass


def watched(hangs: Sequence[int]) -> Tuple[Watchdog, List[Camera], List[HangingSource], List[str]]:
    """Cameras of which each hangs so many times, one after the other, then stays away."""
    told: List[str] = []
    stuck: List[HangingSource] = []
    cameras = []
    clock = ManualClock()
    for number, count in enumerate(hangs):
        sources = [HangingSource("read") for _ in range(count)]
        stuck += sources
        cameras.append(Camera([*sources, Absent()], f"cam{number}", clock))

    def fail(name: str, error: BaseException) -> None:
        assert isinstance(error, CaptureError)
        assert error.exit_code == EXIT_SOFTWARE
        told.append(f"{name}: {error}")

    return Watchdog([camera.reader for camera in cameras], fail), cameras, stuck, told


@pytest.mark.parametrize(
    ("hangs", "is_told"),
    [
        pytest.param([MAX_HANGING - 1], False, id="one camera, one below the bound"),
        pytest.param([MAX_HANGING], True, id="one camera at the bound"),
        pytest.param([3, MAX_HANGING - 4], False, id="two cameras, one below"),
        pytest.param([3, MAX_HANGING - 3], True, id="two cameras at the bound"),
    ],
)
def test_too_many_threads_that_hang_end_the_daemon(hangs: List[int], is_told: bool) -> None:
    watchdog, cameras, stuck, told = watched(hangs)
    left = iter(stuck)
    for camera, count in zip(cameras, hangs):
        camera.reader.start()
        for _ in range(count):
            assert next(left).hung.wait(GENEROUS_S)
            for _ in range(24):
                watchdog.check(camera.clock.monotonic_ns())
                camera.clock.advance_ms(1_000)
    assert bool(told) is is_told
    if is_told:
        assert told[0].startswith(f"capture: {MAX_HANGING} threads hang in the drivers of cameras")
        assert re.search(rf"cam0 {hangs[0]}\b", told[0])
    told.clear()
    for source in stuck:
        source.gate.set()
    for camera in cameras:
        wait_until(camera.has_all_back)
    watchdog.check(cameras[0].clock.monotonic_ns())
    assert told == []
    for camera in cameras:
        camera.reader.stop()
        assert camera.reader.join(GENEROUS_S)


@pytest.mark.parametrize(
    ("step_s", "is_given_up"),
    [
        pytest.param(0.25, True, id="checked as usual"),
        pytest.param(2.0, True, id="checked rarely"),
        pytest.param(60.0, False, id="the process was stopped meanwhile"),
    ],
)
def test_a_process_that_stood_still_blames_no_camera(step_s: float, is_given_up: bool) -> None:
    watchdog, (camera,), (stuck,), told = watched([1])
    camera.reader.start()
    assert stuck.hung.wait(GENEROUS_S)
    for _ in range(round(60 / step_s) + 1):
        watchdog.check(camera.clock.monotonic_ns())
        camera.clock.advance_ms(1000 * step_s)
    assert camera.reader.abandoned == is_given_up
    stuck.gate.set()
    wait_until(camera.has_all_back)
    camera.reader.stop()
    assert camera.reader.join(GENEROUS_S)
    assert told == []


class Flapping:
    """Delivers three pictures of a megabyte, then fails; after so many lives it waits at a gate."""

    def __init__(self, lives: int) -> None:
        self.lives = lives
        self.gates = {life: threading.Event() for life in (lives // 2, 0)}
        self._left = 0

    def open(self) -> None:
        self._left = 3

    def read(self) -> Optional[Picture]:
        if self._left == 0:
            self.lives -= 1
            if self.lives in self.gates:
                assert self.gates[self.lives].wait(GENEROUS_S)
            raise CaptureError("flapping")
        self._left -= 1
        return Picture(np.zeros((360, 960, 3), np.uint8))

    def close(self) -> None:
        pass


def test_fifty_reconnects_leave_no_thread_and_no_memory() -> None:
    source = Flapping(lives=100)
    camera = Camera([source])
    ids: List[int] = []
    mailbox = Mailbox("gate", lambda: ids.append(mailbox.take().info.frame_id))  # type: ignore[union-attr]
    reader = Reader(
        CameraConfig.model_validate({"name": "gate", "uri": "rtsp://gate/s"}),
        lambda: source,
        mailbox,
        camera.clock,
        lambda status: None,
        lambda thread, error: camera.failures.append((thread, error)),
    )
    tracemalloc.start()
    try:
        reader.start()
        wait_until(lambda: source.lives == 50)
        early, _ = tracemalloc.get_traced_memory()
        assert capture_threads() == 1
        source.gates[50].set()
        wait_until(lambda: source.lives == 0)
        late, _ = tracemalloc.get_traced_memory()
        assert capture_threads() == 1
    finally:
        tracemalloc.stop()
    assert late - early < 1 << 18  # a quarter of one picture
    reader.stop()
    source.gates[0].set()
    assert reader.join(GENEROUS_S)
    assert ids == list(range(300))
    assert reader.reconnects == 99
    assert camera.failures == []


def test_fifty_threads_that_hang_and_come_back_are_all_gone() -> None:
    stuck = [HangingSource("read", pictures=1) for _ in range(50)]
    last = FedSource()
    camera = Camera([*stuck, last])
    camera.reader.start()
    for source in stuck:
        assert source.hung.wait(GENEROUS_S)
        camera.pass_s(23)
        source.gate.set()
        wait_until(camera.has_all_back)
        assert capture_threads() <= 1
    last.feed.put(picture(7))
    wait_until(lambda: camera.reader.frames_read == 51)
    assert (camera.reader.abandoned, camera.reader.reconnects) == (50, 50)
    camera.stop(last)
    assert capture_threads() == 0


def test_delays_are_random_so_that_cameras_do_not_come_back_together() -> None:
    delays = {Backoff(random.Random(seed)).next_s() for seed in range(20)}
    assert len(delays) == 20
