"""Tells the tuner what the pipeline does, and the policy what the tuner advises."""

from __future__ import annotations

import logging
from collections import deque
from typing import Deque, List, Tuple

from edge.batching.infer_times import InferTimes
from edge.batching.policy import BatchPolicy
from edge.batching.tuner import Load, Tuner
from edge.clock import NS_PER_S
from edge.records import BatchSetting

log = logging.getLogger(__name__)

# Rates are counts over this span: long enough for a camera's pause of half a second.
_SPAN_NS = 2 * NS_PER_S


class LiveTuning:
    """Watches one pipeline and sets one policy.

    `batch_done` belongs to the completion thread, `observe` to the main loop.
    """

    def __init__(self, policy: BatchPolicy, tuner: Tuner) -> None:
        self._policy = policy
        self._tuner = tuner
        # Appended by one thread and emptied by the other; both ends of a deque are thread-safe.
        self._batches: Deque[Tuple[int, float]] = deque(maxlen=1024)
        self._infer_times = InferTimes()
        self._totals: Deque[Tuple[int, int, int]] = deque()
        self.changes = 0

    @property
    def setting(self) -> BatchSetting:
        """What the policy works with now."""
        return self._policy.setting

    def batch_done(self, size: int, infer_ms: float) -> None:
        """Notes how long the engine took for a shared batch."""
        self._batches.append((size, infer_ms))

    def observe(self, now_ns: int, arrived: int, busy_ns: int) -> None:
        """Takes the totals since the start and changes the policy where that pays.

        `arrived` counts the frames the shared cameras sent, `busy_ns` is the engine's time at
        work; called a few times a second.
        """
        self._learn(now_ns)
        self._totals.append((now_ns, arrived, busy_ns))
        while len(self._totals) > 2 and self._totals[1][0] <= now_ns - _SPAN_NS:
            self._totals.popleft()
        first_ns, first_arrived, first_busy_ns = self._totals[0]
        span_ns = now_ns - first_ns
        if span_ns < _SPAN_NS // 2:
            return
        arrival_fps = (arrived - first_arrived) * NS_PER_S / span_ns
        # A batch counts when it ends: one that began before the span makes it more than all of it.
        utilization = min((busy_ns - first_busy_ns) / span_ns, 1.0)
        self._advise(now_ns, Load(arrival_fps, utilization, self._infer_times.typical_ms()))

    def begin_anew(self, bounds: BatchSetting) -> None:
        """Goes back to the bounds, which may be others, as the cameras are; for the main loop.

        `arrived` may count from anywhere afterwards.
        """
        self._totals.clear()
        if bounds != self._tuner.bounds:
            self._tuner = Tuner(bounds)
            self._policy.apply(bounds)

    def _learn(self, now_ns: int) -> None:
        done: List[Tuple[int, float]] = []
        while self._batches:
            done.append(self._batches.popleft())
        self._infer_times.learn(done, now_ns)

    def _advise(self, now_ns: int, load: Load) -> None:
        advice = self._tuner.advise(now_ns, load)
        if advice is None:
            return
        self.changes += 1
        self._policy.apply(advice)
        log.info(
            "batches of %d frames, window %.1f ms (%.0f frames/s arrive, engine busy %.0f %%)",
            advice.target,
            advice.window_ms,
            load.arrival_fps,
            100 * load.utilization,
        )
