"""No arrivals whatever make a slot wait longer than it was told to, while the engine is free."""

from __future__ import annotations

from typing import List, Optional, Tuple

from hypothesis import given
from hypothesis import strategies as st

from edge.batching.policy import BatchPolicy, Placement, Rider
from edge.clock import NS_PER_MS
from edge.config.schema import BatchingConfig, Window

Closed = Tuple[int, int, int]
"""When the slot was opened, could have left at the earliest for the engine's sake, and left."""


class Road:
    """Drives a policy from event to event; the engine takes `busy_ms` for any batch."""

    def __init__(self, config: BatchingConfig, busy_ms: float) -> None:
        self.policy = BatchPolicy(config)
        self.closed: List[Closed] = []
        self._busy_ns = int(busy_ms * NS_PER_MS)
        self._free_ns = 0
        self._riders: List[Rider] = []
        self._opened_ns = 0
        self._wake_ns: Optional[int] = None

    def arrive(self, now_ns: int, camera: str, frame_id: int) -> None:
        """A frame; one that finds the slot full is superseded by the camera's next."""
        rider = Rider(camera, now_ns)
        placement = self.policy.place(self._riders, rider)
        if placement is not Placement.WAIT:
            if not self._riders:
                self._opened_ns = now_ns
            if placement is Placement.OWN_ROW:
                self._riders.remove(next(r for r in self._riders if r.camera == camera))
            self._riders.append(rider)
            self.policy.arrivals.admitted(camera, frame_id, now_ns)
        self._decide(now_ns)

    def run_until(self, now_ns: int) -> None:
        """Wakes the policy whenever it asked for it or the engine became free."""
        while self._wake_ns is not None and self._wake_ns <= now_ns:
            self._decide(self._wake_ns)

    def _decide(self, now_ns: int) -> None:
        can_take = now_ns >= self._free_ns
        decision = self.policy.decide(self._riders, self._opened_ns, [], can_take, now_ns)
        self._wake_ns = decision.wake_ns
        if decision.close:
            self.closed.append((self._opened_ns, self._free_ns, now_ns))
            self._riders.clear()
            self._free_ns = now_ns + self._busy_ns
        elif self._riders and not can_take:
            self._wake_ns = self._free_ns


@given(
    arrivals=st.lists(
        st.tuples(st.integers(0, 400_000), st.integers(0, 7)), min_size=1, max_size=80
    ),
    target=st.integers(1, 9),
    max_wait_ms=st.sampled_from([0.0, 0.5, 10.0, 50.0]),
    window=st.sampled_from(Window),
    busy_ms=st.sampled_from([0.0, 3.0, 30.0]),
)
def test_a_slot_leaves_by_its_deadline_or_as_soon_as_the_engine_is_free(
    arrivals: List[Tuple[int, int]],
    target: int,
    max_wait_ms: float,
    window: Window,
    busy_ms: float,
) -> None:
    config = BatchingConfig(target=target, max_wait_ms=max_wait_ms, window=window)
    road = Road(config, busy_ms)
    now_ns = 0
    for frame_id, (gap_us, camera) in enumerate(arrivals):
        now_ns += gap_us * 1_000
        road.run_until(now_ns)
        road.arrive(now_ns, f"cam{camera}", frame_id)
    road.run_until(now_ns + 1_000 * NS_PER_MS)
    assert road.closed
    for opened_ns, free_ns, closed_ns in road.closed:
        assert closed_ns <= max(opened_ns + max_wait_ms * NS_PER_MS, free_ns)
