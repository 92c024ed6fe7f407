from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Callable, Dict, List, Optional

import pytest

from edge.backoff import Backoff
from edge.capture.recovery import Recovery, advice_for, wait_for_plug
from edge.config.schema import CameraConfig

S = 1_000_000_000
LONGEST_S = 30.0


class NoJitter(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return b


def recovery(advice: str = "") -> Recovery:
    return Recovery(Backoff(NoJitter()), advice)


def camera(uri: str) -> CameraConfig:
    return CameraConfig.model_validate({"name": "gate", "uri": uri})


def test_a_camera_that_is_away_is_tried_ever_more_rarely() -> None:
    lost = recovery()
    assert [lost.lost() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(
    ("delivered_s", "next_s"),
    [
        pytest.param([], 8.0, id="nothing"),
        pytest.param([0.0], 8.0, id="one frame, then it dies"),
        pytest.param([0.0, 9.9], 8.0, id="not long enough"),
        pytest.param([0.0, 10.0], 1.0, id="it has proved itself"),
        pytest.param([0.0, 10.0, 3600.0], 1.0, id="an hour"),
    ],
)
def test_delays_start_over_once_a_stream_has_proved_itself(
    delivered_s: List[float], next_s: float
) -> None:
    lost = recovery()
    for _ in range(3):
        lost.lost()
    for time_s in delivered_s:
        lost.delivered(int((100 + time_s) * S))
    assert lost.lost() == next_s


def test_a_camera_that_dies_after_each_frame_is_not_hammered() -> None:
    lost = recovery()
    now_s, attempts = 0.0, 0
    while now_s < 3600:
        lost.delivered(int(now_s * S))
        now_s += 0.1 + lost.lost()
        attempts += 1
    assert attempts <= 3600 / LONGEST_S + 6


def test_short_lives_do_not_add_up_to_proof() -> None:
    lost = recovery()
    for start_s in (0, 100, 200):
        lost.delivered(start_s * S)
        lost.delivered((start_s + 6) * S)
        lost.lost()
    assert lost.lost() == 8.0


def test_advice_comes_after_three_failures_and_goes_with_the_proof() -> None:
    lost = recovery("; do this")
    told = []
    for _ in range(4):
        lost.lost()
        told.append(lost.explain("gone"))
    assert told == ["gone", "gone", "gone; do this", "gone; do this"]
    lost.delivered(0)
    assert lost.explain("gone") == "gone; do this"
    lost.delivered(10 * S)
    assert lost.explain("gone") == "gone"


def test_a_plug_starts_over() -> None:
    lost = recovery("; do this")
    for _ in range(5):
        lost.lost()
    lost.start_over()
    assert lost.lost() == 1.0
    assert lost.explain("gone") == "gone"


@pytest.mark.parametrize(
    ("uri", "has_advice"),
    [
        pytest.param("csi://0", True, id="csi"),
        pytest.param("gstreamer: nvarguscamerasrc ! nvvidconv", True, id="raw Argus pipeline"),
        pytest.param("gstreamer: videotestsrc", False, id="raw pipeline"),
        pytest.param("rtsp://gate/s", False, id="network"),
        pytest.param("/dev/video0", False, id="usb"),
    ],
)
def test_only_argus_can_be_restarted(uri: str, has_advice: bool) -> None:
    assert ("nvargus-daemon" in advice_for(camera(uri))) is has_advice


class Waiting(threading.Event):
    """Notes how long it was asked to wait, and lets something happen instead."""

    def __init__(self, meanwhile: Callable[[int], None]) -> None:
        super().__init__()
        self.waits: List[float] = []
        self._meanwhile = meanwhile

    def wait(self, timeout: Optional[float] = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self._meanwhile(len(self.waits))
        return self.is_set()


def test_a_device_that_appears_ends_the_wait(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    stop = Waiting(lambda count: device.touch() if count == 3 else None)
    assert wait_for_plug(stop, 30.0, device)
    assert stop.waits == [0.5, 0.5, 0.5]


def test_a_device_that_stays_away_is_waited_for_no_longer_than_told(tmp_path: Path) -> None:
    stop = Waiting(lambda count: None)
    assert not wait_for_plug(stop, 1.7, tmp_path / "video0")
    assert sum(stop.waits) == pytest.approx(1.7)


def test_a_device_that_is_there_is_left_alone_for_the_whole_delay(tmp_path: Path) -> None:
    stop = Waiting(lambda count: None)
    assert not wait_for_plug(stop, 8.0, tmp_path)
    assert sum(stop.waits) == pytest.approx(8.0)


def test_a_device_that_is_plugged_out_and_in_ends_the_wait(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch()
    changes: Dict[int, Callable[[], object]] = {2: device.unlink, 4: device.touch}

    def replug(count: int) -> None:
        if count in changes:
            changes[count]()

    stop = Waiting(replug)
    assert wait_for_plug(stop, 30.0, device)
    assert stop.waits == [0.5] * 4


def test_stop_ends_the_wait_for_a_plug(tmp_path: Path) -> None:
    stop = Waiting(lambda count: stop.set())
    assert not wait_for_plug(stop, 30.0, tmp_path / "video0")
    assert stop.waits == [0.5]


def test_a_camera_without_a_device_waits_once() -> None:
    stop = Waiting(lambda count: None)
    assert not wait_for_plug(stop, 8.0, None)
    assert stop.waits == [8.0]
