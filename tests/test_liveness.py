from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Dict, List, Optional, Tuple, cast

import pytest

from edge.clock import NS_PER_MS, NS_PER_S
from edge.errors import EXIT_SOFTWARE, EdgeError, EngineHangs
from edge.inference.lanes import Lanes
from edge.liveness import Liveness
from edge.records import DropCause
from edge.roster import Roster

STALL_S = 2.0
STEP_NS = 250 * NS_PER_MS


class Road:
    """A road that stands still unless told to go on: one mailbox, and what is in the lanes."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.silent_since_ns: Optional[int] = None
        self.frame: Optional[str] = None
        self.dropped: Dict[DropCause, int] = Counter()
        self.failures: List[Tuple[str, BaseException]] = []
        self.now_ns = 100 * NS_PER_S
        self.liveness = Liveness(
            STALL_S,
            cast(Roster, self),
            cast(Lanes, self),
            lambda: "gpu 0",
            lambda name, error: self.failures.append((name, error)),
        )

    @property
    def shared_feeds(self) -> List[SimpleNamespace]:
        return [SimpleNamespace(mailbox=SimpleNamespace(peek=lambda: self.frame))]

    @property
    def reserved(self) -> Dict[SimpleNamespace, None]:
        return {}

    def readings(self) -> Dict[str, object]:
        return {"cam": lambda: SimpleNamespace(dropped=dict(self.dropped))}

    def go_on(self, seconds: float) -> None:
        """Looks every 250 ms, as the main loop does."""
        end_ns = self.now_ns + int(seconds * NS_PER_S)
        while self.now_ns < end_ns:
            self.now_ns += STEP_NS
            self.liveness.look(self.now_ns)


@pytest.mark.parametrize(
    ("seconds", "has_failed"),
    [
        pytest.param(STALL_S, False, id="as long as may be"),
        pytest.param(STALL_S + 0.75, True, id="longer"),
    ],
)
@pytest.mark.parametrize("where", ["in the mailbox", "in the lanes"])
def test_work_that_waits_too_long_ends_the_process(
    where: str, seconds: float, has_failed: bool
) -> None:
    road = Road()
    road.frame = "a frame" if where == "in the mailbox" else None
    road.in_flight = int(where == "in the lanes")
    road.go_on(seconds)
    assert bool(road.failures) is has_failed
    for name, error in road.failures:
        assert name == "frames"
        assert isinstance(error, EdgeError)
        assert error.exit_code == EXIT_SOFTWARE
        assert "frames wait, and none has come out for 2 s (engine.stall_s is 2)" in str(error)


def test_an_engine_that_is_silent_is_named() -> None:
    road = Road()
    road.in_flight, road.silent_since_ns = 1, road.now_ns
    road.go_on(STALL_S + 0.75)
    name, error = road.failures[0]
    assert (name, type(error)) == ("inference", EngineHangs)
    assert str(error).endswith("gpu 0 hangs")


def test_without_work_there_is_nothing_to_wait_for() -> None:
    """No camera delivers, or all are switched off."""
    road = Road()
    road.go_on(100 * STALL_S)
    assert road.failures == []


def test_results_are_progress() -> None:
    road = Road()
    road.frame, road.in_flight = "a frame", 2
    for _ in range(20):
        road.go_on(STALL_S / 2)
        road.liveness.frame_told()
    assert road.failures == []


@pytest.mark.parametrize(
    ("cause", "is_progress"),
    [
        pytest.param(DropCause.STALE, True, id="looked at, and too old"),
        pytest.param(DropCause.ABORTED, True, id="could not be drawn"),
        pytest.param(DropCause.SUPERSEDED, False, id="nobody looked at it"),
    ],
)
def test_only_who_looks_at_a_frame_makes_progress(cause: DropCause, is_progress: bool) -> None:
    road = Road()
    for number in range(20):
        road.frame = f"frame {number}"
        road.dropped[cause] += 1
        road.go_on(STALL_S / 2)
    assert bool(road.failures) is not is_progress


def test_a_process_that_stood_still_is_given_its_time() -> None:
    """Stopped by a debugger, or by a machine that slept."""
    road = Road()
    road.frame = "a frame"
    road.go_on(1)
    road.now_ns += 3600 * NS_PER_S
    road.go_on(0.5)
    assert road.failures == []
