"""What is measured, one finding after the other."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace
from typing import Dict, Generator, Iterator, Optional, Tuple, Union

from edge.bench.background import Background, Pulse
from edge.bench.trial import Trial, TrialResult, no_load, with_cameras
from edge.building.climb import Climb, End, Rig
from edge.building.gauges import Gauges
from edge.building.graph import deploy
from edge.building.plan import BuildPlan
from edge.building.supply import open_supply
from edge.building.tune import LADDER, Rung
from edge.clock import SystemClock
from edge.config.schema import Config
from edge.errors import EdgeError, EngineHangs
from edge.health.load import LoadRecorder, open_load
from edge.health.machine import read_machine
from edge.health.nvidia_smi import Card, card_of, find_cards
from edge.inference.batch_cap import cap_of
from edge.line import Detector
from edge.records import DeployedGraph, EngineInfo

# A batch that takes longer never ends.
_PATIENCE_S = 600.0

# Of the time that is asked for, what the cameras get besides.
_TRIAL_SHARE = 1 / 6
_LONGEST_TRIAL_S = 5.0


@dataclass(frozen=True)
class Subject:
    """What is measured; `load_mb` is the MiB of memory that loading it took.

    `card` is the graphics card it runs on, and `power_of` says whose power is read: None and empty
    where that is unknown.
    """

    graph: DeployedGraph
    engine: EngineInfo
    load_mb: float
    card: Optional[Card] = None
    power_of: str = ""


Finding = Union[Subject, Rung, End, TrialResult, EdgeError]


@dataclass(frozen=True)
class Measurement:
    """What to measure: for about so many `seconds`, then with so many `cameras`; 0 for none."""

    config: Config
    seconds: float
    cameras: int
    gauges: Gauges

    def findings(self, stop: threading.Event) -> Iterator[Finding]:
        """What is found, at once; the last is an error where one ended it."""
        # A device computes alone without a pause for its share of a size's time.
        patience_s = _PATIENCE_S + self.seconds / len(LADDER)
        return Background(lambda pulse: self._findings(stop, pulse), patience_s).until(stop)

    def _findings(self, stop: threading.Event, pulse: Pulse) -> Iterator[Finding]:
        with contextlib.ExitStack() as opened:
            try:
                yield from self._measure(opened, stop, pulse)
            except EngineHangs:
                # Whoever closed it would wait for it as well, and nobody would hear of it.
                opened.pop_all()
                raise

    def _measure(
        self, opened: contextlib.ExitStack, stop: threading.Event, pulse: Pulse
    ) -> Iterator[Finding]:
        before_mb = self.gauges.rss_mb()
        graph = deploy(self.config.model.path, self.config.model)
        module = read_machine().module
        plan = BuildPlan.of(self.config, module)
        supply = open_supply(plan, graph, lambda status: None, SystemClock(), stop)
        opened.callback(supply.close)
        first = supply.open_first(stop)
        if first is None:
            return
        engine = opened.enter_context(contextlib.closing(first[1]))
        load_mb = self.gauges.rss_mb() - before_mb
        cap, _ = cap_of(engine.info, self.config.engine.max_batch, module)
        info = replace(engine.info, max_batch=cap)
        # A processor's engine leaves the card alone.
        card = card_of(info.device, find_cards()) if engine.in_flight > 1 else None
        load, power_of = self._open_load(card, opened)
        yield Subject(graph, info, load_mb, card, power_of)
        rig = Rig(engine, cap, self.gauges, supply, load)
        best_fps = yield from self._climb(rig, stop, pulse)
        if best_fps and self.cameras and not stop.is_set():
            detector = Detector(graph, engine, supply.allocate)
            config = with_cameras(self.config, self.cameras, best_fps)
            yield from self._try(Trial(config, detector, module), load, stop)

    def _climb(
        self, rig: Rig, stop: threading.Event, pulse: Pulse
    ) -> Generator[Finding, None, float]:
        """All sizes; returns the best throughput."""

        def is_stopped() -> bool:  # asked between batches
            pulse.beat()
            return stop.is_set()

        best_fps: Dict[int, float] = {}
        pulse.beat()
        for finding in Climb(rig, self.seconds, is_stopped).findings():
            yield finding
            if isinstance(finding, Rung):
                best_fps[finding.batch] = finding.timing.throughput_fps
        pulse.end()
        return max(best_fps.values(), default=0.0)

    def _try(
        self, trial: Trial, load: Optional[LoadRecorder], stop: threading.Event
    ) -> Iterator[Finding]:
        seconds = min(_TRIAL_SHARE * self.seconds, _LONGEST_TRIAL_S)
        result = trial.run(seconds, stop, load.mean if load else no_load)
        if result is not None:
            yield result

    def _open_load(
        self, card: Optional[Card], opened: contextlib.ExitStack
    ) -> Tuple[Optional[LoadRecorder], str]:
        source = open_load(card)
        if source is None:
            return None, ""
        recorder = LoadRecorder(source, self.gauges.monotonic_ns)
        opened.callback(recorder.close)
        return recorder, source.power_of
