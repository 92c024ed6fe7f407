"""Which engines serve the daemon: one at the start, better ones while frames flow.

Part of the composition root, with `app.py`.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from typing import Callable, Iterator, Optional

from edge.batching.ring import Allocate
from edge.building.engine_news import OnStatus
from edge.building.plan import BuildPlan
from edge.building.supply import EngineSupply, Supplied, open_supply
from edge.clock import Clock
from edge.commands.refusal import Refused
from edge.config.schema import Config, Precision
from edge.errors import EdgeError
from edge.inference.engine import Engine
from edge.records import DeployedGraph, EngineStatus
from edge.threads import OnFailure, SupervisedThread

log = logging.getLogger(__name__)

# Of the shutdown's time: what is built dies at once, and what is loaded is left behind.
STOP_S = 1.0

HandOver = Callable[[Engine], None]
"""Lets an engine serve from the next batch on, and closes it in the end."""


def needs_priority_engine(config: Config, in_flight: int) -> bool:
    """True where priority frames are to have an engine of their own beside the shared one.

    On a device, that is: on a CPU, which does one batch at a time, both would share its cores.
    """
    has_priority = any(camera.enabled and camera.priority for camera in config.cameras)
    return has_priority and in_flight > 1


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
        self._config = config
        self._on_status = on_status
        self._stop = stop
        self._thread: Optional[SupervisedThread] = None
        self._serving: Optional[Precision] = None
        self._unserved: Optional[Engine] = None
        self._in_flight = 1
        self._begin_remake: Optional[Callable[[], None]] = None
        self._priority: Optional[EngineStatus] = None
        plan = BuildPlan.of(config, module)
        self._supply: EngineSupply = open_supply(plan, graph, self._tell, clock, stop)

    def first(self) -> Optional[Engine]:
        """The engine to start with, built if need be; None where told to stop meanwhile.

        It is the caller's from `improve` on; before, `close` closes it too.
        """
        opened = self._supply.open_first(self._stop)
        if opened is None:
            return None
        self._serving, engine = opened
        self._unserved = engine
        self._in_flight = engine.in_flight
        return engine

    @property
    def allocate(self) -> Allocate:
        """Makes the memory that frames are drawn into; it ends with `close`."""
        return self._supply.allocate

    def improve(self, exchange: HandOver, serve_priority: HandOver, on_failure: OnFailure) -> None:
        """Says what serves, and in a thread of its own makes what should serve instead.

        Then, where it pays, what should serve priority frames alone.
        """
        self._unserved = None
        if self._serving is not None:
            self._supply.serves(self._serving)

        def improve() -> None:
            self._serve_each(self._supply, self._supply.improvements(), exchange)
            if needs_priority_engine(self._config, self._in_flight):
                self._make_priority(serve_priority)

        def remake() -> None:
            self._serve_each(self._supply, self._supply.remake(), exchange)

        self._begin_remake = lambda: self._begin(remake, on_failure)
        self._begin(improve, on_failure)

    def rebuild(self) -> str:
        """Has what should serve all frames made anew beside what serves; says so in words.

        Raises Refused where there is nothing to make, or something is being made already.
        """
        if self._begin_remake is None or (self._thread is not None and self._thread.is_alive):
            raise Refused("an engine is being made already")
        if not self._supply.is_built:
            raise Refused("the engine is not built, but run from the model itself")
        self._begin_remake()
        return "it is made anew while the present one serves; the topic engine tells how far it is"

    def stop(self, timeout_s: float) -> bool:
        """Waits a moment for what is being made to be given up; `stop` must be set."""
        return self._thread is None or self._thread.join(min(timeout_s, STOP_S))

    def close(self, timeout_s: float) -> bool:
        """Lets the device go, every engine that serves being closed; False while it is in use."""
        if self._thread is not None and self._thread.is_alive:
            return False
        if self._unserved is not None:
            self._unserved.close()
        return self._supply.close()

    def _begin(self, work: Callable[[], None], on_failure: OnFailure) -> None:
        self._thread = SupervisedThread("engines", work, on_failure)
        self._thread.start()

    def _serve_each(
        self, supply: EngineSupply, found: Iterator[Supplied], hand_over: HandOver
    ) -> None:
        for supplied in found:
            engine = supply.load_better(supplied)
            if engine is not None:
                self._serve(supply, supplied.precision, engine, hand_over)

    def _make_priority(self, hand_over: HandOver) -> None:
        if self._stop.is_set():
            return
        supply = self._supply.for_priority(self._tell_priority)
        try:
            opened = supply.open_first(self._stop)
        except EdgeError as error:
            supply.fails(f"priority frames go on through the shared engine: {error}")
            return
        if opened is not None:
            self._serve(supply, *opened, hand_over)
            self._serve_each(supply, supply.improvements(), hand_over)

    def _serve(
        self, supply: EngineSupply, precision: Precision, engine: Engine, hand_over: HandOver
    ) -> None:
        if self._stop.is_set():
            engine.close()
            return
        hand_over(engine)
        supply.serves(precision)
        whose = "priority frames" if supply is not self._supply else "all frames"
        log.info("%s serves %s from here on", precision.value, whose)

    def _tell(self, status: EngineStatus) -> None:
        self._on_status(dataclasses.replace(status, priority=self._priority))

    def _tell_priority(self, status: EngineStatus) -> None:
        self._priority = status
        self._tell(self._supply.status)
