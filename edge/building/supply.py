"""Which engine serves: the first that can at once, then the best the gate lets through."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, Mapping, Optional, Set, Tuple, Union

from edge.building.batch_limit import LimitFile
from edge.building.engine_news import EngineNews, OnStatus
from edge.building.engine_store import Hit, Miss
from edge.building.gate_report import GateReport, Verdict
from edge.building.loader import Loader
from edge.building.make import Maker
from edge.building.plan import BuildPlan
from edge.building.toolchain import Toolchain, wanted_precision
from edge.building.worker import Task
from edge.building.workshop import Workshop
from edge.clock import Clock
from edge.config.schema import Precision
from edge.errors import BuildError, CudaError, EdgeError, EngineHangs, EngineOutOfMemory
from edge.geometry import Image
from edge.inference.engine import Engine
from edge.records import DeployedGraph, EngineState, EngineStatus

log = logging.getLogger(__name__)

HIT = "hit"
"""What `EngineStatus.cache` says of an engine that is used again."""


@dataclass(frozen=True)
class Supplied:
    """An engine to load."""

    precision: Precision
    data: bytes


class EngineSupply:
    """Finds or makes engines of one graph, and tells `on_status` all about it.

    `first` gives what can serve soonest; `improvements` what should take over from it; `failure`
    is what ended those. `limits` knows the largest batch that fits into the device's memory; the
    `loader` is shared by all that use the device.
    """

    def __init__(
        self,
        workshop: Workshop,
        wanted: Precision,
        on_status: OnStatus,
        clock: Clock,
        loader: Loader,
        limits: Optional[LimitFile] = None,
    ) -> None:
        self._workshop = workshop
        # Whatever smaller batches come to: the device is this one's.
        self._device = workshop.toolchain
        self._wanted = wanted
        self._limits = limits
        self._clock = clock
        self._loader = loader
        self._news = EngineNews(wanted, on_status, clock)
        self.failure: Optional[EdgeError] = None
        self._unloadable: Dict[Precision, str] = {}
        self._made_now: Set[Precision] = set()
        limit = None if limits is None else limits.read()
        if limits is not None and limit is not None:
            self._workshop = workshop.of_at_most(limit.max_batch)
            self._news.remark("limit", limits.words(limit))

    @property
    def status(self) -> EngineStatus:
        """What was told last."""
        return self._news.status

    @property
    def reports(self) -> Mapping[Precision, GateReport]:
        """The gate's reports of the engines that were looked at."""
        return self._news.reports

    @property
    def _toolchain(self) -> Toolchain:
        return self._workshop.toolchain

    @property
    def _maker(self) -> Maker:
        return self._workshop.maker

    def first(self) -> Optional[Supplied]:
        """The best engine on the disk, else the first one, made now; None where told to stop.

        Raises BuildError or ConfigError.
        """
        ready = self.ready()
        if ready is not None:
            return ready
        precision = self._float_precision()
        self._news.tell(state=EngineState.BUILDING)
        if not self._run(Task.MAKE_FLOAT, precision):
            return None
        return Supplied(precision, self._made(precision))

    def open_first(self, stop: threading.Event) -> Optional[Tuple[Precision, Engine]]:
        """`first`, loaded; what was kept and cannot be loaded is made anew. None on `stop`.

        Where memory runs out, an engine of half the largest batch is found or made, and so on.
        Where one hangs, another that is kept serves. Raises as `first`, and EngineError where even
        a new engine cannot be loaded.
        """
        while True:
            try:
                return self._open(self.first, stop)
            except EngineOutOfMemory as error:
                if not self._loader.is_idle:
                    raise  # what hangs keeps its memory: that says nothing about this engine
                self._halve(error)

    def open_ready(self) -> Optional[Tuple[Precision, Engine]]:
        """`ready`, loaded; what cannot be loaded is passed over.

        Raises as `open_first`, and EngineOutOfMemory.
        """
        return self._open(self.ready, threading.Event())

    def _open(
        self, find: Callable[[], Optional[Supplied]], stop: threading.Event
    ) -> Optional[Tuple[Precision, Engine]]:
        while True:
            supplied = find()
            if supplied is None or stop.is_set():
                return None
            try:
                engine = self.load(supplied)
                return None if engine is None else (supplied.precision, engine)
            except (EngineOutOfMemory, CudaError):
                raise  # neither says anything about the engine
            except EngineHangs as error:
                self._pass_over(supplied.precision, error)
                # Nothing is built on such a device: a new process may find it well again.
                find = self._kept_or(error)
            except EdgeError as error:
                if not (self._is_kept(supplied.precision) or self._has_exact(supplied.precision)):
                    raise
                self._pass_over(supplied.precision, error)

    def _pass_over(self, precision: Precision, error: EdgeError) -> None:
        reason = f"cannot be loaded: {error}"
        log.warning("the %s engine %s", precision.value, reason)
        self._unloadable[precision] = reason
        self._news.cache(precision, reason)

    def _kept_or(self, error: EngineHangs) -> Callable[[], Supplied]:
        """Finds what else is ready; raises the error where nothing is."""

        def find() -> Supplied:
            supplied = self.ready()
            if supplied is None:
                raise error
            return supplied

        return find

    def _halve(self, error: EngineOutOfMemory) -> None:
        """Goes on with half the largest batch, now and at every start; raises where it cannot."""
        smaller = self._workshop.halved()
        if smaller is None:
            raise EngineOutOfMemory(
                f"{error}; nor are there engines of smaller batches: free memory, or use a smaller "
                "network"
            ) from error
        log.warning("%s; from here on at most %d frames at once", error, smaller.max_batch)
        self._workshop = smaller
        self._unloadable.clear()
        self._made_now.clear()
        if self._limits is not None:
            limit = self._limits.keep(smaller.max_batch, str(error))
            self._news.remark("limit", self._limits.words(limit))

    def ready(self) -> Optional[Supplied]:
        """The best engine that needs no building; None where there is none. Raises ConfigError."""
        if self._wanted is Precision.INT8:
            data = self._look_for(Precision.INT8)
            if data is not None:
                return Supplied(Precision.INT8, data)
        # Only now: it reads the float engine too.
        precision = self._float_precision()
        data = self._look_for(precision)
        return None if data is None else Supplied(precision, data)

    def load(self, supplied: Supplied) -> Optional[Engine]:
        """Loads an engine and warms it up; None on a stop meanwhile. Raises EngineError."""
        toolchain = self._toolchain
        return self._loader.load(lambda: toolchain.load(supplied.data, supplied.precision))

    def load_better(self, supplied: Supplied) -> Optional[Engine]:
        """Loads an improvement; None on a stop, and where it cannot be, which is told: what serves
        goes on."""
        try:
            return self.load(supplied)
        except EdgeError as error:
            words = f"the {supplied.precision.value} engine cannot serve: {error}"
            if isinstance(error, EngineOutOfMemory):
                # Both are in memory at once until they are exchanged; a start loads only the best.
                words += "; the next start tries it alone"
            log.error("%s", words)
            self._news.remark("improvement", words)
            return None

    def allocate(self, shape: Tuple[int, int, int, int]) -> Image:
        """Memory uint8 that the engines read frames from best; ends with `release` or `close`."""
        return self._device.allocate(shape)

    def release(self, rows: Image) -> None:
        """Frees what `allocate` gave, once nobody reads or writes it any more."""
        self._device.release(rows)

    def close(self) -> bool:
        """Lets the device go, once every engine is closed.

        False, and nothing, while one is still being loaded there that nobody waits for.
        """
        is_idle = self._loader.is_idle
        if is_idle:
            self._device.close()
        return is_idle

    def for_priority(self, on_status: OnStatus) -> EngineSupply:
        """The supply of engines for priority frames alone, on the same device.

        They are of what serves here at best: what the gate refused is not tried once more.
        """
        wanted = self.status.serving or self._wanted
        workshop = self._workshop.for_priority()
        return EngineSupply(workshop, wanted, on_status, self._clock, self._loader)

    def fails(self, words: str) -> None:
        """Says that no engine will serve, and what that means."""
        log.warning("%s", words)
        self._news.remark("failure", words)
        self._news.tell(state=EngineState.FAILED, progress=None, eta_s=None)

    def serves(self, precision: Precision) -> None:
        """Says that an engine was loaded and serves."""
        self._news.tell(state=EngineState.SERVING, serving=precision)

    def improvements(self) -> Iterator[Supplied]:
        """Engines that should take over, as they are made and pass.

        What goes wrong is told and logged, and what serves goes on.
        """
        if self.status.serving not in (None, Precision.INT8):
            yield from self._unless_failed(self._judge_first, self._make_int8)

    @property
    def is_built(self) -> bool:
        """False where what is wanted serves from the model itself: there is nothing to make."""
        wanted = self._wanted
        return wanted is Precision.INT8 or self._toolchain.ready(self._float_precision()) is None

    def remake(self) -> Iterator[Supplied]:
        """What is wanted, made anew from the model and the images as they are; told as above."""
        if self._wanted is Precision.INT8:
            yield from self._unless_failed(self._make_int8_again)
        else:
            yield from self._unless_failed(self._make_float_again, self._judge_first)

    def _unless_failed(self, *steps: Callable[[], Iterator[Supplied]]) -> Iterator[Supplied]:
        try:
            for step in steps:
                yield from step()
        except EdgeError as error:
            log.warning("no better engine: %s", error)
            self.failure = error
            self._news.remark("improvement", str(error))
        finally:
            self._news.tell(state=EngineState.SERVING, progress=None, eta_s=None)

    def _judge_first(self) -> Iterator[Supplied]:
        """Checks the first engine, where an exact one can tell and there is evidence."""
        first, exact = self._toolchain.first, self._toolchain.exact
        is_asked = self._wanted is not Precision.FP32 and self._maker.has_evidence
        if first is exact or not is_asked or first in self._unloadable:
            return
        found = self._find(first)
        gate = found.gate if isinstance(found, Hit) else None
        if gate is not None and self._maker.is_up_to_date(gate):
            self._news.gate(first, gate)
            return
        if not self._run(Task.JUDGE_FLOAT, first):
            return
        self._made(first)
        trusted = self._float_precision()
        if trusted is not self.status.serving:
            log.warning("by the images at hand %s is to serve", trusted.value)
            yield Supplied(trusted, self._made(trusted))

    def _make_int8(self) -> Iterator[Supplied]:
        if self._wanted is not Precision.INT8:
            return
        found = self._find(Precision.INT8)
        yield from self._make_int8_again() if isinstance(found, Miss) else self._offered(found)

    def _make_float_again(self) -> Iterator[Supplied]:
        precision = self._float_precision()
        if self._run(Task.MAKE_FLOAT, precision):
            yield Supplied(precision, self._made(precision))

    def _make_int8_again(self) -> Iterator[Supplied]:
        if self._run(Task.MAKE_INT8, self._float_precision()):
            yield from self._offered(self._find(Precision.INT8))

    def _offered(self, found: Union[Hit, Miss]) -> Iterator[Supplied]:
        """The INT8 engine, if the gate lets it through."""
        if isinstance(found, Miss):
            raise BuildError(f"the int8 engine was made but cannot be used: {found.reason}")
        if found.gate is not None:
            self._news.gate(Precision.INT8, found.gate)
        if found.data is not None:
            yield Supplied(Precision.INT8, found.data)

    def _float_precision(self) -> Precision:
        """The float engine to trust: the exact one where the first was found wanting."""
        first, exact = self._toolchain.first, self._toolchain.exact
        if self._wanted is Precision.FP32:
            return Precision.FP32
        if first in self._unloadable and (
            first in self._made_now or isinstance(self._find(exact), Hit)
        ):
            return exact
        found = self._find(first)
        gate = found.gate if isinstance(found, Hit) else None
        return exact if gate is not None and gate.verdict is Verdict.FAIL else first

    def _find(self, precision: Precision) -> Union[Hit, Miss]:
        unloadable = self._unloadable.get(precision)
        return self._maker.find(precision) if unloadable is None else Miss(unloadable)

    def _is_kept(self, precision: Precision) -> bool:
        """True for an engine of an earlier start: another driver may be why it is refused now."""
        return self._toolchain.ready(precision) is None and precision not in self._made_now

    def _has_exact(self, precision: Precision) -> bool:
        """True for the first engine where an exact one can stand in: weights may overflow in it."""
        return precision is self._toolchain.first and precision is not self._toolchain.exact

    def _look_for(self, precision: Precision) -> Optional[bytes]:
        found = self._find(precision)
        if isinstance(found, Miss):
            self._news.cache(precision, found.reason)
            log.info("no %s engine to use again: %s", precision.value, found.reason)
            return None
        if found.gate is not None:
            self._news.gate(precision, found.gate)
        self._news.cache(precision, HIT if found.data is not None else "refused by the gate")
        return found.data

    def _made(self, precision: Precision) -> bytes:
        """What was just made; its verdict is told."""
        found = self._find(precision)
        if isinstance(found, Miss) or found.data is None:
            reason = found.reason if isinstance(found, Miss) else "refused"
            raise BuildError(f"the {precision.value} engine was made but cannot be used: {reason}")
        if found.gate is not None:
            self._news.gate(precision, found.gate)
        return found.data

    def _run(self, task: Task, precision: Precision) -> bool:
        if self.status.serving is not None:
            self._news.tell(state=EngineState.IMPROVING)
        is_done = self._workshop.run(task, precision, self._news.progress)
        if is_done and task is not Task.JUDGE_FLOAT:
            made = Precision.INT8 if task is Task.MAKE_INT8 else precision
            self._made_now.add(made)
            self._unloadable.pop(made, None)
        self._news.tell(progress=None, eta_s=None)
        return is_done


def open_supply(
    plan: BuildPlan,
    graph: DeployedGraph,
    on_status: OnStatus,
    clock: Clock,
    stop: threading.Event,
) -> EngineSupply:
    """The supply of a graph's engines by a plan; what it builds ends with `stop`.

    Raises ConfigError where the backend is not installed, or the plan cannot be carried out.
    """
    toolchain = plan.toolchain(graph)
    has_calibration = plan.calibration.folder is not None
    wanted = wanted_precision(plan.engine, toolchain, has_calibration=has_calibration)
    workshop = Workshop(plan, graph, toolchain, stop)
    limits = workshop.limit_file(wanted)
    return EngineSupply(workshop, wanted, on_status, clock, Loader(stop), limits)
