from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Callable, List, Optional, Tuple, Union

import numpy as np
import pytest

from edge.capture.folder import FolderSource
from edge.capture.mailbox import Mailbox
from edge.capture.reader import Reader
from edge.capture.source import Picture, Source
from edge.capture.video import RtspStream, VideoFile
from edge.clock import Clock, ManualClock, SystemClock
from edge.config.camera import Transport
from edge.config.schema import CameraConfig
from edge.errors import CaptureError
from edge.records import CameraState, CameraStatus, DropCause, Frame, TimestampSource
from tests.capture.conftest import Media
from tests.capture.rtsp_camera import RtspCamera

S = 1_000_000_000
GENEROUS_S = 60.0
IMAGE = np.zeros((4, 6, 3), np.uint8)
LIVE = Picture(IMAGE)

Step = Union[Picture, CaptureError, None]


class ScriptedSource:
    """Delivers what the script says: a picture, a failure, or the end; then it hangs."""

    def __init__(self, *script: Step) -> None:
        self._script: List[Step] = list(script)
        self.opened = 0
        self.is_open = False
        self.unblock = threading.Event()

    def open(self) -> None:
        self.opened += 1
        self.is_open = True

    def read(self) -> Optional[Picture]:
        if not self._script:
            self.unblock.wait(GENEROUS_S)
            return None
        step = self._script.pop(0)
        if isinstance(step, CaptureError):
            raise step
        return step

    def close(self) -> None:
        self.is_open = False


class Camera:
    """A reader, with all it tells and delivers written down."""

    def __init__(self, source: Source, clock: Optional[Clock] = None, **config: object) -> None:
        self.statuses: queue.Queue[CameraStatus] = queue.Queue()
        self.frames: List[Frame] = []
        self.failures: List[Tuple[str, BaseException]] = []
        self.mailbox = Mailbox("gate", self._take)
        self.reader = Reader(
            CameraConfig.model_validate({"name": "gate", "uri": "x", **config}),
            lambda: source,
            self.mailbox,
            clock or SystemClock(),
            self.statuses.put,
            lambda name, error: self.failures.append((name, error)),
        )

    def _take(self) -> None:
        frame = self.mailbox.take()
        assert frame is not None
        self.frames.append(frame)

    def next_state(self) -> CameraState:
        return self.statuses.get(timeout=GENEROUS_S).state

    def expect(self, *states: CameraState) -> None:
        assert [self.next_state() for _ in states] == list(states)

    def stop(self) -> None:
        self.reader.stop()
        assert self.reader.join(GENEROUS_S)
        assert self.statuses.empty()
        assert self.failures == []


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(GENEROUS_S / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it never happened")


def test_a_file_plays_to_its_end(media: Media) -> None:
    camera = Camera(VideoFile(media.clip, loop=False))
    camera.reader.start()
    camera.expect(CameraState.STARTING, CameraState.ONLINE, CameraState.ENDED)
    camera.stop()
    assert [frame.info.frame_id for frame in camera.frames] == list(range(12))
    info = camera.frames[0].info
    assert (info.camera, info.size_wh) == ("gate", (160, 120))
    assert info.ts_source is TimestampSource.RECEIVE
    assert camera.reader.frames_read == 12
    assert camera.reader.reconnects == 0
    assert camera.mailbox.dropped == {}


def test_frames_are_not_released_before_their_time(media: Media) -> None:
    camera = Camera(VideoFile(media.clip, loop=False))
    started_ns = SystemClock().monotonic_ns()
    camera.reader.start()
    camera.expect(CameraState.STARTING, CameraState.ONLINE, CameraState.ENDED)
    camera.stop()
    times_ns = [frame.info.captured_ns for frame in camera.frames]
    assert times_ns == sorted(times_ns)
    # The last is 11 gaps of 0.1 s after the first: never early, however late.
    assert times_ns[-1] - started_ns >= 1.09 * S


def test_a_folder_plays_at_the_configured_pace_and_loses_nothing_to_the_cap(media: Media) -> None:
    folder = media.folder / "pictures"
    camera = Camera(FolderSource(folder, 50.0, loop=True), fps=50.0)
    camera.reader.start()
    wait_until(lambda: len(camera.frames) >= 20)
    camera.expect(CameraState.STARTING, CameraState.ONLINE)
    camera.stop()
    assert camera.mailbox.dropped == {}
    levels = [int(frame.image.mean()) for frame in camera.frames[:6]]
    assert levels == [10, 20, 30, 10, 20, 30]


def test_the_cap_thins_evenly_and_frame_ids_still_name_the_clips_frames(media: Media) -> None:
    camera = Camera(VideoFile(media.clip, loop=False), fps=5.0)
    camera.reader.start()
    camera.expect(CameraState.STARTING, CameraState.ONLINE, CameraState.ENDED)
    camera.stop()
    ids = [frame.info.frame_id for frame in camera.frames]
    assert len(ids) == pytest.approx(6, abs=1)
    assert all(later - earlier in (1, 2, 3) for earlier, later in zip(ids, ids[1:]))
    assert camera.mailbox.dropped == {DropCause.RATE_CAP: 12 - len(ids)}
    assert camera.reader.frames_read == 12


def test_a_camera_that_dies_comes_back() -> None:
    source = ScriptedSource(LIVE, LIVE, CaptureError("cable pulled"), LIVE)
    camera = Camera(source)
    camera.reader.start()
    camera.expect(CameraState.STARTING, CameraState.ONLINE)
    offline = camera.statuses.get(timeout=GENEROUS_S)
    assert (offline.state, offline.reason) == (CameraState.OFFLINE, "cable pulled")
    camera.expect(CameraState.ONLINE)
    assert camera.reader.reconnects == 1
    assert source.opened == 2
    assert [frame.info.frame_id for frame in camera.frames][:2] == [0, 1]
    source.unblock.set()
    camera.expect(CameraState.ENDED)
    camera.stop()
    assert [frame.info.frame_id for frame in camera.frames] == [0, 1, 2]
    assert repr(camera.reader) == "<Reader gate: ended, 3 frames, 1 reconnects>"


def test_a_network_camera_that_restarts_comes_back(media: Media, tmp_path: Path) -> None:
    with RtspCamera(media.clip, tmp_path) as network_camera:
        port = network_camera.port
        address = f"127.0.0.1:{port}"
        url = f"rtsp://u:secret@{address}/s"
        camera = Camera(RtspStream(url, address, Transport.TCP, SystemClock()))
        camera.reader.start()
        camera.expect(CameraState.STARTING, CameraState.ONLINE)
    offline = camera.statuses.get(timeout=GENEROUS_S)
    assert offline.state is CameraState.OFFLINE
    assert address in offline.reason
    assert "secret" not in offline.reason
    with RtspCamera(media.clip, tmp_path, port):
        wait_until(lambda: camera.reader.status.state is CameraState.ONLINE)
        camera.reader.stop()
        assert camera.reader.join(GENEROUS_S)
    assert camera.reader.reconnects == 1
    assert camera.failures == []


def test_a_camera_that_was_never_there_is_no_reconnect() -> None:
    source = ScriptedSource(CaptureError("no answer"), LIVE, None)
    camera = Camera(source)
    camera.reader.start()
    camera.expect(CameraState.STARTING, CameraState.OFFLINE, CameraState.ONLINE, CameraState.ENDED)
    camera.stop()
    assert camera.reader.reconnects == 0
    assert not source.is_open


def test_the_source_is_closed_while_waiting_to_retry() -> None:
    source = ScriptedSource(CaptureError("no answer"))
    camera = Camera(source)
    camera.reader.start()
    camera.expect(CameraState.STARTING, CameraState.OFFLINE)
    assert not source.is_open
    camera.stop()
    assert source.opened == 1


def test_a_silent_camera_is_stalled_until_its_next_frame() -> None:
    source = ScriptedSource(LIVE)
    camera = Camera(source, stall_s=5.0)
    camera.reader.start()
    camera.expect(CameraState.STARTING, CameraState.ONLINE)
    soon_ns, late_ns = SystemClock().monotonic_ns(), SystemClock().monotonic_ns() + 10 * S
    camera.reader.check_stall(soon_ns)
    assert camera.reader.status.state is CameraState.ONLINE

    def is_stalled() -> bool:
        camera.reader.check_stall(late_ns)
        return camera.reader.status.state is CameraState.STALLED

    wait_until(is_stalled)
    camera.expect(CameraState.STALLED)
    source.unblock.set()
    camera.expect(CameraState.ENDED)
    camera.stop()


def test_a_slow_recording_is_not_stalled() -> None:
    source = ScriptedSource(Picture(IMAGE, 0.0), Picture(IMAGE, 3600.0))
    camera = Camera(source)
    camera.reader.start()
    camera.expect(CameraState.STARTING, CameraState.ONLINE)
    camera.reader.stop()
    assert camera.reader.join(GENEROUS_S)
    camera.reader.check_stall(SystemClock().monotonic_ns() + 3600 * S)
    assert camera.reader.status.state is CameraState.ONLINE
    assert camera.reader.frames_read == 1


def test_stop_ends_a_wait_for_a_frames_time() -> None:
    camera = Camera(ScriptedSource(Picture(IMAGE, 0.0), Picture(IMAGE, 3600.0)))
    camera.reader.start()
    camera.expect(CameraState.STARTING, CameraState.ONLINE)
    camera.stop()


def test_join_tells_of_a_source_that_does_not_return() -> None:
    source = ScriptedSource(LIVE)
    camera = Camera(source)
    camera.reader.start()
    camera.expect(CameraState.STARTING, CameraState.ONLINE)
    camera.reader.stop()
    assert not camera.reader.join(0.05)
    source.unblock.set()
    assert camera.reader.join(GENEROUS_S)


def test_a_disabled_camera_is_announced_but_not_opened() -> None:
    source = ScriptedSource(LIVE)
    camera = Camera(source, enabled=False)
    camera.reader.start()
    camera.expect(CameraState.DISABLED)
    camera.stop()
    assert source.opened == 0


def test_a_defect_in_a_source_is_reported_not_retried() -> None:
    class Defective(ScriptedSource):
        def read(self) -> Optional[Picture]:
            raise ZeroDivisionError

    source = Defective()
    camera = Camera(source)
    camera.reader.start()
    assert camera.reader.join(GENEROUS_S)
    assert [(name, type(error)) for name, error in camera.failures] == [
        ("capture-gate", ZeroDivisionError)
    ]
    assert not source.is_open


def test_wall_clock_time_is_of_the_capture() -> None:
    clock = ManualClock(monotonic_ns=5 * S, unix_ms=1_700_000_005_000)
    picture = Picture(IMAGE, captured_ns=4 * S, ts_source=TimestampSource.V4L2)
    camera = Camera(ScriptedSource(picture, None), clock)
    camera.reader.start()
    camera.expect(CameraState.STARTING, CameraState.ONLINE, CameraState.ENDED)
    camera.stop()
    info = camera.frames[0].info
    assert info.captured_ns == 4 * S
    assert info.captured_unix_ms == 1_700_000_004_000
