"""Makes one engine, judges it and keeps it; what the worker process does."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
from pathlib import Path
from typing import Callable, ContextManager, NamedTuple, Optional, Union

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
from edge.records import DeployedGraph, Lane, OnProgress

log = logging.getLogger(__name__)


class Built(NamedTuple):
    """An engine on its way to the gate."""

    precision: Precision
    data: bytes


class Split(NamedTuple):
    """The calibration folder as it was when it was read; `key` is its place in a fingerprint."""

    learnt_from: Images
    held_out: Images
    key: CalibrationKey


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
        self._graph_key = GraphKey.of(graph)  # hashes the whole network: once
        self._toolchain = toolchain
        self._store = store
        self._calibration = calibration
        self._gate = gate

    @property
    def graph_key(self) -> GraphKey:
        """The network's place in a fingerprint."""
        return self._graph_key

    @property
    def has_evidence(self) -> bool:
        """True where there are images to calibrate from and to judge by."""
        return self._calibration.folder is not None

    def find(self, precision: Precision) -> Union[Hit, Miss]:
        """An engine that can be used again, or why there is none."""
        ready = self._toolchain.ready(precision)
        if ready is not None:
            return Hit(ready)
        if precision is not Precision.INT8:
            return self._store.find(self._fingerprint(precision, None))
        try:
            images_sha256 = folder_sha256(self._folder)
        except ConfigError as error:
            return self._find_without_images(error)
        key = self._calibration_key(images_sha256)
        return self._store.find(self._fingerprint(precision, key))

    def _find_without_images(self, error: ConfigError) -> Hit:
        """The INT8 engine whose images are gone: they were needed to make it, not to run it."""
        fingerprint = self._fingerprint(Precision.INT8, self._calibration_key(""))
        found = self._store.find(fingerprint, ignoring="calibration.images_sha256")
        if isinstance(found, Miss) or found.data is None:
            raise error
        log.warning("%s; the int8 engine that was made from it goes on serving", error)
        return found

    def is_up_to_date(self, report: GateReport) -> bool:
        """False for a float engine's verdict by other images or limits than the present ones."""
        key = self._calibration_key(folder_sha256(self._folder))
        return report.evidence_sha256 == _evidence_sha256(key)

    def alone(self, on_wait: Callable[[], None]) -> ContextManager[bool]:
        """Makes engines here alone: True where it had to wait for another process that made some.

        Raises ConfigError where what is made could not be kept.
        """
        return self._store.alone(on_wait)

    def make_float(self, precision: Precision, on_progress: OnProgress) -> None:
        """Makes a float engine and keeps it, not judged yet."""
        self._keep(Built(precision, self._toolchain.build(precision, on_progress)), None)

    def judge_float(self, on_progress: OnProgress) -> None:
        """Judges the first engine by the exact one, and keeps the verdict with it."""
        split = self._split()
        trial = self._trial(split.held_out, on_progress)
        first = self._float(self._toolchain.first, on_progress)
        exact = self._float(self._toolchain.exact, on_progress)
        report = self._verdict(trial, self._predictions(exact, trial), first)
        evidence = {"evidence_sha256": _evidence_sha256(split.key)}
        self._keep(first, report.model_copy(update=evidence))

    def make_int8(self, reference: Precision, on_progress: OnProgress) -> None:
        """Makes an INT8 engine; keeps it if it is as good as the reference, else the refusal.

        A failure is tried once more with more of the head in float.
        """
        split = self._split()
        trial = self._trial(split.held_out, on_progress)
        expected = self._predictions(self._float(reference, on_progress), trial)
        for head_in_float in (False, True):
            data = self._toolchain.build_int8(
                self._feed(split.learnt_from), on_progress, head_in_float=head_in_float
            )
            built = Built(Precision.INT8, data)
            report = self._verdict(trial, expected, built)
            log.info("%s%s", report.summary, " (more of the head in float)" * head_in_float)
            if report.verdict is not Verdict.FAIL:
                break
        self._keep(built, report, split.key, head_in_float=head_in_float)

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
        calibration: Optional[CalibrationKey] = None,
        *,
        head_in_float: bool = False,
    ) -> None:
        """Keeps an engine; of one that needed `calibration` only the refusal, unless it passed."""
        is_good = calibration is None or (report is not None and report.verdict is Verdict.PASS)
        self._store.save(
            # What it was made from, not what has come into the folder since.
            self._fingerprint(built.precision, calibration),
            rfc3339(SystemClock().unix_ms()),
            built.data if is_good else None,
            report,
            head_in_float=head_in_float,
        )

    # --- calibrating and judging --------------------------------------------------------------

    def _split(self) -> Split:
        expectations = Expectations(
            input_wh=self._graph.preprocessing.input_wh, class_count=len(self._graph.class_names)
        )
        images = read_calibration(self._folder, expectations)
        for note in images.notes:
            log.warning("calibration.folder: %s", note)
        learnt_from, held_out = images.split(self._calibration.holdout)
        return Split(learnt_from, held_out, self._calibration_key(images.sha256))

    def _feed(self, images: Images) -> CalibrationFeed:
        batch = self._graph.fixed_batch or self._calibration.batch
        graph = self._graph
        parts = (self._toolchain.key.version, graph.sha256, self._method.value, batch)
        content = [*map(str, parts), self._graph_key.graph_sha256, *(i.sha256 for i in images)]
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
        is_shared = self._toolchain.key.lane is Lane.BATCH
        kind = (
            built.precision.value if is_shared else f"{Lane.PRIORITY.value}-{built.precision.value}"
        )
        folder = self._store.folder / f"gate-{kind}"
        try:
            write_pictures(folder, trial.hold_out, (expected, found), self._graph.class_names)
        except BuildError as error:
            log.warning("%s", error)  # a verdict without pictures is a verdict
        return trial.judge.compare(expected, found)

    def _fingerprint(
        self, precision: Precision, calibration: Optional[CalibrationKey]
    ) -> Fingerprint:
        return Fingerprint(
            precision=precision,
            graph=self._graph_key,
            backend=self._toolchain.key,
            calibration=calibration,
        )

    def _calibration_key(self, images_sha256: str) -> CalibrationKey:
        return CalibrationKey(
            images_sha256=images_sha256,
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


def _evidence_sha256(key: CalibrationKey) -> str:
    return hashlib.sha256(key.model_dump_json().encode()).hexdigest()
