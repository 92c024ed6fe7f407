from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import pytest

from edge.clock import NS_PER_S, SystemClock
from edge.config.health import HealthConfig, Probe
from edge.errors import ProbeError
from edge.health.monitor import (
    Monitor,
    Record,
    fresh,
    make_probes,
    merge,
    needed_probes,
    tegrastats_command,
)
from edge.health.probes.probe import Sample
from edge.records import HealthSource
from tests.conftest import StartService
from tests.health.probes import programs
from tests.health.probes.tegrastats_lines import XAVIER_NX_R35_ROOT
from tests.health.roots import LAPTOP, ROOTS, XAVIER_NX, Files
from tests.health.sysfs_files import write_files
from tests.mosquitto import wait_for

JTOP, TEGRASTATS, SYSFS = HealthSource.JTOP, HealthSource.TEGRASTATS, HealthSource.SYSFS
NVML, PSUTIL = HealthSource.NVML, HealthSource.PSUTIL

# --- decisions ---------------------------------------------------------------------------------

AGES = {"new": (0, True), "just fresh": (5, True), "too old": (6, False)}


@pytest.mark.parametrize(("age_ns", "is_fresh"), AGES.values(), ids=AGES)
def test_a_sample_is_believed_for_a_while(age_ns: int, is_fresh: bool) -> None:
    sample = Sample(100, {"a": 1})
    assert fresh(sample, 100 + age_ns, patience_ns=5) is (sample if is_fresh else None)
    assert fresh(None, 100, patience_ns=5) is None


NEEDED: Dict[str, Tuple[List[bool], int]] = {
    "none there": ([], 0),
    "the best answers": ([True, True], 1),
    "the second answers": ([False, True], 2),
    "nobody answers": ([False, False], 2),
}


@pytest.mark.parametrize(("is_fresh", "count"), NEEDED.values(), ids=NEEDED)
def test_no_more_are_asked_than_needed(is_fresh: List[bool], count: int) -> None:
    assert needed_probes(is_fresh) == count


KERNEL = Record(SYSFS, 9, {"temp_gpu_c": 40.0, "ram_used_mb": 1.0, "throttled": 0})
HOST = {"ram_used_mb": 3.0, "disk_free_mb": 4.0}
SAMPLE = Sample(7, {"temp_gpu_c": 50.0, "ram_used_mb": 2.0, "emc_load_pct": 5.0})


def test_the_best_probe_goes_over_the_files_and_the_host_over_both() -> None:
    record = merge(KERNEL, HOST, [((JTOP, ""), SAMPLE), ((TEGRASTATS, "gone"), None)])
    assert record == Record(
        JTOP,
        7,
        {
            "temp_gpu_c": 50.0,
            "ram_used_mb": 3.0,
            "throttled": 0,
            "emc_load_pct": 5.0,
            "disk_free_mb": 4.0,
        },
    )


def test_a_worse_probe_says_why_none_better_does() -> None:
    record = merge(KERNEL, HOST, [((JTOP, "no socket"), None), ((TEGRASTATS, ""), SAMPLE)])
    assert (record.source, record.reason) == (TEGRASTATS, "jtop: no socket")


def test_without_probes_the_kernel_tells() -> None:
    record = merge(KERNEL, HOST, [((JTOP, "no socket"), None), ((TEGRASTATS, "killed"), None)])
    assert (record.source, record.taken_ns) == (SYSFS, 9)
    assert record.reason == "jtop: no socket; tegrastats: killed"
    assert record.numbers == {**KERNEL.numbers, **HOST}


# --- the probes of a machine -------------------------------------------------------------------

KINDS: Dict[str, Tuple[Files, List[Probe], List[HealthSource]]] = {
    "a Jetson": (XAVIER_NX, list(Probe), [JTOP, TEGRASTATS]),
    "another order": (XAVIER_NX, [Probe.TEGRASTATS, Probe.JTOP], [TEGRASTATS, JTOP]),
    "only one": (XAVIER_NX, [Probe.TEGRASTATS], [TEGRASTATS]),
    "none": (XAVIER_NX, [], []),
    "another machine": (LAPTOP, list(Probe), [NVML]),
    "another machine, none": (LAPTOP, [Probe.JTOP], []),
}


@pytest.mark.parametrize(("files", "names", "expected"), KINDS.values(), ids=KINDS)
def test_only_what_the_machine_can_have_is_asked(
    files: Files, names: List[Probe], expected: List[HealthSource], tmp_path: Path
) -> None:
    config = HealthConfig(probes=names)
    probes = make_probes(config, write_files(tmp_path, files), SystemClock(), fail)
    assert [probe.source for probe in probes] == expected


def test_tegrastats_is_told_its_interval(tmp_path: Path) -> None:
    tool = programs.write_program(tmp_path / "usr/bin/tegrastats", programs.SPEAKS)
    assert tegrastats_command(tmp_path, 2.5) == [str(tool), "--interval", "2500"]
    tool.unlink()
    with pytest.raises(ProbeError, match="mount the socket of jtop"):
        tegrastats_command(tmp_path, 2.5)


# --- live --------------------------------------------------------------------------------------

Watch = Callable[[Files], Monitor]


def fail(name: str, error: BaseException) -> None:
    raise AssertionError(f"{name} died: {error!r}")


@pytest.fixture
def watch(root: Path) -> Iterator[Watch]:
    deaths: List[BaseException] = []
    monitors: List[Monitor] = []

    def begin(files: Files) -> Monitor:
        write_files(root, files)
        config = HealthConfig(sample_s=0.5)
        monitor = Monitor(
            config, root, root, SystemClock(), lambda name, error: deaths.append(error)
        )
        monitor.start()
        monitors.append(monitor)
        return monitor

    yield begin
    assert all(monitor.stop(30) for monitor in monitors)
    assert not deaths


def comes_from(monitor: Monitor, source: HealthSource, reason: Optional[str] = None) -> bool:
    reading = monitor.latest()
    return reading.source is source and (reason is None or reason in reading.reason)


@pytest.mark.parametrize("name", ROOTS)
def test_every_machine_tells_something_at_once(name: str, watch: Watch) -> None:
    reading = watch(ROOTS[name]).latest()
    assert reading.source is (PSUTIL if name == "laptop" else SYSFS)
    numbers = reading.numbers
    assert {"ram_used_mb", "disk_free_mb", "uptime_s", "throttled", "health_age_ms"} <= set(numbers)
    assert any(key.startswith("temp_") for key in numbers)
    assert 0 <= numbers["health_age_ms"] < 60_000


def tegrastats(root: Path, body: str = programs.SPEAKS) -> None:
    programs.write_program(root / "usr/bin/tegrastats", body, XAVIER_NX_R35_ROOT)


def test_the_sources_are_switched_by_themselves(
    root: Path,
    watch: Watch,
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("edge.health.probes.lines._RETRY_S", (0.2, 0.5))
    monitor = watch(XAVIER_NX)
    wait_for(lambda: comes_from(monitor, SYSFS, "usr/bin/tegrastats"), "the files")
    wait_for(lambda: "run/jtop.sock: start the service" in monitor.latest().reason, "jtop's words")

    tegrastats(root)
    wait_for(lambda: comes_from(monitor, TEGRASTATS, "jtop: no "), "tegrastats")
    numbers = monitor.latest().numbers
    assert numbers["vic_freq_mhz"] == 115  # only tegrastats tells that
    assert numbers["temp_gpu_c"] == 45.5
    assert numbers["nvpmodel_id"] == 2  # and that only the files
    assert "health-tegrastats" in thread_names()

    service = start_service()
    wait_for(lambda: comes_from(monitor, JTOP), "jtop")
    assert monitor.latest().reason == ""
    assert monitor.latest().numbers["nvdec_freq_mhz"] == 601.6
    assert "vic_freq_mhz" not in monitor.latest().numbers
    wait_for(lambda: "health-tegrastats" not in thread_names(), "the end of tegrastats")

    service.kill()
    wait_for(lambda: comes_from(monitor, TEGRASTATS, "jtop: "), "tegrastats again")
    assert "health comes from jtop" in caplog.text
    assert "health comes from tegrastats: jtop: " in caplog.text


def test_a_service_that_stands_still_is_found_out(
    root: Path,
    watch: Watch,
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.health.probes.lines._RETRY_S", (0.2, 0.5))
    start_service("--frozen-after", "8")
    monitor = watch(XAVIER_NX)
    wait_for(lambda: comes_from(monitor, JTOP), "jtop")
    wait_for(lambda: comes_from(monitor, SYSFS, "the same over and over"), "the finding")


def test_a_service_that_never_answers_holds_nobody_up(
    root: Path,
    watch: Watch,
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.health.probes.lines._FIRST_LINE_S", 2.0)
    start_service("--mute")
    monitor = watch(XAVIER_NX)
    wait_for(lambda: comes_from(monitor, SYSFS, "jtop: it says nothing of use"), "the reason")


BROKEN = {
    "hangs": (programs.SPEAKS_ONCE, "it has fallen silent"),
    "floods": (programs.FLOODS, "lines at once"),
    "ends": (programs.ENDS, "it ended with code 3: cannot open the sensors"),
}


@pytest.mark.parametrize(("body", "reason"), BROKEN.values(), ids=BROKEN)
def test_the_files_stand_in_for_a_tegrastats_that_fails(
    body: str,
    reason: str,
    root: Path,
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.health.monitor._FRESH_MARGIN_S", 0.0)
    monkeypatch.setattr("edge.health.probes.lines._RETRY_S", (4.0, 4.0))
    tegrastats(root, body)
    monitor = watch(XAVIER_NX)
    wait_for(lambda: comes_from(monitor, SYSFS, reason), "the reason")
    tegrastats(root)
    wait_for(lambda: comes_from(monitor, TEGRASTATS), "tegrastats")


def test_what_the_machine_says_is_followed(root: Path, watch: Watch) -> None:
    monitor = watch(XAVIER_NX)
    assert monitor.latest().numbers["temp_gpu_c"] == 45.5
    write_files(root, {"sys/class/thermal/thermal_zone1/temp": "91000\n"})
    wait_for(lambda: monitor.latest().numbers["temp_gpu_c"] == 91.0, "the new temperature")


def test_a_reading_grows_old(tmp_path: Path) -> None:
    class Late(SystemClock):
        now_ns = 0

        def monotonic_ns(self) -> int:
            return self.now_ns

    clock = Late()
    monitor = Monitor(HealthConfig(probes=[]), tmp_path, tmp_path, clock, fail)
    monitor.start()
    try:
        clock.now_ns = 3 * NS_PER_S
        assert monitor.latest().numbers["health_age_ms"] == 3000
    finally:
        assert monitor.stop(30)


def thread_names() -> List[str]:
    return [thread.name for thread in threading.enumerate()]
