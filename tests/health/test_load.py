from __future__ import annotations

import time
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

from edge.health.load import JetsonLoad, LoadRecorder, Reading, mean_between, open_load
from edge.health.nvidia_smi import Card
from tests.health.sysfs_files import XAVIER_NX, write_files

HANG_S = 30.0

READINGS: List[Reading] = [
    (10, {"power_w": 10.0, "gpu_utilization": 0.5}),
    (20, {"power_w": 20.0}),
    (30, {"power_w": 60.0, "gpu_utilization": 0.7}),
]
SPANS = {
    "all": ((10, 30), {"power_w": 30.0, "gpu_utilization": 0.6}),
    "one": ((11, 29), {"power_w": 20.0}),
    "from the first": ((10, 10), {"power_w": 10.0, "gpu_utilization": 0.5}),
    "none": ((31, 99), {}),
    "before": ((0, 9), {}),
}


@pytest.mark.parametrize(("span", "expected"), SPANS.values(), ids=SPANS)
def test_what_was_not_read_is_absent(span: Tuple[int, int], expected: Dict[str, float]) -> None:
    assert mean_between(READINGS, *span) == pytest.approx(expected)


def test_a_jetson_tells_load_and_power(tmp_path: Path) -> None:
    source = open_load(None, write_files(tmp_path, XAVIER_NX))
    assert isinstance(source, JetsonLoad)
    assert source.power_of == "VDD_IN"
    assert source.read() == pytest.approx({"gpu_utilization": 0.873, "power_w": 2.78208})


def test_a_machine_without_sensors_and_without_a_card(tmp_path: Path) -> None:
    assert open_load(None, tmp_path) is None


def test_a_card_whose_tool_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert open_load(Card("GPU-3", "NVIDIA A100", "570", None, None), tmp_path) is None


def wait_for_power(recorder: LoadRecorder, start_ns: int) -> Dict[str, float]:
    deadline_s = time.monotonic() + HANG_S
    while True:
        mean = recorder.mean(start_ns, time.perf_counter_ns())
        if mean:
            return mean
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_recorder_reads_until_it_is_closed(tmp_path: Path) -> None:
    source = JetsonLoad(write_files(tmp_path, XAVIER_NX), interval_s=0.01)
    recorder = LoadRecorder(source, time.perf_counter_ns)
    start_ns = time.perf_counter_ns()
    assert wait_for_power(recorder, start_ns) == pytest.approx(
        {"gpu_utilization": 0.873, "power_w": 2.78208}
    )
    write_files(tmp_path, {"sys/class/devfreq/17000000.gv11b/device/load": "0\n"})
    idle_ns = time.perf_counter_ns() + 50_000_000
    assert wait_for_power(recorder, idle_ns)["gpu_utilization"] == 0.0
    recorder.close()
    assert recorder.mean(time.perf_counter_ns(), time.perf_counter_ns() + HANG_NS) == {}


HANG_NS = int(HANG_S * 1e9)


def test_a_source_that_fails_is_absent_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        power_of = ""
        is_closed = False

        def readings(self) -> Iterator[Dict[str, float]]:
            yield {"power_w": 1.0}
            raise KeyError("bug")

        def close(self) -> None:
            self.is_closed = True

    source = Broken()
    recorder = LoadRecorder(source, time.perf_counter_ns)
    assert wait_for_power(recorder, 0) == {"power_w": 1.0}
    recorder.close()
    assert source.is_closed
    assert "thread load died" in caplog.text
