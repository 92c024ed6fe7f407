"""Cameras that come, go and change their lane while the batcher works."""

from __future__ import annotations

from typing import Dict, List

import pytest

from edge.batching.feed import Feed
from edge.batching.ring import SlotRing
from edge.records import DropCause, Lane
from tests.batching.test_batcher import MODEL_WH, Rig, grey


def feeds_of(rig: Rig, *cameras: str) -> List[Feed]:
    return [Feed(rig.feeds[camera]) for camera in cameras]


def reserved(rig: Rig, *cameras: str) -> Dict[Feed, SlotRing]:
    return {feed: SlotRing(3, 1, MODEL_WH) for feed in feeds_of(rig, *cameras)}


def send_all(rig: Rig) -> None:
    for box in rig.feeds.values():
        box.send(grey(9))


def test_only_those_that_are_fed_are_taken_from() -> None:
    rig = Rig(cameras=3)
    rig.batcher.set_feeds(feeds_of(rig, "cam0", "cam2"), {})
    send_all(rig)
    rig.step()
    assert rig.gate.cameras() == [["cam0", "cam2"]]
    assert rig.feeds["cam1"].peek() is not None  # it stays where it is
    rig.batcher.set_feeds(feeds_of(rig, "cam1", "cam2"), {})
    rig.step()
    assert rig.gate.cameras()[1:] == [["cam1"]]
    assert all(box.dropped == {} for box in rig.feeds.values())


def test_a_camera_changes_its_lane() -> None:
    rig = Rig(cameras=2)
    rig.batcher.set_feeds(feeds_of(rig, "cam1"), reserved(rig, "cam0"))
    send_all(rig)
    rig.step()
    assert sorted((b.lane, *c) for b, c in zip(rig.gate.batches, rig.gate.cameras())) == [
        (Lane.BATCH, "cam1"),
        (Lane.PRIORITY, "cam0"),
    ]
    rig.batcher.set_feeds(feeds_of(rig, "cam0", "cam1"), {})
    send_all(rig)
    rig.step()
    assert rig.gate.cameras()[2:] == [["cam0", "cam1"]]


def test_what_is_bound_of_a_camera_that_is_gone_still_leaves() -> None:
    rig = Rig(cameras=2)
    rig.expect_all()
    rig.gate.busy = True
    send_all(rig)
    rig.step()
    assert rig.gate.batches == []
    rig.batcher.set_feeds(feeds_of(rig, "cam1"), {})
    rig.gate.busy = False
    rig.step()
    assert rig.gate.cameras() == [["cam0", "cam1"]]


def test_what_is_drawn_of_a_priority_camera_that_is_gone_still_leaves() -> None:
    rig = Rig(cameras=1, priority=[0], priority_slots=1)
    rig.feeds["cam0"].send(grey(7))
    rig.batcher.step(rig.gate)  # it is being drawn
    rig.batcher.set_feeds([], {})
    rig.step()
    assert rig.gate.cameras() == [["cam0"]]
    assert rig.reserved[0].acquire() is not None


def test_a_priority_camera_that_comes_back_replaces_nothing_of_before() -> None:
    rig = Rig(cameras=1, priority=[0])
    rig.gate.is_engine_taken = True
    rig.feeds["cam0"].send(grey(1))
    rig.step()
    rig.batcher.set_feeds([], {})
    rig.batcher.set_feeds([], reserved(rig, "cam0"))
    rig.feeds["cam0"].send(grey(2))
    rig.step()
    assert rig.gate.cameras() == [["cam0"], ["cam0"]]
    rig.feeds["cam0"].send(grey(3))
    rig.step()
    assert [int(pixels[0, 24, 32, 0]) for pixels in rig.gate.pixels] == [1, 3]
    assert rig.feeds["cam0"].dropped == {DropCause.SUPERSEDED: 1}
    rig.gate.take_waiting()


@pytest.mark.parametrize("cameras", [["cam0", "cam1"], ["cam0"]], ids=["as before", "one less"])
def test_a_batch_waits_only_for_cameras_that_are_fed(cameras: List[str]) -> None:
    rig = Rig(cameras=2, max_wait_ms=1000)
    rig.expect_all()
    rig.batcher.set_feeds(feeds_of(rig, *cameras), {})
    rig.feeds["cam0"].send(grey(9))
    rig.step()
    is_waiting = len(cameras) > 1
    assert rig.gate.batches == [] if is_waiting else rig.gate.cameras() == [["cam0"]]
