"""How far TensorRT is: from its progress monitor, or before version 10 from what it logs."""

from __future__ import annotations

import re
from typing import Any, Dict, Optional

from edge.config.schema import Precision
from edge.records import BuildPhase, BuildProgress, OnProgress

# Lines that 8.x logs while it builds; each layer's costs are computed once.
_LAYERS = re.compile(r"After final dead-layer removal: (\d+) layers")
_COSTS = "=============== Computing costs for"
# More would only flood those who listen.
_SMALLEST_STEP = 0.01


class BuildMeter:
    """Turns what is heard of one build into a number that only grows, and passes it on.

    The build is the part of the whole from `start` to `end`.
    """

    def __init__(
        self, precision: Precision, on_progress: OnProgress, start: float = 0.0, end: float = 1.0
    ) -> None:
        self._precision = precision
        self._on_progress = on_progress
        self._start = start
        self._end = end
        self._told: Optional[float] = None
        self._layers = 0
        self._costs = 0

    def hear(self, line: str) -> None:
        """Takes a line of TensorRT's log."""
        if line.startswith(_COSTS):
            self._costs += 1
            self.advance(self._costs / max(self._layers, self._costs))
            return
        found = _LAYERS.search(line)
        if found is not None:
            self._layers, self._costs = int(found.group(1)), 0

    def advance(self, share: float) -> None:
        """Takes how much of this build is done, 0..1."""
        done = self._start + min(max(share, 0.0), 1.0) * (self._end - self._start)
        is_news = self._told is None or done >= self._told + _SMALLEST_STEP
        if is_news:
            self._told = done
            self._on_progress(BuildProgress(BuildPhase.BUILDING, self._precision, done))

    def span(self, start: float, end: float) -> None:
        """From here on TensorRT does another part of the whole."""
        self._start, self._end = start, end

    def calibrated(self, batches: int, count: int) -> None:
        """Takes how many batches the calibration has had, of how many."""
        done = min(batches / max(count, 1), 1.0)
        message = f"calibration batch {batches} of {count}"
        self._on_progress(BuildProgress(BuildPhase.CALIBRATING, self._precision, done, message))


class PhaseTree:
    """Phases within phases, as TensorRT's progress monitor tells of them."""

    def __init__(self) -> None:
        self._steps: Dict[str, int] = {}
        self._done: Dict[str, int] = {}
        self._parents: Dict[str, Optional[str]] = {}

    def start(self, name: str, parent: Optional[str], steps: int) -> None:
        """A phase of so many steps begins inside `parent`."""
        self._steps[name], self._done[name], self._parents[name] = max(steps, 1), 0, parent

    def step(self, name: str, step: int) -> None:
        """The step of this number, from 0, is over."""
        if name in self._done:
            self._done[name] = min(step + 1, self._steps[name])

    def finish(self, name: str) -> None:
        """The phase is over; what its parent counts of it, the parent's own step says."""
        for table in (self._steps, self._done, self._parents):
            table.pop(name, None)

    @property
    def share(self) -> float:
        """How much of the outermost phase is done, 0..1."""
        roots = [name for name, parent in self._parents.items() if parent not in self._steps]
        return self._share(roots[0]) if roots else 0.0

    def _share(self, name: str) -> float:
        children = [child for child, parent in self._parents.items() if parent == name]
        inside = max((self._share(child) for child in children), default=0.0)
        return min((self._done[name] + inside) / self._steps[name], 1.0)


def as_monitor(trt: Any, meter: BuildMeter) -> Any:
    """A `trt.IProgressMonitor` that tells the meter; it must outlive the build."""
    phases = PhaseTree()

    def initialise(self: Any) -> None:
        trt.IProgressMonitor.__init__(self)

    def phase_start(self: Any, phase: str, parent: Optional[str], steps: int) -> None:
        phases.start(phase, parent, steps)

    def step_complete(self: Any, phase: str, step: int) -> bool:
        phases.step(phase, step)
        meter.advance(phases.share)
        return True  # go on

    def phase_finish(self: Any, phase: str) -> None:
        phases.finish(phase)

    members = {
        "__init__": initialise,
        "phase_start": phase_start,
        "step_complete": step_complete,
        "phase_finish": phase_finish,
    }
    return type("EdgeProgressMonitor", (trt.IProgressMonitor,), members)()
