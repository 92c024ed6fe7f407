from __future__ import annotations

import threading
from typing import List

import pytest

from edge.capture.status import StatusTracker
from edge.clock import ManualClock
from edge.config.schema import CameraConfig
from edge.records import CameraState, CameraStatus, PictureState


def camera(**changes: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": "gate", "uri": "x.mp4", "stall_s": 2.0, **changes})


def test_each_change_is_told_once_with_its_time() -> None:
    told: List[CameraStatus] = []
    clock = ManualClock(unix_ms=1000)
    tracker = StatusTracker(camera(), clock, told.append)
    tracker.announce()
    clock.advance_ms(5)
    tracker.change(CameraState.OFFLINE, "no answer")
    clock.advance_ms(5)
    tracker.change(CameraState.OFFLINE, "no answer")
    tracker.change(CameraState.OFFLINE, "wrong password")
    tracker.change(CameraState.ONLINE)
    assert told == [
        CameraStatus("gate", CameraState.STARTING, 1000),
        CameraStatus("gate", CameraState.OFFLINE, 1005, "no answer"),
        CameraStatus("gate", CameraState.OFFLINE, 1005, "wrong password"),
        CameraStatus("gate", CameraState.ONLINE, 1010),
    ]
    assert tracker.status == told[-1]


def test_a_disabled_camera_says_so() -> None:
    told: List[CameraStatus] = []
    StatusTracker(camera(enabled=False), ManualClock(), told.append).announce()
    assert [status.state for status in told] == [CameraState.DISABLED]


@pytest.mark.parametrize(
    ("before", "is_stalled", "expected"),
    [
        pytest.param(CameraState.ONLINE, False, CameraState.ONLINE, id="not stalled"),
        pytest.param(CameraState.ONLINE, True, CameraState.STALLED, id="stalled"),
        pytest.param(CameraState.STARTING, True, CameraState.STALLED, id="never came"),
        pytest.param(CameraState.OFFLINE, True, CameraState.OFFLINE, id="a retry that hangs"),
    ],
)
def test_a_stall(before: CameraState, is_stalled: bool, expected: CameraState) -> None:
    tracker = StatusTracker(camera(), ManualClock(), lambda status: None)
    tracker.change(before)
    tracker.stall_if(lambda: is_stalled)
    assert tracker.status.state is expected
    assert (tracker.status.reason == "no frame for 2 s") is (expected is CameraState.STALLED)


def test_a_stall_is_told_once() -> None:
    told: List[CameraState] = []
    tracker = StatusTracker(camera(), ManualClock(), lambda status: told.append(status.state))
    tracker.stall_if(lambda: True)
    tracker.stall_if(lambda: True)
    assert told == [CameraState.STALLED]


def test_what_the_picture_shows_is_told_while_online_and_keeps_the_time() -> None:
    told: List[CameraStatus] = []
    clock = ManualClock(unix_ms=1000)
    tracker = StatusTracker(camera(), clock, told.append)
    for picture in (PictureState.OK, PictureState.OK, PictureState.FROZEN, PictureState.OK):
        tracker.online(picture)
        clock.advance_ms(10)
    tracker.change(CameraState.OFFLINE, "gone")
    assert [(status.state, status.picture) for status in told] == [
        (CameraState.ONLINE, PictureState.OK),
        (CameraState.ONLINE, PictureState.FROZEN),
        (CameraState.ONLINE, PictureState.OK),
        (CameraState.OFFLINE, None),
    ]
    assert [bool(status.reason) for status in told] == [False, True, False, True]
    assert [status.since_unix_ms for status in told] == [1000, 1000, 1000, 1040]


@pytest.mark.parametrize("picture", list(PictureState))
def test_every_picture_has_its_words(picture: PictureState) -> None:
    tracker = StatusTracker(camera(), ManualClock(), lambda status: None)
    tracker.online(picture)
    assert bool(tracker.status.reason) is (picture is not PictureState.OK)


def test_a_change_made_while_telling_comes_after() -> None:
    told: List[CameraState] = []

    def on_status(status: CameraStatus) -> None:
        if status.state is CameraState.OFFLINE:
            tracker.change(CameraState.ONLINE)
        told.append(status.state)

    tracker = StatusTracker(camera(), ManualClock(), on_status)
    tracker.change(CameraState.OFFLINE, "gone")
    assert told == [CameraState.OFFLINE, CameraState.ONLINE]


def test_an_observer_that_fails_does_not_silence_the_next_change() -> None:
    told: List[CameraState] = []

    def on_status(status: CameraStatus) -> None:
        if status.state is CameraState.OFFLINE:
            raise RuntimeError("observer")
        told.append(status.state)

    tracker = StatusTracker(camera(), ManualClock(), on_status)
    with pytest.raises(RuntimeError, match="observer"):
        tracker.change(CameraState.OFFLINE, "gone")
    tracker.change(CameraState.ONLINE)
    assert told == [CameraState.ONLINE]


def test_changes_from_many_threads_are_told_in_order_and_one_at_a_time() -> None:
    told: List[CameraStatus] = []
    telling = threading.Lock()

    def on_status(status: CameraStatus) -> None:
        assert telling.acquire(blocking=False)
        told.append(status)
        telling.release()

    tracker = StatusTracker(camera(), ManualClock(), on_status)

    def flap(name: str) -> None:
        for number in range(500):
            tracker.change(CameraState.OFFLINE, f"{name} {number}")

    threads = [threading.Thread(target=flap, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(told) == 1500
    assert tracker.status == told[-1]
    for name in "abc":
        own = [status.reason for status in told if status.reason.startswith(name)]
        assert own == [f"{name} {number}" for number in range(500)]
