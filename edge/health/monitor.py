"""What is known of the machine, kept up to date from the best that can be asked."""

from __future__ import annotations

import logging
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import List, Mapping, Optional, Sequence, Tuple

from edge.clock import NS_PER_MS, NS_PER_S, Clock
from edge.config.health import HealthConfig
from edge.config.health import Probe as ProbeName
from edge.errors import ProbeError
from edge.health.host import HostSampler
from edge.health.probes import jtop_readings, tegrastats
from edge.health.probes.nvml import NvmlProbe
from edge.health.probes.probe import LineProbe, Probe, Sample
from edge.health.sensors import Sensors, is_jetson
from edge.health.thermal import read_zones
from edge.records import HealthSource, MachineReading
from edge.threads import OnFailure, SupervisedThread

log = logging.getLogger(__name__)

# A probe whose last answer is older than this is passed over, and at last asked anew.
_FRESH_INTERVALS = 3
_FRESH_MARGIN_S = 2.0

# The library hands out what it has after three intervals without news: that is to be known for what
# it is.
_STILL_INTERVALS = 2.5

_STOP_S = 2.0


class Monitor:
    """Reads the machine every `config.sample_s` in a thread of its own, which asks the probes too.

    Best first, and by itself: while a better probe says nothing fresh the next is asked as well;
    once it does, the next is ended again. Under them all lie the kernel's own files.
    """

    def __init__(
        self,
        config: HealthConfig,
        disk_path: Path,
        root: Path,
        clock: Clock,
        on_failure: OnFailure,
    ) -> None:
        self._interval_s = config.sample_s
        self._clock = clock
        self._patience_ns = int(patience_s(config.sample_s) * NS_PER_S)
        self._host = HostSampler(disk_path, has_zones=bool(read_zones(root)))
        self._sensors = Sensors(root)
        self._fallback = HealthSource.SYSFS if is_jetson(root) else HealthSource.PSUTIL
        self._probes = make_probes(config, root, clock, on_failure)
        self._stopped = threading.Event()
        self._thread = SupervisedThread("health", self._run, on_failure)
        self._latest = Record(HealthSource.PSUTIL, clock.monotonic_ns(), {})

    def start(self) -> None:
        """Takes the first reading, and goes on from there."""
        self._look()
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Asks no more; False if that took longer."""
        self._stopped.set()
        return self._thread.join(timeout_s)

    def latest(self) -> MachineReading:
        """What was read last; from any thread, and at once."""
        record = self._latest  # replaced as a whole
        age_ms = (self._clock.monotonic_ns() - record.taken_ns) / NS_PER_MS
        numbers = {**record.numbers, "health_age_ms": round(age_ms, 1)}
        return MachineReading(record.source, numbers, record.reason)

    def _run(self) -> None:
        try:
            while not self._stopped.wait(self._interval_s):
                self._look()
        finally:
            for probe in self._probes:
                if not probe.stop(_STOP_S):
                    log.warning("%s could not be ended", probe.source.value)

    def _look(self) -> None:
        base = self._sensors.read()
        host = self._host.sample()
        now_ns = self._clock.monotonic_ns()
        samples = [fresh(probe.latest(), now_ns, self._patience_ns) for probe in self._probes]
        self._ask(samples)
        troubles = [(probe.source, probe.trouble) for probe in self._probes]
        kernel = Record(self._fallback, now_ns, base)
        record = merge(kernel, host, list(zip(troubles, samples)))
        if (record.source, record.reason) != (self._latest.source, self._latest.reason):
            why = f": {record.reason}" if record.reason else ""
            log.info("health comes from %s%s", record.source.value, why)
        self._latest = record

    def _ask(self, samples: Sequence[Optional[Sample]]) -> None:
        needed = needed_probes([sample is not None for sample in samples])
        for index, probe in enumerate(self._probes):
            if index < needed:
                probe.start()
            else:
                probe.stop(_STOP_S)


@dataclass(frozen=True)
class Record:
    """A merged reading, and when what its source said was taken."""

    source: HealthSource
    taken_ns: int
    numbers: Mapping[str, float]
    reason: str = ""


# --- decisions ---------------------------------------------------------------------------------


def patience_s(interval_s: float) -> float:
    """For how long an answer holds that comes once in `interval_s`."""
    return _FRESH_INTERVALS * interval_s + _FRESH_MARGIN_S


def fresh(sample: Optional[Sample], now_ns: int, patience_ns: int) -> Optional[Sample]:
    """The sample unless it is too old to be believed."""
    return sample if sample is not None and now_ns - sample.taken_ns <= patience_ns else None


def needed_probes(is_fresh: Sequence[bool]) -> int:
    """How many of the probes, best first, are to be asked: up to the first that answers."""
    return next((index + 1 for index, answers in enumerate(is_fresh) if answers), len(is_fresh))


Asked = Tuple[Tuple[HealthSource, str], Optional[Sample]]


def merge(kernel: Record, host: Mapping[str, float], asked: Sequence[Asked]) -> Record:
    """One record of the best there is: the best probe's numbers over the kernel's files.

    `host` lies on top, so that load, memory and disk mean the same on every machine.
    """
    reasons: List[str] = []
    for (source, trouble), sample in asked:
        if sample is not None:
            numbers = {**kernel.numbers, **sample.numbers, **host}
            return Record(source, sample.taken_ns, numbers, "; ".join(reasons))
        if trouble:
            reasons.append(f"{source.value}: {trouble}")
    numbers = {**kernel.numbers, **host}
    return Record(kernel.source, kernel.taken_ns, numbers, "; ".join(reasons))


# --- the probes --------------------------------------------------------------------------------


def make_probes(
    config: HealthConfig, root: Path, clock: Clock, on_failure: OnFailure
) -> List[Probe]:
    """The probes that this kind of machine can have, best first."""
    if not is_jetson(root):
        return [NvmlProbe(clock)] if ProbeName.NVML in config.probes else []

    def jtop() -> Probe:
        return LineProbe(
            HealthSource.JTOP,
            lambda: jtop_readings.command(root, config.sample_s),
            jtop_readings.JtopReader(_STILL_INTERVALS * config.sample_s),
            config.sample_s,
            clock,
            on_failure,
        )

    def tegra() -> Probe:
        return LineProbe(
            HealthSource.TEGRASTATS,
            lambda: tegrastats_command(root, config.sample_s),
            lambda now_ns, line: tegrastats.parse(line).numbers,
            config.sample_s,
            clock,
            on_failure,
        )

    makers = {ProbeName.JTOP: jtop, ProbeName.TEGRASTATS: tegra}
    return [makers[name]() for name in config.probes if name in makers]


def tegrastats_command(root: Path, interval_s: float) -> List[str]:
    """What runs tegrastats; raises ProbeError where there is none."""
    tool = shutil.which("tegrastats", path=str(root / "usr/bin"))
    if tool is None:
        raise ProbeError(
            f"no {root / 'usr/bin/tegrastats'} (a container has none: mount the socket of jtop "
            "instead)"
        )
    return [tool, "--interval", str(round(1000 * interval_s))]
