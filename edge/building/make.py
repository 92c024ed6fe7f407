"""Makes one engine, judges it and keeps it; what the worker process does."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
from pathlib import Path
from typing import NamedTuple, Optional, Tuple, Union

from edge.building.calibration import Images, folder_sha256, letterboxed, read_calibration
from edge.building.calibration_lint import Expectations
from edge.building.engine_store import EngineStore, Hit, Miss
from edge.building.fingerprint import CalibrationKey, Fingerprint, GraphKey
from edge.building.gate import Gate, Predictions
from edge.building.gate_pictures import write_pictures
from edge.building.gate_report import GateReport, Verdict
from edge.building.judge import HoldOut, Judge
from edge.building.toolchain import CalibrationFeed, Toolchain
from edge.clock import SystemClock, rfc3339
from edge.config.schema import (
    CalibrationConfig,
    CalibrationMethod,
    GateConfig,
    Precision,
)
from edge.errors import BuildError, ConfigError
from edge.records import DeployedGraph, OnProgress

log = logging.getLogger(__name__)


class Built(NamedTuple):
    """An engine on its way to the gate."""

    precision: Precision
    data: bytes


class Trial(NamedTuple):
    """Images nobody has learnt from, and who judges by them."""

    hold_out: HoldOut
    judge: Judge


class Maker:
    """Makes engines of one graph with one toolchain into one store.

    Every method that makes something may raise BuildError, ModelError or ConfigError.
    """

    def __init__(
        self,
        graph: DeployedGraph,
        toolchain: Toolchain,
        store: EngineStore,
        calibration: CalibrationConfig,
        gate: GateConfig,
    ) -> None:
        self._graph = graph
        self._toolchain = toolchain
        self._store = store
        self._calibration = calibration
        self._gate = gate

    @property
    def has_evidence(self) -> bool:
        """True where there are images to calibrate from and to judge by."""
        return self._calibration.folder is not None

    def find(self, precision: Precision) -> Union[Hit, Miss]:
        """An engine that can be used again, or why there is none."""
        ready = self._toolchain.ready(precision)
        if ready is not None:
            return Hit(ready)
        return self._store.find(self._fingerprint(precision))

    def make_float(self, precision: Precision, on_progress: OnProgress) -> None:
        """Makes a float engine and keeps it, not judged yet."""
        self._keep(Built(precision, self._toolchain.build(precision, on_progress)), None)

    def judge_float(self, on_progress: OnProgress) -> None:
        """Judges the first engine by the exact one, and keeps the verdict with it."""
        _, held_out = self._split()
        trial = self._trial(held_out, on_progress)
        first = self._float(self._toolchain.first, on_progress)
        exact = self._float(self._toolchain.exact, on_progress)
        self._keep(first, self._verdict(trial, self._predictions(exact, trial), first))

    def make_int8(self, reference: Precision, on_progress: OnProgress) -> None:
        """Makes an INT8 engine; keeps it if it is as good as the reference, else the refusal.

        A failure is tried once more with more of the head in float.
        """
        learnt_from, held_out = self._split()
        trial = self._trial(held_out, on_progress)
        expected = self._predictions(self._float(reference, on_progress), trial)
        for head_in_float in (False, True):
            data = self._toolchain.build_int8(
                self._feed(learnt_from), on_progress, head_in_float=head_in_float
            )
            built = Built(Precision.INT8, data)
            report = self._verdict(trial, expected, built)
            log.info("%s%s", report.summary, " (more of the head in float)" * head_in_float)
            if report.verdict is not Verdict.FAIL:
                break
        is_good = report.verdict is Verdict.PASS
        self._keep(built, report, is_refused=not is_good, head_in_float=head_in_float)

    def _float(self, precision: Precision, on_progress: OnProgress) -> Built:
        found = self.find(precision)
        if isinstance(found, Miss):
            self.make_float(precision, on_progress)
            found = self.find(precision)
        if isinstance(found, Miss) or found.data is None:
            reason = found.reason if isinstance(found, Miss) else "refused"
            raise BuildError(f"the {precision.value} engine cannot be read back: {reason}")
        return Built(precision, found.data)

    def _keep(
        self,
        built: Built,
        report: Optional[GateReport],
        *,
        is_refused: bool = False,
        head_in_float: bool = False,
    ) -> None:
        self._store.save(
            self._fingerprint(built.precision),
            rfc3339(SystemClock().unix_ms()),
            None if is_refused else built.data,
            report,
            head_in_float=head_in_float,
        )

    # --- calibrating and judging --------------------------------------------------------------

    def _split(self) -> Tuple[Images, Images]:
        expectations = Expectations(
            input_wh=self._graph.preprocessing.input_wh, class_count=len(self._graph.class_names)
        )
        images = read_calibration(self._folder, expectations)
        for note in images.notes:
            log.warning("calibration.folder: %s", note)
        return images.split(self._calibration.holdout)

    def _feed(self, images: Images) -> CalibrationFeed:
        batch = self._graph.fixed_batch or self._calibration.batch
        graph = self._graph
        parts = (self._toolchain.key.version, graph.sha256, self._method.value, batch)
        content = [*map(str, parts), GraphKey.of(graph).graph_sha256, *(i.sha256 for i in images)]
        return CalibrationFeed(
            lambda: letterboxed(images, graph.preprocessing, batch),
            count=math.ceil(len(images) / batch),
            method=self._method,
            key=hashlib.sha256("\n".join(content).encode()).hexdigest(),
        )

    def _trial(self, images: Images, on_progress: OnProgress) -> Trial:
        gate = Gate(self._gate, self._graph.class_names, self._calibration.holdout)
        hold_out = HoldOut.of(images, self._graph.preprocessing, self._calibration.batch)
        return Trial(hold_out, Judge(gate, hold_out, on_progress))

    def _predictions(self, built: Built, trial: Trial) -> Predictions:
        with contextlib.closing(self._toolchain.load(built.data, built.precision)) as engine:
            return trial.judge.predict(engine, built.precision)

    def _verdict(self, trial: Trial, expected: Predictions, built: Built) -> GateReport:
        found = self._predictions(built, trial)
        folder = self._store.folder / f"gate-{built.precision.value}"
        try:
            write_pictures(folder, trial.hold_out, (expected, found), self._graph.class_names)
        except BuildError as error:
            log.warning("%s", error)  # a verdict without pictures is a verdict
        return trial.judge.compare(expected, found)

    def _fingerprint(self, precision: Precision) -> Fingerprint:
        return Fingerprint(
            precision=precision,
            graph=GraphKey.of(self._graph),
            backend=self._toolchain.key,
            calibration=self._calibration_key() if precision is Precision.INT8 else None,
        )

    def _calibration_key(self) -> CalibrationKey:
        return CalibrationKey(
            images_sha256=folder_sha256(self._folder),
            method=self._method,
            batch=self._calibration.batch,
            holdout=self._calibration.holdout,
            max_loss=self._gate.max_loss,
            min_boxes=self._gate.min_boxes,
        )

    @property
    def _method(self) -> CalibrationMethod:
        return self._calibration.method or self._toolchain.method

    @property
    def _folder(self) -> Path:
        if self._calibration.folder is None:
            raise ConfigError("calibration.folder is not given: there is nothing to judge by")
        return self._calibration.folder
