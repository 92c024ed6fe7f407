"""How much batching there may be at present, and what moves within that.

Part of the composition root, with `line.py`.
"""

from __future__ import annotations

import dataclasses
from typing import Optional

from edge.batching.policy import BatchPolicy
from edge.batching.tuner import Tuner
from edge.batching.tuning import LiveTuning
from edge.clock import NS_PER_MS
from edge.config.combinations import fillable_rows
from edge.config.schema import Config
from edge.records import BatchResult, BatchSetting, Lane, PipelineCounters


class BatchBounds:
    """Holds the batch policy to what the configuration says, or the governor; live tuning, where it
    is on, moves within.

    `batch_done` belongs to the completion thread, all else to the main loop.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._governed_window_ms: Optional[float] = None
        self.policy = BatchPolicy(config.batching)
        self._tuning: Optional[LiveTuning] = None
        if config.batching.tune:
            self.policy.apply(self._fillable)
            self._tuning = LiveTuning(self.policy, Tuner(self._fillable))

    def configure(self, config: Config) -> None:
        """Follows another configuration from here on."""
        self._config = config
        self.begin_anew()

    def govern(self, window_ms: Optional[float]) -> None:
        """Sets the longest wait in the place of the configured one; None: the configured one."""
        if window_ms != self._governed_window_ms:
            self._governed_window_ms = window_ms
            self.begin_anew()

    def begin_anew(self) -> None:
        """Goes back to the bounds: the cameras are others, or the bounds are."""
        if self._tuning is None:
            self.policy.apply(self._most)
        else:
            self._tuning.begin_anew(self._fillable)

    def observe(self, now_ns: int, arrived: int, busy_ns: int) -> None:
        """Takes the totals that live tuning follows, as `LiveTuning.observe` does."""
        if self._tuning is not None:
            self._tuning.observe(now_ns, arrived, busy_ns)

    def batch_done(self, result: BatchResult) -> None:
        """Notes how long the engine took for a batch."""
        if self._tuning is not None and result.batch.lane is Lane.BATCH:
            self._tuning.batch_done(len(result.batch.items), result.busy_ns / NS_PER_MS)

    def counted(self, counters: PipelineCounters) -> PipelineCounters:
        """The counters with the bounds, and what tuning made of them."""
        return dataclasses.replace(
            counters,
            batching=self._most,
            tuned=self._tuning.setting if self._tuning else None,
            tune_changes=self._tuning.changes if self._tuning else 0,
        )

    @property
    def _most(self) -> BatchSetting:
        batching, window_ms = self._config.batching, self._governed_window_ms
        return BatchSetting(
            batching.target, batching.max_wait_ms if window_ms is None else window_ms
        )

    @property
    def _fillable(self) -> BatchSetting:
        """No batch is fuller than its cameras can make it."""
        rows = min(self._most.target, max(fillable_rows(self._config), 1))
        return BatchSetting(rows, self._most.window_ms)
