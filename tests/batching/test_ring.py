from __future__ import annotations

import pytest

from edge.batching.ring import SlotRing, within_memory
from edge.records import BatchTarget, Slot, TargetSource


def test_hands_out_each_slot_once_and_then_none() -> None:
    ring = SlotRing(2, 3, (32, 16))
    first, second = ring.acquire(), ring.acquire()
    assert first is not None
    assert second is not None
    assert first is not second
    assert first.rows.shape == (3, 16, 32, 3)
    assert ring.acquire() is None
    assert repr(ring) == "<SlotRing 0 of 2 slots free>"
    first.release()
    assert ring.acquire() is first


def test_a_slot_released_twice_is_refused() -> None:
    ring = SlotRing(1, 1, (8, 8))
    slot = ring.acquire()
    assert isinstance(slot, Slot)
    slot.release()
    with pytest.raises(ValueError, match="released twice"):
        slot.release()


@pytest.mark.parametrize(
    ("free_bytes", "frames", "source"),
    [
        # Two slots of 8 rows of 100 x 100 x 3 bytes take 480,000; a quarter may be taken.
        pytest.param(1_920_000, 8, TargetSource.CONFIG, id="just enough"),
        pytest.param(1_919_999, 7, TargetSource.MEMORY, id="a byte short of it"),
        pytest.param(240_000, 1, TargetSource.MEMORY, id="one row each"),
        pytest.param(0, 1, TargetSource.MEMORY, id="nothing free: one all the same"),
    ],
)
def test_slots_take_at_most_a_quarter_of_the_free_memory(
    free_bytes: int, frames: int, source: TargetSource
) -> None:
    wanted = BatchTarget(8, TargetSource.CONFIG)
    assert within_memory(wanted, 2, (100, 100), free_bytes) == BatchTarget(frames, source)
