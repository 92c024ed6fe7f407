"""Which engine serves: the first that can at once, then the best the gate lets through."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterator, Optional, Set, Tuple, Union

from edge.building.build_process import run_job
from edge.building.engine_store import Hit, Miss
from edge.building.gate_report import GateReport, Verdict
from edge.building.make import Maker
from edge.building.plan import BuildPlan
from edge.building.toolchain import Toolchain, wanted_precision
from edge.building.worker import Job, Task
from edge.clock import NS_PER_S, Clock
from edge.config.schema import Precision
from edge.errors import BuildError, CudaError, EdgeError, EngineOutOfMemory
from edge.geometry import Image
from edge.inference.engine import Engine
from edge.records import (
    BuildProgress,
    DeployedGraph,
    EngineState,
    EngineStatus,
    GateOutcome,
    OnProgress,
)

log = logging.getLogger(__name__)

RunTask = Callable[[Task, Precision, OnProgress], bool]
"""Does a task in a process of its own; False where that was told to stop."""

OnStatus = Callable[[EngineStatus], None]
"""Told which engine serves and which is made; must return at once."""

HIT = "hit"
"""What `EngineStatus.cache` says of an engine that is used again."""

# Progress is told this often at most, a change of phase at once.
_PROGRESS_NS = NS_PER_S

# Before this share is done its speed says nothing.
_ENOUGH_FOR_ETA = 0.05


@dataclass(frozen=True)
class Supplied:
    """An engine to load."""

    precision: Precision
    data: bytes


class EngineSupply:
    """Finds or makes engines of one graph, and tells `on_status` all about it.

    `first` gives what can serve soonest; `improvements` what should take over from it. `reports`
    are the gate's, of the engines that were looked at; `failure` is what ended the improvements.
    """

    def __init__(
        self,
        maker: Maker,
        toolchain: Toolchain,
        wanted: Precision,
        run_task: RunTask,
        on_status: OnStatus,
        clock: Clock,
    ) -> None:
        self._maker = maker
        self._toolchain = toolchain
        self._wanted = wanted
        self._run_task = run_task
        self._on_status = on_status
        self._clock = clock
        self._status = EngineStatus(EngineState.LOADING, wanted)
        self.reports: Dict[Precision, GateReport] = {}
        self.failure: Optional[EdgeError] = None
        self._unloadable: Dict[Precision, str] = {}
        self._made_now: Set[Precision] = set()
        self._told_ns = 0
        self._phase_began_ns = 0
        self._phase_began_at = 0.0

    @property
    def status(self) -> EngineStatus:
        """What was told last."""
        return self._status

    def first(self) -> Optional[Supplied]:
        """The best engine on the disk, else the first one, made now; None where told to stop.

        Raises BuildError or ConfigError.
        """
        ready = self.ready()
        if ready is not None:
            return ready
        precision = self._float_precision()
        self._tell(state=EngineState.BUILDING)
        if not self._run(Task.MAKE_FLOAT, precision):
            return None
        return Supplied(precision, self._made(precision))

    def open_first(self, stop: threading.Event) -> Optional[Tuple[Precision, Engine]]:
        """`first`, loaded; what was kept and cannot be loaded is made anew. None on `stop`.

        Raises as `first`, and EngineError where even a new engine cannot be loaded.
        """
        return self._open(self.first, stop)

    def open_ready(self) -> Optional[Tuple[Precision, Engine]]:
        """`ready`, loaded; what cannot be loaded is passed over. Raises as `open_first`."""
        return self._open(self.ready, threading.Event())

    def _open(
        self, find: Callable[[], Optional[Supplied]], stop: threading.Event
    ) -> Optional[Tuple[Precision, Engine]]:
        while True:
            supplied = find()
            if supplied is None or stop.is_set():
                return None
            try:
                return supplied.precision, self.load(supplied)
            except EdgeError as error:
                # Neither of these says anything about the engine.
                if isinstance(error, (EngineOutOfMemory, CudaError)):
                    raise
                if not (self._is_kept(supplied.precision) or self._has_exact(supplied.precision)):
                    raise
                reason = f"cannot be loaded: {error}"
                log.warning("the %s engine %s", supplied.precision.value, reason)
                self._unloadable[supplied.precision] = reason
                self._tell_cache(supplied.precision, reason)

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

    def load(self, supplied: Supplied) -> Engine:
        """Loads an engine and warms it up. Raises EngineError."""
        return self._toolchain.load(supplied.data, supplied.precision)

    def load_better(self, supplied: Supplied) -> Optional[Engine]:
        """Loads an improvement; None where it cannot be, which is told: what serves goes on."""
        try:
            return self.load(supplied)
        except EdgeError as error:
            log.error("the %s engine cannot serve: %s", supplied.precision.value, error)
            self._tell(message=f"the {supplied.precision.value} engine cannot serve: {error}")
            return None

    @property
    def allocate(self) -> Callable[[Tuple[int, int, int, int]], Image]:
        """Makes the memory that the engines read frames from best; it ends with `close`."""
        return self._toolchain.allocate

    def close(self) -> None:
        """Lets the device go, once every engine is closed."""
        self._toolchain.close()

    def serves(self, precision: Precision) -> None:
        """Says that an engine was loaded and serves."""
        self._tell(state=EngineState.SERVING, serving=precision)

    def improvements(self) -> Iterator[Supplied]:
        """Engines that should take over, as they are made and pass.

        What goes wrong is told and logged, and what serves goes on.
        """
        if self._status.serving in (None, Precision.INT8):
            return
        try:
            yield from self._judge_first()
            yield from self._make_int8()
        except EdgeError as error:
            log.warning("no better engine: %s", error)
            self.failure = error
            self._tell(message=str(error))
        finally:
            self._tell(state=EngineState.SERVING, progress=None, eta_s=None)

    def _judge_first(self) -> Iterator[Supplied]:
        """Checks the first engine, where an exact one can tell and there is evidence."""
        first, exact = self._toolchain.first, self._toolchain.exact
        is_asked = self._wanted is not Precision.FP32 and self._maker.has_evidence
        if first is exact or not is_asked or first in self._unloadable:
            return
        found = self._find(first)
        gate = found.gate if isinstance(found, Hit) else None
        if gate is not None and self._maker.is_up_to_date(gate):
            self._tell_gate(first, gate)
            return
        if not self._run(Task.JUDGE_FLOAT, first):
            return
        self._made(first)
        trusted = self._float_precision()
        if trusted is not self._status.serving:
            log.warning("by the images at hand %s is to serve", trusted.value)
            yield Supplied(trusted, self._made(trusted))

    def _make_int8(self) -> Iterator[Supplied]:
        if self._wanted is not Precision.INT8:
            return
        found = self._find(Precision.INT8)
        if isinstance(found, Miss):
            if not self._run(Task.MAKE_INT8, self._float_precision()):
                return
            found = self._find(Precision.INT8)
        if isinstance(found, Miss):
            raise BuildError(f"the int8 engine was made but cannot be used: {found.reason}")
        if found.gate is not None:
            self._tell_gate(Precision.INT8, found.gate)
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
            self._tell_cache(precision, found.reason)
            log.info("no %s engine to use again: %s", precision.value, found.reason)
            return None
        if found.gate is not None:
            self._tell_gate(precision, found.gate)
        self._tell_cache(precision, HIT if found.data is not None else "refused by the gate")
        return found.data

    def _made(self, precision: Precision) -> bytes:
        """What was just made; its verdict is told."""
        found = self._find(precision)
        if isinstance(found, Miss) or found.data is None:
            reason = found.reason if isinstance(found, Miss) else "refused"
            raise BuildError(f"the {precision.value} engine was made but cannot be used: {reason}")
        if found.gate is not None:
            self._tell_gate(precision, found.gate)
        return found.data

    # --- what is told -------------------------------------------------------------------------

    def _run(self, task: Task, precision: Precision) -> bool:
        if self._status.serving is not None:
            self._tell(state=EngineState.IMPROVING)
        is_done = self._run_task(task, precision, self._on_progress)
        if is_done and task is not Task.JUDGE_FLOAT:
            made = Precision.INT8 if task is Task.MAKE_INT8 else precision
            self._made_now.add(made)
            self._unloadable.pop(made, None)
        self._tell(progress=None, eta_s=None)
        return is_done

    def _on_progress(self, progress: BuildProgress) -> None:
        now_ns = self._clock.monotonic_ns()
        before = self._status.progress
        is_new_phase = before is None or (
            (before.phase, before.precision) != (progress.phase, progress.precision)
        )
        if is_new_phase:
            self._phase_began_ns = now_ns
            self._phase_began_at = progress.done or 0.0
            log.info("%s %s", progress.phase.value, progress.precision.value)
        elif now_ns - self._told_ns < _PROGRESS_NS:
            return
        self._told_ns = now_ns
        elapsed_s = (now_ns - self._phase_began_ns) / NS_PER_S
        eta_s = eta(progress.done, self._phase_began_at, elapsed_s)
        self._tell(progress=progress, eta_s=eta_s)

    def _tell_cache(self, precision: Precision, finding: str) -> None:
        self._tell(cache={**self._status.cache, precision: finding})

    def _tell_gate(self, precision: Precision, report: GateReport) -> None:
        outcome = outcome_of(precision, report)
        self.reports[precision] = report
        level = logging.INFO if report.verdict is Verdict.PASS else logging.WARNING
        log.log(level, "%s: %s", precision.value, outcome.summary)
        self._tell(gate=outcome)

    def _tell(self, **changes: Any) -> None:
        status = replace(self._status, **changes)
        if status != self._status:
            self._status = status
            self._on_status(status)


def eta(done: Optional[float], began_at: float, elapsed_s: float) -> Optional[float]:
    """Seconds that the rest takes if it goes on as it did since `began_at`; None where unknown."""
    if done is None or done - began_at < _ENOUGH_FOR_ETA:
        return None
    return elapsed_s * (1 - done) / (done - began_at)


def outcome_of(precision: Precision, report: GateReport) -> GateOutcome:
    """A report's verdict, as the other rooms know it."""
    overall = report.overall
    return GateOutcome(precision, report.verdict.value, overall.loss, overall.boxes, report.summary)


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

    def run_task(task: Task, precision: Precision, on_progress: OnProgress) -> bool:
        level = logging.getLogger().getEffectiveLevel()
        job = Job(task=task, precision=precision, plan=plan, log_level=level)
        return run_job(job, on_progress, stop)

    maker = plan.maker(graph, toolchain)
    return EngineSupply(maker, toolchain, wanted, run_task, on_status, clock)
