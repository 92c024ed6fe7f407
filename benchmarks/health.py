"""What it costs to watch the machine and to tell of it: CPU in percent of one core.

``python -m benchmarks.health [--json] [--save]``

The machine is a folder of files as a Jetson Xavier NX shows them; tegrastats is a shell script that
says its lines, and the service of jetson-stats a process that speaks its protocol. What those two
cost themselves is theirs, and not counted; what speaks to the service is.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence

if not __package__:  # run as a file: the repository is not on the path then
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

from benchmarks import report
from edge.clock import NS_PER_MS, NS_PER_S, SystemClock
from edge.config.health import HealthConfig, Probe
from edge.health.exposition import Exposition
from edge.health.meters import CameraReading, PipelineMeter
from edge.health.monitor import Monitor
from edge.health.report import camera_numbers, health
from edge.publish.envelope import Header
from edge.publish.metrics import METRICS
from edge.publish.payload import health_payload
from edge.records import (
    BatchInfo,
    CameraState,
    CameraStatus,
    Detections,
    FrameInfo,
    FrameResult,
    HealthSource,
    Lane,
    MachineReading,
    PublisherCounters,
    TimestampSource,
)
from tests.health.probes import programs
from tests.health.probes.tegrastats_lines import XAVIER_NX_R35_ROOT
from tests.health.roots import XAVIER_NX
from tests.health.sysfs_files import write_files

CAMERAS = 8
FPS = 240.0  # 8 cameras of 30 a second
LOOKS_PER_S = 4.0  # of the main loop
INTERVAL_S = HealthConfig().interval_s
SCRAPE_S = 15.0  # as often as Prometheus asks where nobody says otherwise

BAR = report.Bar("<=", 1.0)
_PATIENCE_S = 60.0


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs the benchmark."""
    options = report.parse(__doc__, arguments)
    result = report.Report("health", options)
    seconds = 1.0 if options.quick else 60.0
    watching = _watching(result, seconds)
    counting = _counting(result, 500 if options.quick else 20_000)
    telling = _telling(result, 20 if options.quick else 500)
    meaning = f"watching the dearest way, counting {FPS:g} frames/s of {CAMERAS} cameras, telling"
    result.add("health_pct", watching + counting + telling, "%", f"of a core: {meaning}", BAR)
    result.note(f"read every {HealthConfig().sample_s:g} s, told every {INTERVAL_S:g} s")
    result.publish()


# --- watching ----------------------------------------------------------------------------------


def _watching(result: report.Report, seconds: float) -> float:
    """The dearest of the ways."""
    ways: Dict[HealthSource, List[Probe]] = {
        HealthSource.SYSFS: [],
        HealthSource.TEGRASTATS: [Probe.TEGRASTATS],
    }
    if find_spec("jtop") is not None:
        ways[HealthSource.JTOP] = [Probe.JTOP]
    else:
        result.note("jetson-stats is not installed: the dearest way to watch is left out")
    spent = {source: _watch(source, probes, seconds) for source, probes in ways.items()}
    for source, percent in spent.items():
        result.add(f"watch_pct_{source.value}", percent, "%", f"of a core, through {source.value}")
    return max(spent.values())


def _watch(source: HealthSource, probes: List[Probe], seconds: float) -> float:
    with tempfile.TemporaryDirectory(prefix="edge-") as folder:
        root = write_files(Path(folder), XAVIER_NX)
        programs.write_program(root / "usr/bin/tegrastats", TEGRASTATS, XAVIER_NX_R35_ROOT)
        with _service(root, Probe.JTOP in probes), _monitor(root, probes) as monitor:
            end_s = time.monotonic() + _PATIENCE_S
            while monitor.latest().source is not source:
                if time.monotonic() > end_s:
                    raise TimeoutError(f"{source.value}: {monitor.latest().reason}")
                time.sleep(0.1)
            before_s = _cpu_s()
            time.sleep(seconds)
            return 100 * (_cpu_s() - before_s) / seconds


# One line for each interval it is told in milliseconds.
TEGRASTATS = 'while :; do echo "$LINE"; sleep $(($2 / 1000)); done'


@contextlib.contextmanager
def _monitor(root: Path, probes: List[Probe]) -> Iterator[Monitor]:
    def fail(name: str, error: BaseException) -> None:
        raise error

    monitor = Monitor(HealthConfig(probes=probes), root, root, SystemClock(), fail)
    monitor.start()
    try:
        yield monitor
    finally:
        monitor.stop(_PATIENCE_S)


@contextlib.contextmanager
def _service(root: Path, is_wanted: bool) -> Iterator[None]:
    if not is_wanted:
        yield
        return
    (root / "run").mkdir()
    command = [
        sys.executable,
        "-m",
        "tests.health.probes.jtop_service",
        str(root / "run/jtop.sock"),
    ]
    service = subprocess.Popen(command)
    try:
        yield
    finally:
        service.kill()
        service.wait()


def _cpu_s() -> float:
    """Of this process, and of what speaks to jtop for it."""
    own = psutil.Process()
    speakers = [
        child for child in own.children() if any("jtop_client" in word for word in child.cmdline())
    ]
    return sum(_spent_s(process) for process in [own, *speakers])


def _spent_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


# --- counting ----------------------------------------------------------------------------------


def _counting(result: report.Report, frames: int) -> float:
    meter = _meter()
    results = [_frame(index) for index in range(frames)]
    per_look = int(FPS / LOOKS_PER_S)

    def path() -> None:
        for index, frame in enumerate(results):
            meter.frame_done(frame)
            if index % per_look == 0:
                meter.observe(int(index / FPS * NS_PER_S))

    us = 1e6 * _cpu_of(path) / frames
    result.add("count_us_per_frame", us, "us", "counters, rates, and percentiles of each frame")
    return us * FPS / 1e4


def _meter() -> PipelineMeter:
    names = [f"cam{index}" for index in range(CAMERAS)]

    def reading(name: str) -> Callable[[], CameraReading]:
        status = CameraStatus(name, CameraState.ONLINE, 0)
        return lambda: CameraReading(status, 0, 0, {})

    return PipelineMeter({name: reading(name) for name in names}, {})


def _frame(index: int) -> FrameResult:
    latency_ns = (20 + index % 50) * NS_PER_MS
    info = FrameInfo(f"cam{index % CAMERAS}", index, (64, 64), 0, 0, TimestampSource.PTS)
    batch = BatchInfo(index, 1, Lane.BATCH, 0)
    return FrameResult(
        info, Detections.empty(), batch, latency_ns // 4, latency_ns // 2, latency_ns
    )


# --- telling -----------------------------------------------------------------------------------


def _telling(result: report.Report, times: int) -> float:
    meter = _meter()
    for index in range(CAMERAS * 500):
        meter.frame_done(_frame(index))
    publisher = PublisherCounters(True, "gw:1883", 1, 0, {})
    exposition = Exposition(METRICS)
    exposition.start("127.0.0.1", 0)
    machine = {f"number_{index}_mw": float(index) for index in range(60)}

    def tell() -> None:
        for _ in range(times):
            counters = meter.counters(0, 0)
            numbers = health(counters, publisher, machine)
            reading = MachineReading(HealthSource.SYSFS, numbers)
            health_payload(reading, Header("nx", 1, 1, 0)).to_json()
            cameras = {name: camera_numbers(camera) for name, camera in counters.cameras.items()}
            exposition.show(numbers, cameras, {"version": "1"})

    def scrape() -> None:
        for _ in range(times):
            with urllib.request.urlopen(f"http://127.0.0.1:{exposition.port}/metrics") as answer:
                answer.read()

    tell_ms = 1e3 * _cpu_of(tell) / times
    scrape_ms = 1e3 * _cpu_of(scrape) / times
    exposition.stop(_PATIENCE_S)
    result.add("tell_ms", tell_ms, "ms", f"CPU of a health message, every {INTERVAL_S:g} s")
    result.add(
        "scrape_ms", scrape_ms, "ms", f"CPU of an answer to Prometheus, {SCRAPE_S:g} s apart"
    )
    return tell_ms / INTERVAL_S / 10 + scrape_ms / SCRAPE_S / 10


def _cpu_of(work: Callable[[], None]) -> float:
    before_s = time.process_time()
    work()
    return time.process_time() - before_s


if __name__ == "__main__":
    main()
