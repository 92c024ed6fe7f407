"""The command: measures batch sizes and the line end to end, and may write its choice."""

from __future__ import annotations

import platform
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional

from edge import __version__
from edge.bench import words
from edge.bench.measurement import Measurement, Subject
from edge.bench.trial import TrialResult
from edge.building.climb import End
from edge.building.gauges import ProcessGauges
from edge.building.tune import Point, Rung, is_doubtful, knee, noise_at_knee
from edge.building.tune_plot import svg
from edge.building.tuning_file import Tuning, TuningKey, save_tuning, write_file
from edge.clock import SystemClock, rfc3339
from edge.config.schema import Config
from edge.errors import EngineOutOfMemory
from edge.health.board import read_board

PLOT_NAME = "tuning.svg"


class Bench:
    """One measurement of a configuration; its parts are called in the order they stand here."""

    def __init__(self, config: Config, seconds: float, cameras: int) -> None:
        self._config = config
        self._seconds = seconds
        self._cameras = cameras
        self._gauges = ProcessGauges()
        self._board = read_board()
        self._subject: Optional[Subject] = None
        self._rungs: Dict[int, Rung] = {}
        self._end: Optional[End] = None
        self._trial: Optional[TrialResult] = None
        self._tuning_path: Optional[Path] = None
        self._plot_path: Optional[Path] = None

    def measure(self, stop: threading.Event) -> Iterator[str]:
        """What is measured, at once, and the table at the end, which comes early on `stop`.

        Raises EngineOutOfMemory where not even one frame fits, and what loading raises.
        """
        measurement = Measurement(self._config, self._seconds, self._cameras, self._gauges)
        for finding in measurement.findings(stop):
            if isinstance(finding, Subject):
                self._subject = finding
                yield from self._introduction(finding)
            elif isinstance(finding, Rung):
                self._rungs[finding.batch] = finding
            elif isinstance(finding, End):
                self._end = finding
                self._rungs = {batch: self._rungs[batch] for batch in finding.sizes}
            elif isinstance(finding, TrialResult):
                self._trial = finding
            else:
                yield from self._table()
                raise finding
        if self._end is not None and not self._rungs:
            raise EngineOutOfMemory(self._end.out_of_memory)
        yield from self._table()
        yield from self._conclusion()
        yield from self._end_to_end()

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
            title = f"{self._subject.graph.name} on {words.engine_words(self._subject.engine)}"
            write_file(plot, svg(title, self._points, chosen, self._other_ways))
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
            "end_to_end": self._trial and self._trial.summary(),
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

    @property
    def _other_ways(self) -> Mapping[str, List[Point]]:
        """The curves beside the daemon's, on a device."""
        pairs = [(rung, rung.device) for rung in self._rungs.values() if rung.device]
        if not pairs:
            return {}
        return {
            "compute alone": [Point(rung.batch, d.compute_alone_fps) for rung, d in pairs],
            "serial": [Point(rung.batch, d.serial.throughput_fps) for rung, d in pairs],
        }

    def _introduction(self, subject: Subject) -> Iterator[str]:
        yield from words.board_lines(self._board, self._gauges.cores)
        if subject.card is not None:
            yield words.card_line(subject.card)
        yield from words.introduction(subject, self._seconds)

    def _table(self) -> Iterator[str]:
        yield from words.table(list(self._rungs.values()), self._power_of)

    def _end_to_end(self) -> Iterator[str]:
        if self._trial is not None:
            yield from words.trial_lines(self._trial, self._power_of)
        elif self._end is not None and self._cameras:
            yield "interrupted: nothing is told of the cameras"

    @property
    def _power_of(self) -> str:
        return "" if self._subject is None else self._subject.power_of

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
            "board": asdict(self._board),
            "card": subject and subject.card and asdict(subject.card),
            "power_of": (subject and subject.power_of) or None,
        }


def _optional_text(path: Optional[Path]) -> Optional[str]:
    return None if path is None else str(path)
