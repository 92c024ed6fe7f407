from __future__ import annotations

import threading
from typing import List, Optional

import pytest

from edge.capture.status import StatusTracker, is_stalled
from edge.clock import ManualClock
from edge.config.schema import CameraConfig
from edge.records import CameraState, CameraStatus

S = 1_000_000_000


def camera(**changes: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": "gate", "uri": "x.mp4", "stall_s": 2.0, **changes})


@pytest.mark.parametrize(
    ("waiting_since_ns", "now_ns", "stalled"),
    [
        pytest.param(None, 100 * S, False, id="not waiting"),
        pytest.param(5 * S, 7 * S - 1, False, id="just below"),
        pytest.param(5 * S, 7 * S, True, id="reached"),
    ],
)
def test_when_a_wait_is_a_stall(
    waiting_since_ns: Optional[int], now_ns: int, stalled: bool
) -> None:
    assert is_stalled(waiting_since_ns, now_ns, 2.0) is stalled


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


def test_only_a_wait_can_stall() -> None:
    told: List[CameraState] = []
    clock = ManualClock()
    tracker = StatusTracker(camera(), clock, lambda status: told.append(status.state))
    clock.advance_ms(10_000)
    tracker.check_stall(clock.monotonic_ns())
    assert told == []
    with tracker.waiting():
        clock.advance_ms(1999)
        tracker.check_stall(clock.monotonic_ns())
        assert told == []
        clock.advance_ms(1)
        tracker.check_stall(clock.monotonic_ns())
        tracker.check_stall(clock.monotonic_ns())
        assert told == [CameraState.STALLED]
        assert tracker.status.reason == "no frame for 2 s"
    tracker.change(CameraState.ONLINE)
    tracker.check_stall(clock.monotonic_ns() + 100 * S)
    assert told == [CameraState.STALLED, CameraState.ONLINE]


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
