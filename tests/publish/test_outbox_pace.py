from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import NS_PER_MS, NS_PER_S
from edge.publish.outbox.age import Stamp, age_ns, redated
from edge.publish.outbox.entry import DropCause, Kind
from edge.publish.outbox.loss import Loss, LossBook
from edge.publish.outbox.pace import DrainPace


@pytest.mark.parametrize(
    ("live_per_s", "drain_per_s", "gone_per_s"),
    [
        pytest.param(0, 100, 100, id="nothing comes: the drain rate alone"),
        pytest.param(50, 100, 200, id="and twice what comes"),
        pytest.param(1_000, 1, 2_001, id="however slow the drain"),
    ],
)
def test_rate(live_per_s: int, drain_per_s: int, gone_per_s: int) -> None:
    pace = DrainPace(drain_per_s)
    gone = 0
    for second in range(10):
        for tick in range(100):
            for _ in range(live_per_s * (tick + 1) // 100 - live_per_s * tick // 100):
                pace.note_put()
            count = pace.allowance(second * NS_PER_S + tick * NS_PER_S // 100)
            pace.spend(count)
            gone += count if second else 0
    assert gone / 9 == pytest.approx(gone_per_s, rel=0.01)


def test_an_outage_grants_no_flood() -> None:
    pace = DrainPace(500)
    for _ in range(100_000):
        pace.note_put()
    assert pace.allowance(3_600 * NS_PER_S) == 500


@pytest.mark.parametrize(
    ("spent", "pause_s"),
    [
        pytest.param(255, 0.0, id="one is left"),
        pytest.param(256, 0.1, id="none is left"),
    ],
)
def test_pause(spent: int, pause_s: float) -> None:
    pace = DrainPace(10)
    pace.allowance(NS_PER_S)
    pace.spend(spent)
    assert pace.pause_s(NS_PER_S) == pytest.approx(pause_s)
    assert pace.allowance(NS_PER_S + NS_PER_S // 10) == 256 - spent + 1


STAMPS = st.builds(
    Stamp, st.sampled_from(["a", "b", ""]), st.integers(0, 1 << 60), st.integers(0, 1 << 42),
    st.booleans(),
)  # fmt: skip


@given(STAMPS, st.integers(0, 1 << 55), st.integers(0, 1 << 42), st.booleans())
def test_age_in_one_boot_is_the_monotonic_clocks(
    stamp: Stamp, later_ns: int, unix_ms: int, is_synced: bool
) -> None:
    now = Stamp(stamp.boot_id, stamp.monotonic_ns + later_ns, unix_ms, is_synced)
    assert age_ns(stamp, now) == later_ns


@given(
    st.integers(1, 1 << 50), st.integers(1, 1 << 40), st.integers(0, 1 << 50),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_age_over_boots_is_never_too_large(
    put_ns: int, off_ms: int, uptime_ns: int, was_synced: bool, is_synced: bool
) -> None:
    put_ms = 1_700_000_000_000
    true_ns = off_ms * NS_PER_MS + uptime_ns
    now_ms = put_ms + true_ns // NS_PER_MS
    stamp = Stamp("a", put_ns, put_ms if was_synced else 1_000, was_synced)
    now = Stamp("b", uptime_ns, now_ms if is_synced else 1_000, is_synced)
    assert age_ns(stamp, now) <= true_ns


@given(STAMPS, st.integers(-(1 << 40), 1 << 42), st.integers(-(1 << 40), 1 << 42))
def test_redating_twice_changes_nothing(stamp: Stamp, offset_ms: int, other_ms: int) -> None:
    once = redated(stamp, "a", offset_ms)
    assert redated(once, "a", other_ms) == once
    assert (once == stamp) == (stamp.is_synced or stamp.boot_id != "a")


def test_losses_add_up_by_cause_and_kind() -> None:
    book = LossBook()
    book.recall([Loss(DropCause.FULL, Kind.EVENT, 7)])
    assert not book.is_dirty
    for count, kind in ((1, Kind.EVENT), (2, Kind.EVENT), (4, None)):
        book.add(Loss(DropCause.FULL, kind, count))
    assert book.is_dirty
    assert book.all() == [Loss(DropCause.FULL, Kind.EVENT, 10), Loss(DropCause.FULL, None, 4)]
    assert book.of_this_run() == {**dict.fromkeys(DropCause, 0), DropCause.FULL: 7}
