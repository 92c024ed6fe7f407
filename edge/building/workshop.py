"""All that one plan's engines are made, kept and loaded with."""

from __future__ import annotations

import logging
import threading
from typing import Optional

from edge.building.batch_limit import LimitFile, LimitKey
from edge.building.build_process import run_job
from edge.building.plan import BuildPlan
from edge.building.toolchain import Toolchain
from edge.building.worker import Job, Task
from edge.config.schema import Precision
from edge.records import DeployedGraph, OnProgress


class Workshop:
    """A plan's toolchain, its engines on the disk, and the process that makes them.

    What is made ends with `stop`.
    """

    def __init__(
        self, plan: BuildPlan, graph: DeployedGraph, toolchain: Toolchain, stop: threading.Event
    ) -> None:
        self._plan = plan
        self._graph = graph
        self._stop = stop
        self.toolchain = toolchain
        self.maker = plan.maker(graph, toolchain)

    @property
    def max_batch(self) -> int:
        """The largest batch of one call that engines are made for."""
        return self.toolchain.key.max_batch or self._plan.max_batch

    def run(self, task: Task, precision: Precision, on_progress: OnProgress) -> bool:
        """Does a task in a process of its own; False where that was told to stop.

        Raises as `run_job`.
        """
        level = logging.getLogger().getEffectiveLevel()
        job = Job(task=task, precision=precision, plan=self._plan, log_level=level)
        return run_job(job, on_progress, self._stop)

    def halved(self) -> Optional[Workshop]:
        """For engines of half the largest batch; None where there are no smaller ones."""
        if self.max_batch == 1 or self._graph.fixed_batch is not None:
            return None
        smaller = self.of_at_most(self.max_batch // 2)
        return None if smaller.toolchain is self.toolchain else smaller

    def of_at_most(self, max_batch: int) -> Workshop:
        """For engines of smaller batches, on the same device."""
        return self._derived(self._plan.of_at_most(max_batch))

    def for_priority(self) -> Workshop:
        """For the engines that take priority frames, on the same device."""
        return self._derived(self._plan.for_priority())

    def limit_file(self, wanted: Precision) -> LimitFile:
        """Where it is kept how many frames fit into the device's memory."""
        key = LimitKey(
            graph=self.maker.graph_key,
            backend=self.toolchain.key,
            wanted=wanted,
            max_batch=self.max_batch,
        )
        return LimitFile(self._plan.store_folder, key)

    def _derived(self, plan: BuildPlan) -> Workshop:
        toolchain = self.toolchain.derived(plan.max_batch, plan.lane)
        return Workshop(plan, self._graph, toolchain, self._stop)
