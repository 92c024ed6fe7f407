"""What is told of a graph's engines: what serves, what is made and how far, what the gate found."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Callable, Dict, Optional

from edge.building.gate_report import GateReport, Verdict
from edge.clock import NS_PER_S, Clock
from edge.config.schema import Precision
from edge.records import BuildProgress, EngineState, EngineStatus, GateOutcome

log = logging.getLogger(__name__)

OnStatus = Callable[[EngineStatus], None]
"""Told which engine serves and which is made; must return at once."""

# Progress is told this often at most, a change of phase at once.
_PROGRESS_NS = NS_PER_S

# Before this share is done its speed says nothing.
_ENOUGH_FOR_ETA = 0.05


class EngineNews:
    """Tells `on_status` of every change.

    `reports` are the gate's, of the engines that were looked at.
    """

    def __init__(self, wanted: Precision, on_status: OnStatus, clock: Clock) -> None:
        self._on_status = on_status
        self._clock = clock
        self.status = EngineStatus(EngineState.LOADING, wanted)
        self.reports: Dict[Precision, GateReport] = {}
        self._remarks: Dict[str, str] = {}
        self._told_ns = 0
        self._phase_began_ns = 0
        self._phase_began_at = 0.0

    def tell(self, **changes: Any) -> None:
        """Tells what has changed of the status; nothing where nothing has."""
        status = replace(self.status, **changes)
        if status != self.status:
            self.status = status
            self._on_status(status)

    def remark(self, about: str, words: str) -> None:
        """Tells what went wrong or was decided, in the place of what was said `about` it before."""
        self._remarks[about] = words
        self.tell(message="; ".join(self._remarks.values()))

    def cache(self, precision: Precision, finding: str) -> None:
        """Tells whether an engine of an earlier start can be used again."""
        self.tell(cache={**self.status.cache, precision: finding})

    def gate(self, precision: Precision, report: GateReport) -> None:
        """Tells the gate's verdict."""
        outcome = outcome_of(precision, report)
        self.reports[precision] = report
        level = logging.INFO if report.verdict is Verdict.PASS else logging.WARNING
        log.log(level, "%s: %s", precision.value, outcome.summary)
        self.tell(gate=outcome)

    def progress(self, progress: BuildProgress) -> None:
        """Tells how far a build is, now and then."""
        now_ns = self._clock.monotonic_ns()
        before = self.status.progress
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
        self.tell(progress=progress, eta_s=eta_s)


def eta(done: Optional[float], began_at: float, elapsed_s: float) -> Optional[float]:
    """Seconds that the rest takes if it goes on as it did since `began_at`; None where unknown."""
    if done is None or done - began_at < _ENOUGH_FOR_ETA:
        return None
    return elapsed_s * (1 - done) / (done - began_at)


def outcome_of(precision: Precision, report: GateReport) -> GateOutcome:
    """A report's verdict, as the other rooms know it."""
    overall = report.overall
    return GateOutcome(precision, report.verdict.value, overall.loss, overall.boxes, report.summary)
