"""`edge bench`: real ONNX Runtime on a tiny detector, and an engine that runs out of memory."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from edge.bench import measurement
from edge.bench.command import Bench
from edge.bench.trial import Trial
from edge.building.onnxruntime_toolchain import OnnxRuntimeToolchain
from edge.building.tune import Timing, timing
from edge.cli import main
from edge.config.load import load
from edge.config.schema import Precision
from edge.demo.show import ASSETS
from edge.errors import EngineError, EngineHangs, EngineOutOfMemory
from edge.geometry import Image
from edge.inference.engine import Done, Pending
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.records import StageTimes
from tests.building.tiny_detectors import TinyDetector

SIZES = [1, 2, 4, 8, 16, 32, 64]
CAMERA = {"name": "belt", "uri": str(ASSETS / "belt.mp4")}


def write(folder: Path, **changes: Any) -> Path:
    if not (folder / "tiny.onnx").exists():
        TinyDetector().save(folder)
    config: Dict[str, Any] = {
        "device": {"id": "nx", "state_dir": "state"},
        "model": {"path": "tiny.onnx"},
        "cameras": [CAMERA],
        **changes,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def bench(config: Path, *options: str) -> int:
    cameras = [] if "--cameras" in options else ["--cameras", "0"]
    return main(["bench", "-c", str(config), "--seconds", "0.05", *cameras, *options])


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many frames the engine holds at once: more run out of memory."""

    def limit(count: int) -> None:
        real = OnnxRuntimeEngine.infer

        def infer(self: OnnxRuntimeEngine, frames: Image) -> Any:
            if len(frames) > count:
                raise EngineOutOfMemory(f"no room for {len(frames)} frames")
            return real(self, frames)

        monkeypatch.setattr(OnnxRuntimeEngine, "infer", infer)
        monkeypatch.setattr(OnnxRuntimeEngine, "_warm_up", lambda self, largest: None)

    return limit


def table_sizes(text: str) -> List[int]:
    """The first column of the table."""
    lines = text.splitlines()
    (header,) = [number for number, line in enumerate(lines) if line.startswith("batch  calls")]
    width = len(lines[header])
    rows = [line for line in lines[header + 1 :] if line[:5].strip().isdigit()]
    assert {len(row) for row in rows} <= {width}  # aligned
    return [int(row.split()[0]) for row in rows]


def test_the_table_alone_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(write(tmp_path)) == 0
    seen = capsys.readouterr()
    assert table_sizes(seen.out) == SIZES
    for expected in ("tiny, input 64x48", "onnxruntime", "up to 8 frames", "knee "):
        assert expected in seen.out
    assert "overlapped/s" not in seen.out  # a processor has one way to run
    assert "synthetic" not in seen.out
    assert seen.err == ""
    assert not (tmp_path / "state").exists()


def test_the_cameras_come_after_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(write(tmp_path), "--cameras", "2", "--seconds", "1") == 0
    seen = capsys.readouterr()
    assert seen.out.index("knee ") < seen.out.index("cameras   2 synthetic ones of 1280x720")
    assert "frames/s end to end" in seen.out
    assert seen.err == ""


def test_what_was_measured_and_where_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(write(tmp_path), "--cameras", "1", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["end_to_end"]["cameras"] == 1
    assert summary["end_to_end"]["throughput_fps"] >= 0
    assert set(summary["board"]) == {
        "module", "l4t", "jetpack", "power_mode", "cpu", "cpu_clocks", "gpu_clocks",
    }  # fmt: skip
    assert summary["card"] is None  # a processor's engine leaves it alone


def test_a_stop_while_the_cameras_run_keeps_the_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: Trial, seconds: float, stop: threading.Event, load: object) -> None:
        stop.set()

    monkeypatch.setattr(Trial, "run", run)
    command = Bench(load(write(tmp_path), {}), 0.05, 2)
    lines = list(command.measure(threading.Event()))
    assert lines[-1] == "interrupted: nothing is told of the cameras"
    assert any(line.startswith("knee ") for line in lines)
    assert command.chosen is not None
    assert command.summary()["end_to_end"] is None


class Device(OnnxRuntimeEngine):
    """The real network, as if it ran on a device."""

    in_flight = 2
    every_s = 1.0
    stage_times: Tuple[StageTimes, ...] = ()

    def launch(self, frames: Image) -> Pending:
        if self.every_s == 0:
            self.stage_times = (*self.stage_times[-200:], StageTimes(len(frames), 0.5, 2.0, 0.25))
        return Done(self.infer(frames))

    def compute_alone(self, rows: int, batches: int) -> None:
        width, height = self.input_wh
        for _ in range(batches):
            self.infer(np.zeros((rows, height, width, 3), np.uint8))

    def time_every(self, seconds: float) -> None:
        self.every_s = seconds


@pytest.fixture
def on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_device(self: OnnxRuntimeToolchain, data: bytes, precision: Precision) -> Device:
        graph = replace(self._graph, onnx_bytes=data, precision=precision)
        return Device(graph, self._config)

    monkeypatch.setattr(OnnxRuntimeToolchain, "load", open_device)


@pytest.mark.usefixtures("on_a_device")
def test_a_device_is_measured_in_every_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "plot.svg"
    assert bench(write(tmp_path), "--cameras", "1", "--plot", str(plot)) == 0
    seen = capsys.readouterr()
    for expected in ("overlapped/s  serial/s", "ways      overlapped", "cameras   1 synthetic"):
        assert expected in seen.out
    assert seen.err == ""
    for way in ("overlapped", "serial", "compute alone"):
        assert f">{way}</text>" in plot.read_text("utf-8")


@pytest.mark.usefixtures("on_a_device")
def test_every_way_of_a_device_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(write(tmp_path), "--json", "--tune") == 0
    summary = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "state/tuning.json").read_text("utf-8"))
    assert summary["end_to_end"] is None
    assert [row["batch"] for row in summary["rows"]] == SIZES
    for row in summary["rows"]:
        assert min(row[key] for key in ("serial_fps", "compute_alone_fps")) > 0
        assert row["throughput_fps"] > 0
        assert row["overlap_over_serial"] > 0
        stages = [row[f"{stage}_ms"] for stage in ("upload", "compute", "download")]
        assert stages == [0.5 * row["calls"], 2.0 * row["calls"], 0.25 * row["calls"]]
    assert written["table"] == summary["rows"]


def test_tuning_writes_the_choice_and_a_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(write(tmp_path), "--tune", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "state/tuning.json").read_text("utf-8"))
    assert summary["schema"] == "edge.bench/1"
    assert summary["is_complete"] is True
    assert summary["out_of_memory"] is None
    assert [row["batch"] for row in summary["rows"]] == SIZES
    assert [row["calls"] for row in summary["rows"]] == [1, 1, 1, 1, 2, 4, 8]
    for row in summary["rows"]:
        assert row["repeats"] >= 5
        assert 0 < row["latency_ms_p50"] <= row["latency_ms_p99"]
        assert row["throughput_fps"] == pytest.approx(
            1000 * row["batch"] / row["latency_ms_p50"], rel=0.01
        )
        assert 0 <= row["cpu_utilization"] <= 1
        assert row["rss_mb"] > 10
    assert summary["knee"] == written["target"]
    assert summary["key"] == written["key"]
    assert summary["tuning"] == str(tmp_path / "state/tuning.json")
    assert summary["plot"] == str(tmp_path / "state/tuning.svg")
    assert ElementTree.parse(summary["plot"]).getroot().tag.endswith("svg")


def test_a_plot_where_it_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "plots" / "tiny.svg"
    assert bench(write(tmp_path), "--plot", str(plot)) == 0
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")
    assert not (tmp_path / "state").exists()
    assert str(plot) in capsys.readouterr().out


def test_a_target_in_the_config_is_told_to_go_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(write(tmp_path, batching={"target": 3}), "--tune") == 0
    assert "batching.target in the config says 3 and goes first" in capsys.readouterr().out


def test_out_of_memory_is_said_and_the_rest_is_chosen_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fits: Callable[[int], None]
) -> None:
    fits(3)
    assert bench(write(tmp_path), "--tune") == 0
    text = capsys.readouterr().out
    assert table_sizes(text) == [1, 2]
    assert "out of memory at 4 frames" in text
    written = json.loads((tmp_path / "state/tuning.json").read_text("utf-8"))
    assert written["target"] in (1, 2)


def test_not_even_one_frame_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fits: Callable[[int], None]
) -> None:
    fits(0)
    assert bench(write(tmp_path), "--tune") == 70
    seen = capsys.readouterr()
    assert "edge bench: out of memory at 1 frames: no room for 1 frames" in seen.err
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_engine_that_breaks_is_exit_70_after_what_was_measured(
    options: List[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = OnnxRuntimeEngine.infer

    def infer(self: OnnxRuntimeEngine, frames: Image) -> Any:
        if len(frames) == 4:
            raise EngineError("the engine is broken")
        return real(self, frames)

    monkeypatch.setattr(OnnxRuntimeEngine, "infer", infer)
    assert bench(write(tmp_path), "--tune", *options) == 70
    seen = capsys.readouterr()
    assert seen.err.splitlines() == ["edge bench: the engine is broken"]
    assert not (tmp_path / "state").exists()
    if options:
        summary = json.loads(seen.out)
        assert [row["batch"] for row in summary["rows"]] == [1, 2]
        assert (summary["is_complete"], summary["knee"]) == (False, None)
    else:
        assert table_sizes(seen.out) == [1, 2]


def test_a_device_that_never_answers_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    real = OnnxRuntimeEngine.infer

    def infer(self: OnnxRuntimeEngine, frames: Image) -> Any:
        if len(frames) == 4:
            may_end.wait()
        return real(self, frames)

    monkeypatch.setattr(OnnxRuntimeEngine, "infer", infer)
    monkeypatch.setattr(OnnxRuntimeEngine, "_warm_up", lambda self, largest: None)
    monkeypatch.setattr(measurement, "_PATIENCE_S", 1.0)
    assert bench(write(tmp_path)) == 70
    seen = capsys.readouterr()
    assert seen.err.splitlines() == ["edge bench: no batch was done for 1 s: the device hangs"]
    assert table_sizes(seen.out) == [1, 2]
    may_end.set()


def test_a_device_that_hangs_is_told_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    real = OnnxRuntimeEngine.infer

    def infer(self: OnnxRuntimeEngine, frames: Image) -> Any:
        if len(frames) == 4:
            raise EngineHangs("no result for 600 s: the device hangs")
        return real(self, frames)

    monkeypatch.setattr(OnnxRuntimeEngine, "infer", infer)
    monkeypatch.setattr(OnnxRuntimeEngine, "close", lambda self: may_end.wait())
    assert bench(write(tmp_path)) == 70
    seen = capsys.readouterr()
    assert seen.err.splitlines() == ["edge bench: no result for 600 s: the device hangs"]
    assert table_sizes(seen.out) == [1, 2]
    may_end.set()


@pytest.mark.parametrize("options", [["--tune"], ["--tune", "--json"], ["--plot", "file/plot.svg"]])
def test_what_cannot_be_written_is_said_after_the_table(
    options: List[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    config = write(tmp_path, device={"state_dir": "file/state"})
    assert bench(config, *options) == 78
    seen = capsys.readouterr()
    (line,) = seen.err.splitlines()
    assert line.startswith("edge bench: cannot write ")
    if "--json" in options:
        summary = json.loads(seen.out)
        assert len(summary["rows"]) == len(SIZES)
        assert summary["tuning"] is None
    else:
        assert table_sizes(seen.out) == SIZES


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"model": {"path": "none.onnx"}}, "none.onnx", id="no model"),
        pytest.param({"batching": {"target": 65}}, "batching.target", id="out of range"),
        pytest.param({"model": {"path": "config.yaml"}}, "not an ONNX file", id="no network"),
    ],
)
def test_a_config_that_is_wrong_is_exit_78(
    changes: Dict[str, Any], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(write(tmp_path, **changes), "--tune") == 78
    seen = capsys.readouterr()
    (line,) = seen.err.splitlines()
    assert expected in line
    assert seen.out == ""


@pytest.mark.parametrize("noise", [0.05, 0.182])
def test_a_knee_among_noise_is_said_to_be_doubtful(
    noise: float,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def timing_of(batch: int, durations_ns: Sequence[int], periods_ns: None) -> Timing:
        return replace(timing(batch, durations_ns), noise=noise)

    monkeypatch.setattr("edge.building.climb.timing", timing_of)
    assert bench(write(tmp_path)) == 0
    said = "doubtful  the throughputs it was chosen by are known to +/- 18 % only"
    assert (said in capsys.readouterr().out) is (noise > 0.05)


@pytest.mark.parametrize("cameras", ["-1", "65", "four", "1.5", ""])
def test_cameras_are_a_whole_number_up_to_64(
    cameras: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench(write(tmp_path), "--cameras", cameras)
    assert ended.value.code == 2
    assert "must be 0 to 64" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "inf", "nan", "soon", "86401", "1e12"])
def test_seconds_are_a_positive_number_up_to_a_day(
    seconds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench(write(tmp_path), "--seconds", seconds)
    assert ended.value.code == 2
    assert "--seconds" in capsys.readouterr().err
