"""`edge build`: makes the engine that `edge run` will serve, and says what it is worth."""

from __future__ import annotations

import contextlib
import platform
import sys
import threading
import time
from typing import Any, Dict, Iterator, Optional

from edge import __version__
from edge.building.graph import deploy
from edge.building.plan import STORE_NAME, BuildPlan
from edge.building.supply import HIT, EngineSupply, open_supply
from edge.clock import SystemClock
from edge.config.schema import Config
from edge.engines import needs_priority_engine
from edge.errors import ConfigError, EdgeError
from edge.health.machine import read_machine
from edge.inference.engine import Engine
from edge.records import EngineInfo, EngineState, EngineStatus

_BAR_CELLS = 24

# A log file gets a line this often instead of a bar that moves.
_PLAIN_PERIOD_S = 10.0


class Build:
    """One build of a configuration's engines; first its `lines`, then its `summary`."""

    def __init__(self, config: Config, stop: threading.Event) -> None:
        self._config = config
        self._stop = stop
        self._progress = ProgressLine()
        self._shared: Optional[_Built] = None
        self._priority: Optional[_Built] = None
        self._began_s = time.monotonic()

    def lines(self) -> Iterator[str]:
        """What happens, as it does; ends early on `stop`.

        Raises BuildError, ModelError or ConfigError where nothing can serve, and ConfigError in the
        end where the user must change something for the wanted engine.
        """
        config = self._config
        graph = deploy(config.model.path, config.model)
        width, height = graph.preprocessing.input_wh
        yield f"model     {graph.name}: {graph.head} head, input {width}x{height}"
        plan = BuildPlan.of(config, read_machine().module)
        supply = open_supply(plan, graph, self._on_status, SystemClock(), self._stop)
        with contextlib.closing(supply):
            try:
                shared = self._shared = _Built(supply)
                yield from self._work(shared)
                if needs_priority_engine(config, shared.in_flight) and not self._stop.is_set():
                    yield from self._work_for_priority(supply)
            finally:
                self._progress.clear()
        yield from self._conclusion(shared)

    def summary(self) -> Dict[str, Any]:
        """All of it as one JSON object."""
        return {
            "schema": "edge.build/1",
            "app_version": __version__,
            "python": platform.python_version(),
            **(self._shared.summary() if self._shared else _NOTHING),
            "priority": self._priority and self._priority.summary(),
            "is_complete": not self._stop.is_set(),
            "seconds": round(time.monotonic() - self._began_s, 1),
        }

    def _work(self, built: _Built) -> Iterator[str]:
        supply = built.supply
        opened = supply.open_first(self._stop)
        for precision, finding in supply.status.cache.items():
            if finding != HIT:
                yield f"cache     {precision.value}: {finding}"
        if opened is None:
            return
        serving, first = opened
        yield from self._loaded(built, first)
        supply.serves(serving)
        for better in supply.improvements():
            engine = supply.load_better(better)
            if engine is not None:
                yield from self._loaded(built, engine)
                supply.serves(better.precision)

    def _work_for_priority(self, shared: EngineSupply) -> Iterator[str]:
        yield "priority  an engine for these frames alone, one at a time"
        supply = shared.for_priority(self._on_status)
        self._priority = _Built(supply)
        try:
            yield from self._work(self._priority)
        except EdgeError as error:
            supply.fails(f"priority frames go on through the shared engine: {error}")

    def _loaded(self, built: _Built, engine: Engine) -> Iterator[str]:
        """Says of an engine that it can serve; loading was the proof."""
        with contextlib.closing(engine):
            info = built.served = engine.info
            built.in_flight = engine.in_flight
        self._progress.clear()
        yield (
            f"engine    {info.precision} on {info.backend} {info.version} ({info.device}), "
            f"up to {info.max_batch} {'frames' if info.max_batch > 1 else 'frame'} at once"
        )

    def _conclusion(self, shared: _Built) -> Iterator[str]:
        if self._stop.is_set():
            yield "interrupted: what was finished is kept"
            return
        failure = shared.supply.failure
        must_change = isinstance(failure, ConfigError)
        yield from shared.findings(is_told=must_change)
        if self._priority is not None:
            yield from self._priority.findings(is_told=False)
            if self._priority.served is not None:
                yield f"priority  {self._priority.served.precision} serves these frames"
        if shared.served is not None:
            took_s = time.monotonic() - self._began_s
            folder = self._config.device.state_dir / STORE_NAME
            yield f"serves    {shared.served.precision}, after {took_s:.0f} s; engines in {folder}"
        if failure is not None and must_change:
            raise failure

    def _on_status(self, status: EngineStatus) -> None:
        if status.progress is None or status.state is EngineState.SERVING:
            self._progress.clear()
        else:
            self._progress.show(progress_text(status))


_NOTHING: Dict[str, Any] = {"wanted": None, "serves": None, "cache": {}, "gate": {}, "message": ""}


class _Built:
    """What came of a supply; `served` is the engine that was loaded last."""

    def __init__(self, supply: EngineSupply) -> None:
        self.supply = supply
        self.served: Optional[EngineInfo] = None
        self.in_flight = 1

    def summary(self) -> Dict[str, Any]:
        """All of it for the JSON object."""
        status = self.supply.status
        return {
            "wanted": status.wanted.value,
            "serves": None if self.served is None else vars(self.served),
            "cache": {precision.value: why for precision, why in status.cache.items()},
            "gate": {
                precision.value: report.model_dump(mode="json", by_alias=True)
                for precision, report in self.supply.reports.items()
            },
            "message": status.message,
        }

    def findings(self, *, is_told: bool) -> Iterator[str]:
        """What the gate said, and what went wrong unless it `is_told` as an error."""
        for report in self.supply.reports.values():
            yield from report.lines()
        if self.supply.status.message and not is_told:
            yield f"but       {self.supply.status.message}"


class ProgressLine:
    """Shows progress on stderr: in place on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._is_shown = False
        self._shown_s = -_PLAIN_PERIOD_S

    def show(self, text: str) -> None:
        """Puts a text in the place of the one before."""
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{text}")
            self._is_shown = True
        elif time.monotonic() - self._shown_s >= _PLAIN_PERIOD_S:
            self._shown_s = time.monotonic()
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def clear(self) -> None:
        """Leaves the line to others."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._is_shown = False


def progress_text(status: EngineStatus) -> str:
    """How far a build is, in one line."""
    progress = status.progress
    if progress is None:
        return ""
    words = f"{progress.phase.value} {progress.precision.value}"
    if progress.done is not None:
        full = round(_BAR_CELLS * progress.done)
        words += f" [{'#' * full}{'.' * (_BAR_CELLS - full)}] {100 * progress.done:3.0f} %"
    if progress.message:
        words += f"  {progress.message}"
    if status.eta_s is not None:
        words += f"  about {status.eta_s:.0f} s left"
    return words
