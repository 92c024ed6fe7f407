from __future__ import annotations

import pytest

from edge.batching.ring import SlotRing
from edge.records import Slot


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
