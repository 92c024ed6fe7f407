"""`edge bench`: measures the configured model at growing batch sizes, and may write its choice."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import queue
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Union

from edge import __version__
from edge.building.gauges import ProcessGauges
from edge.building.graph import deploy
from edge.building.plan import BuildPlan
from edge.building.supply import open_supply
from edge.building.tune import Climb, End, Point, Rung, is_doubtful, knee, noise_at_knee
from edge.building.tune_plot import svg
from edge.building.tuning_file import Tuning, TuningKey, save_tuning, write_file
from edge.clock import SystemClock, rfc3339
from edge.config.schema import Config
from edge.errors import EdgeError, EngineOutOfMemory
from edge.health.machine import read_machine
from edge.inference.chunks import batch_cap
from edge.records import DeployedGraph, EngineInfo
from edge.threads import SupervisedThread

PLOT_NAME = "tuning.svg"

# A stop is noticed within this time.
_POLL_S = 0.1

_HEADER = "batch  calls  repeats   p50 ms   p99 ms  frames/s   +/- %  cpu %  memory MiB  MiB/row"


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is measured; `load_mb` is the MiB of memory that loading it took."""

    graph: DeployedGraph
    engine: EngineInfo
    load_mb: float


Finding = Union[Subject, Rung, End, EdgeError]


class Bench:
    """One measurement of a configuration; its parts are called in the order they stand here."""

    def __init__(self, config: Config, seconds: float) -> None:
        self._config = config
        self._seconds = seconds
        self._gauges = ProcessGauges()
        self._subject: Optional[Subject] = None
        self._rungs: Dict[int, Rung] = {}
        self._end: Optional[End] = None
        self._tuning_path: Optional[Path] = None
        self._plot_path: Optional[Path] = None

    def measure(self, stop: threading.Event) -> Iterator[str]:
        """What is measured, at once, and the table at the end, which comes early on `stop`.

        Raises EngineOutOfMemory where not even one frame fits, and what loading raises.
        """
        for finding in _in_thread(self._findings(stop), stop):
            if isinstance(finding, Subject):
                self._subject = finding
                yield from _introduction(finding, self._seconds)
            elif isinstance(finding, Rung):
                self._rungs[finding.batch] = finding
            elif isinstance(finding, End):
                self._end = finding
                self._rungs = {batch: self._rungs[batch] for batch in finding.sizes}
            else:
                yield from self._table()
                raise finding
        if self._end is not None and not self._rungs:
            raise EngineOutOfMemory(self._end.out_of_memory)
        yield from self._table()
        yield from self._conclusion()

    def save(self, plot: Optional[Path], *, is_tuning: bool) -> Iterator[str]:
        """Writes the plot, where one is asked for, and the choice; ConfigError if it cannot.

        Of an interrupted measurement only the plot that was asked for is written.
        """
        chosen = self.chosen
        if is_tuning and self._subject is not None and chosen is not None:
            self._tuning_path = self._save_tuning(self._subject, chosen)
            yield f"written   {self._tuning_path}: `edge run` uses it from its next start on"
            if "target" in self._config.batching.model_fields_set:
                yield (
                    f"but       batching.target in the config says {self._config.batching.target} "
                    "and goes first; remove it to use the choice"
                )
            plot = plot or self._config.device.state_dir / PLOT_NAME
        if plot is not None and self._subject is not None and self._rungs:
            title = f"{self._subject.graph.name} on {_engine_words(self._subject.engine)}"
            write_file(plot, svg(title, self._points, chosen))
            self._plot_path = plot
            yield f"plot      {plot}"

    def summary(self) -> Dict[str, Any]:
        """All of it as one JSON object; paths are null where nothing was written."""
        return {
            "schema": "edge.bench/1",
            **self._circumstances(),
            "rows": self._rows,
            "knee": self.chosen,
            "is_knee_doubtful": is_doubtful(self._points),
            "out_of_memory": (self._end and self._end.out_of_memory) or None,
            "is_complete": self._end is not None,
            "tuning": _optional_text(self._tuning_path),
            "plot": _optional_text(self._plot_path),
        }

    @property
    def chosen(self) -> Optional[int]:
        """The knee; None where the measurement was interrupted."""
        return None if self._end is None else knee(self._points)

    @property
    def _points(self) -> List[Point]:
        return [rung.point for rung in self._rungs.values()]

    @property
    def _rows(self) -> List[Dict[str, Any]]:
        return [rung.row() for rung in self._rungs.values()]

    def _findings(self, stop: threading.Event) -> Iterator[Finding]:
        config = self._config
        before_mb = self._gauges.rss_mb()
        graph = deploy(config.model.path, config.model)
        module = read_machine().module
        plan = BuildPlan.of(config, module)
        supply = open_supply(plan, graph, lambda status: None, SystemClock(), stop)
        with contextlib.closing(supply):
            opened = supply.open_first(stop)
            if opened is None:
                return
            with contextlib.closing(opened[1]) as engine:
                cap, _ = batch_cap(engine.info.max_batch, config.engine.max_batch, module)
                info = dataclasses.replace(engine.info, max_batch=cap)
                yield Subject(graph, info, self._gauges.rss_mb() - before_mb)
                climb = Climb(engine, cap, self._seconds, stop.is_set, self._gauges)
                yield from climb.findings()

    def _table(self) -> Iterator[str]:
        if self._rungs:
            yield _HEADER
            yield from map(_line, self._rungs.values())
            yield "memory    resident in all; MiB/row is its growth per added frame, a rough number"

    def _conclusion(self) -> Iterator[str]:
        if self._end is None:
            yield "interrupted: no choice is made from an unfinished table"
            return
        if self._end.out_of_memory:
            yield f"ended     {self._end.out_of_memory}"
        yield f"knee      {self.chosen}: the smallest batch with 95 % of the best throughput"
        if is_doubtful(self._points):
            noise_pct = 100 * noise_at_knee(self._points)
            yield (
                f"doubtful  the throughputs it was chosen by are known to +/- {noise_pct:.0f} % "
                "only: measure longer (--seconds), or while the machine does nothing else"
            )

    def _save_tuning(self, subject: Subject, chosen: int) -> Path:
        tuning = Tuning(
            schema="edge.tuning/1",
            created=rfc3339(SystemClock().unix_ms()),
            key=TuningKey.of(subject.graph, subject.engine),
            target=chosen,
            table=self._rows,
        )
        return save_tuning(self._config.device.state_dir, tuning)

    def _circumstances(self) -> Dict[str, Any]:
        subject = self._subject
        return {
            "app_version": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cores": self._gauges.cores,
            "seconds": self._seconds,
            "key": subject and TuningKey.of(subject.graph, subject.engine).model_dump(mode="json"),
            "load_mb": subject and round(subject.load_mb, 1),
        }


def _in_thread(findings: Iterator[Finding], stop: threading.Event) -> Iterator[Finding]:
    """Gathers in a thread, so that neither a loading model nor a long batch delays a stop."""
    found: queue.SimpleQueue[Finding] = queue.SimpleQueue()

    def gather() -> None:
        try:
            for finding in findings:
                found.put(finding)
        except EdgeError as error:
            found.put(error)

    def fail(name: str, error: BaseException) -> None:
        found.put(EdgeError(f"{name} died: {error!r}"))

    thread = SupervisedThread("bench", gather, fail)
    thread.start()
    while True:
        # Asked first: what arrives between an empty queue and these would be lost.
        is_last_look = stop.is_set() or not thread.is_alive
        try:
            yield found.get(timeout=0 if is_last_look else _POLL_S)
        except queue.Empty:
            if is_last_look:
                return


def _introduction(subject: Subject, seconds: float) -> Iterator[str]:
    width, height = subject.graph.preprocessing.input_wh
    cap = subject.engine.max_batch
    yield f"model     {subject.graph.name}, input {width}x{height}"
    yield f"engine    {_engine_words(subject.engine)}, loaded into {subject.load_mb:.0f} MiB"
    yield f"at once   up to {cap} frames; larger batches run as several calls"
    yield f"measuring for about {seconds:g} s, longer if the model is slow; Ctrl-C ends"


def _engine_words(engine: EngineInfo) -> str:
    return f"{engine.backend} {engine.version} ({engine.device}, {engine.precision})"


def _line(rung: Rung) -> str:
    timing = rung.timing
    return (
        f"{rung.batch:5d}  {rung.calls:5d}  {timing.repeats:7d}  {timing.latency_ms_p50:7.1f}  "
        f"{timing.latency_ms_p99:7.1f}  {timing.throughput_fps:8.1f}  {100 * timing.noise:6.1f}  "
        f"{100 * rung.cpu_utilization:5.0f}  {rung.rss_mb:10.0f}  {rung.rss_mb_per_row:7.1f}"
    )


def _optional_text(path: Optional[Path]) -> Optional[str]:
    return None if path is None else str(path)
