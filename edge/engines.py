"""Which engine serves the daemon: one at the start, better ones while frames flow.

Part of the composition root, with `app.py`.
"""

from __future__ import annotations

import logging
import threading
from typing import Callable, Optional

from edge.batching.ring import Allocate
from edge.building.plan import BuildPlan
from edge.building.supply import EngineSupply, OnStatus, open_supply
from edge.clock import Clock
from edge.config.schema import Config, Precision
from edge.inference.engine import Engine
from edge.records import DeployedGraph
from edge.threads import OnFailure, SupervisedThread

log = logging.getLogger(__name__)


class Engines:
    """Supplies the engines of one graph; what it builds ends with `stop`.

    Raises ConfigError where the configuration asks for what cannot be had here.
    """

    def __init__(
        self,
        config: Config,
        graph: DeployedGraph,
        module: Optional[str],
        on_status: OnStatus,
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        plan = BuildPlan.of(config, module)
        self._supply: EngineSupply = open_supply(plan, graph, on_status, clock, stop)
        self._stop = stop
        self._thread: Optional[SupervisedThread] = None
        self._serving: Optional[Precision] = None

    def first(self) -> Optional[Engine]:
        """The engine to start with, built if need be; None where told to stop meanwhile."""
        opened = self._supply.open_first(self._stop)
        if opened is None:
            return None
        self._serving, engine = opened
        return engine

    @property
    def allocate(self) -> Allocate:
        """Makes the memory that frames are drawn into; it ends with `close`."""
        return self._supply.allocate

    def improve(self, exchange: Callable[[Engine], None], on_failure: OnFailure) -> None:
        """Says what serves, and in a thread of its own makes what should serve instead."""
        if self._serving is not None:
            self._supply.serves(self._serving)

        def work() -> None:
            for supplied in self._supply.improvements():
                if self._stop.is_set():
                    return
                engine = self._supply.load_better(supplied)
                if engine is None:
                    continue
                exchange(engine)
                self._supply.serves(supplied.precision)
                log.info("%s serves from here on", supplied.precision.value)

        self._thread = SupervisedThread("engines", work, on_failure)
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Waits for what is being built to be given up; `stop` must be set."""
        return self._thread is None or self._thread.join(timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Lets the device go; every engine must be closed by then."""
        if self._thread is not None and self._thread.is_alive:
            return False
        self._supply.close()
        return True
