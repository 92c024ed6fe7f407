from __future__ import annotations

from typing import Dict, List, Optional

import numpy as np
import pytest

from edge.capture.intake import Intake, capture_time
from edge.capture.mailbox import Mailbox
from edge.capture.source import Picture
from edge.capture.status import StatusTracker
from edge.clock import ManualClock
from edge.config.schema import CameraConfig
from edge.records import CameraState, CameraStatus, DropCause, PictureState, TimestampSource

S = 1_000_000_000
IMAGE = np.zeros((4, 6, 3), np.uint8)
GREY = np.random.default_rng(1).integers(30, 200, (144, 256, 3), np.uint8)


class Camera:
    """An intake on a clock of its own, with all it tells written down."""

    def __init__(self, uri: str = "rtsp://gate/s", **config: object) -> None:
        self.clock = ManualClock(monotonic_ns=100 * S)
        self.told: List[CameraStatus] = []
        settings = CameraConfig.model_validate({"name": "gate", "uri": uri, **config})
        self.mailbox = Mailbox("gate", lambda: None)
        tracker = StatusTracker(settings, self.clock, self.told.append)
        self.intake = Intake(settings, self.mailbox, self.clock, tracker)
        self._shown = 0
        self.intake.begin()

    def take(self, seconds: float, *, fps: float = 5, is_noisy: bool = False) -> None:
        for _ in range(round(seconds * fps)):
            self.clock.advance_ms(1000 / fps)
            self._shown += is_noisy
            image = GREY.copy()
            image[:, :, 0] ^= self._shown % 251
            self.intake.take(Picture(image))


@pytest.mark.parametrize(
    ("captured_ns", "expected_ns", "ts_source"),
    [
        pytest.param(None, 100 * S, TimestampSource.RECEIVE, id="the camera does not know"),
        pytest.param(99 * S, 99 * S, TimestampSource.V4L2, id="a second ago"),
        pytest.param(100 * S, 100 * S, TimestampSource.V4L2, id="just now"),
        pytest.param(100 * S + 1, 100 * S, TimestampSource.RECEIVE, id="in the future"),
        pytest.param(90 * S, 90 * S, TimestampSource.V4L2, id="10 s ago"),
        pytest.param(90 * S - 1, 100 * S, TimestampSource.RECEIVE, id="more than 10 s ago"),
        pytest.param(0, 100 * S, TimestampSource.RECEIVE, id="zero"),
    ],
)
def test_whose_time_counts(
    captured_ns: Optional[int], expected_ns: int, ts_source: TimestampSource
) -> None:
    picture = Picture(IMAGE, captured_ns=captured_ns, ts_source=TimestampSource.V4L2)
    assert capture_time(picture, 100 * S) == (expected_ns, ts_source)


def test_a_live_camera_that_freezes_is_told() -> None:
    camera = Camera()
    camera.take(10, is_noisy=True)
    camera.take(5)
    camera.take(1, is_noisy=True)
    assert [(status.state, status.picture) for status in camera.told] == [
        (CameraState.ONLINE, PictureState.OK),
        (CameraState.ONLINE, PictureState.FROZEN),
        (CameraState.ONLINE, PictureState.OK),
    ]
    assert "frozen" in camera.told[1].reason
    # All frames go on: whoever reads them is told what they are worth.
    assert camera.mailbox.received == 16 * 5


@pytest.mark.parametrize("uri", ["clip.mp4", "folder", "synthetic://7"])
def test_a_recording_may_stand_still(uri: str) -> None:
    camera = Camera(uri)
    camera.take(60)
    assert [status.picture for status in camera.told] == [PictureState.OK]


def test_a_camera_that_was_lost_shows_nothing_and_says_why() -> None:
    camera = Camera()
    camera.take(1)
    assert 0.5 <= camera.intake.lost("cable pulled") <= 1.0
    lost = camera.told[-1]
    assert (lost.state, lost.reason, lost.picture) == (CameraState.OFFLINE, "cable pulled", None)


def test_a_csi_camera_that_stays_away_comes_with_advice() -> None:
    camera = Camera("csi://0")
    for _ in range(3):
        camera.intake.lost("no frame from csi://0")
    reasons = [status.reason for status in camera.told]
    assert reasons[0] == "no frame from csi://0"
    assert "sudo systemctl restart nvargus-daemon" in reasons[-1]


def test_ids_count_on_across_sources_and_a_return_is_counted_once() -> None:
    camera = Camera()
    ids = []
    for _ in range(3):
        for _ in range(4):
            camera.take(0.2)
            frame = camera.mailbox.take()
            assert frame is not None
            ids.append(frame.info.frame_id)
        camera.intake.lost("gone")
        camera.intake.begin()
    assert ids == list(range(12))
    assert (camera.intake.frames_read, camera.intake.reconnects) == (12, 2)


def test_the_cap_counts_what_it_holds_back() -> None:
    camera = Camera(fps=5)
    camera.take(10, fps=20, is_noisy=True)
    assert camera.intake.frames_read == 200
    held_back = camera.mailbox.dropped[DropCause.RATE_CAP]
    assert camera.mailbox.received == 200 - held_back == pytest.approx(50, abs=2)


@pytest.mark.parametrize(
    ("keys", "pictures"),
    [
        pytest.param({}, [PictureState.OK, PictureState.FROZEN], id="watched"),
        pytest.param({"picture_watch": False}, [None], id="not watched"),
    ],
)
def test_a_screen_that_rightly_stands_still_need_not_be_watched(
    keys: Dict[str, bool], pictures: List[Optional[PictureState]]
) -> None:
    camera = Camera("gstreamer:ximagesrc", **keys)
    camera.take(310)
    assert [status.picture for status in camera.told] == pictures
    assert {status.state for status in camera.told} == {CameraState.ONLINE}
