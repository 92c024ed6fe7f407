from __future__ import annotations

from typing import List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.capture.watch import Abandoned, Hang, Step, Watch, hang_ns
from edge.clock import NS_PER_MS, ManualClock

S = 1_000_000_000


def test_hanging_up_is_no_stall() -> None:
    clock = ManualClock()
    watch = Watch(1.0, clock)
    watch.begin(Step.CLOSE)
    assert not watch.is_stalled(clock.monotonic_ns() + 5 * S)
    watch.end()
    watch.begin(Step.READ)
    assert watch.is_stalled(clock.monotonic_ns() + 5 * S)


@pytest.mark.parametrize(
    ("stall_s", "expected_s"),
    [
        pytest.param(0.1, 20.1, id="impatient: the source's own time-outs go first"),
        pytest.param(3.0, 23.0, id="default"),
        pytest.param(20.0, 40.0, id="as long as the patience"),
        pytest.param(600.0, 1200.0, id="time-lapse: twice the stall"),
    ],
)
def test_when_a_thread_is_given_up(stall_s: float, expected_s: float) -> None:
    assert hang_ns(stall_s) == int(expected_s * S)


@pytest.mark.parametrize(
    ("waited_ms", "is_stalled", "is_hung"),
    [
        pytest.param(1_999, False, False, id="below"),
        pytest.param(2_000, True, False, id="stalled"),
        pytest.param(21_999, True, False, id="nearly given up"),
        pytest.param(22_000, True, True, id="given up"),
    ],
)
def test_a_call_that_takes_long(waited_ms: int, is_stalled: bool, is_hung: bool) -> None:
    clock = ManualClock(monotonic_ns=7 * S)
    watch = Watch(2.0, clock)
    watch.begin(Step.READ)
    clock.advance_ms(waited_ms)
    assert watch.is_stalled(clock.monotonic_ns()) is is_stalled
    assert (watch.abandon_if_hung(clock.monotonic_ns()) is not None) is is_hung


def test_between_two_calls_nothing_is_waited_for() -> None:
    clock = ManualClock()
    watch = Watch(2.0, clock)
    clock.advance_ms(3_600_000)
    assert not watch.is_stalled(clock.monotonic_ns())
    watch.begin(Step.READ)
    watch.end()
    clock.advance_ms(3_600_000)
    assert not watch.is_stalled(clock.monotonic_ns())
    assert watch.abandon_if_hung(clock.monotonic_ns()) is None


def test_it_is_given_up_once_and_learns_it_on_its_return() -> None:
    clock = ManualClock()
    watch = Watch(3.0, clock)
    watch.begin(Step.OPEN)
    clock.advance_ms(25_000)
    hang = watch.abandon_if_hung(clock.monotonic_ns())
    assert hang == Hang(Step.OPEN, 25 * S)
    assert str(hang) == "opening it hung for 25 s"
    assert watch.abandon_if_hung(clock.monotonic_ns()) is None
    with pytest.raises(Abandoned):
        watch.end()


@given(st.lists(st.tuples(st.sampled_from(Step), st.integers(0, 40_000)), max_size=20))
def test_a_call_counts_or_is_given_up_never_both(calls: List[Tuple[Step, int]]) -> None:
    clock = ManualClock()
    watch = Watch(1.0, clock)
    for step, ms in calls:
        watch.begin(step)
        clock.advance_ms(ms)
        hang = watch.abandon_if_hung(clock.monotonic_ns())
        assert (hang is not None) is (ms * NS_PER_MS >= hang_ns(1.0))
        if hang is not None:
            with pytest.raises(Abandoned):
                watch.end()
            return
        watch.end()


def test_time_in_which_the_process_did_not_run_is_not_counted() -> None:
    clock = ManualClock()
    watch = Watch(2.0, clock)
    watch.excuse(5 * S)
    watch.begin(Step.READ)
    clock.advance_ms(61_999)
    watch.excuse(60 * S)
    assert not watch.is_stalled(clock.monotonic_ns())
    clock.advance_ms(1)
    assert watch.is_stalled(clock.monotonic_ns())
