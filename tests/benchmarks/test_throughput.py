"""That the benchmark's figures are what they claim, and that it says what is missing."""

from __future__ import annotations

import argparse
import ctypes
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import throughput
from benchmarks.network import write_detector
from benchmarks.opened import Opened
from benchmarks.points import Point, waited_for
from benchmarks.streams import HostTimes
from benchmarks.throughput import Pace, ThroughputReport, compare, judge, ladder
from edge.building.onnxruntime_toolchain import OnnxRuntimeToolchain
from edge.config.schema import Precision
from edge.errors import BuildError
from edge.geometry import Image
from edge.inference.device import DeviceEngine
from edge.records import DeployedGraph, Preprocessing, StageTimes
from tests.benchmarks.commands import run
from tests.benchmarks.test_streams import CANDIDATES, INPUT_WH, PretendGpu, streams_of
from tests.inference.onnxruntime_cuda_double import cuda_provider

PACE = Pace(rounds=2, way_ms=1, batches=(1, 8, 64))


def report() -> ThroughputReport:
    return ThroughputReport(argparse.Namespace(quick=True, json=True, save=None))


def opened(name: str) -> Opened:
    gpu = PretendGpu()
    graph = DeployedGraph(b"", name, "", "yolov8", Preprocessing(INPUT_WH), ("one",), CANDIDATES)
    return Opened(name, graph, gpu, streams_of(gpu))


class PretendEager:
    """A peer that finds nothing."""

    def __init__(self, score: float = 0.0) -> None:
        self.score = score
        self.asked = 0

    def detect(self, frame: Image) -> NDArray[np.float32]:
        assert frame.shape == (INPUT_WH[1], INPUT_WH[0], 3)
        self.asked += 1
        return np.zeros((0, 6), np.float32)

    detect_lean = detect

    def scores(self, frames: Image, count: int) -> NDArray[np.float32]:
        return np.full((len(frames), CANDIDATES), self.score, np.float32)


def point(network: str, batch: int, **changes: Any) -> Point:
    """One where two streams reach 0.97 of the compute and twice the serial way's."""
    ms_per_frame: Dict[str, List[float]] = {
        "compute": [0.97, 0.97, 0.97],
        "serial": [2.0, 2.0, 2.0],
        "overlapped": [1.0, 1.0, 1.0],
        "detected": [1.25, 1.25, 1.25],
    }
    stages = changes.pop("stages", StageTimes(batch, 0.2, 1.0, 0.1))
    ms_per_frame.update(changes)
    host = dict.fromkeys(("serial", "overlapped", "detected"), HostTimes(0.5, 1.0, 2.0))
    return Point(network, batch, ms_per_frame, host, stages)


def figures(*points: Point) -> Dict[str, Any]:
    result = report()
    result.points += points
    judge(result)
    return result.as_json()


def test_ratios_are_of_the_throughputs_round_by_round() -> None:
    one = point("demo", 8, overlapped=[1.0, 2.0, 4.0], serial=[2.0, 6.0, 4.0])
    assert one.ratio("overlapped", "serial") == 2.0
    assert one.fps("overlapped") == 500.0
    assert one.batch_ms == 16.0


@pytest.mark.parametrize(
    ("upload_ms", "compute_ms", "launch_ms", "expected"),
    [
        pytest.param(1.0, 9.0, 1.0, "the GPU computes all the time", id="compute"),
        pytest.param(1.0, 8.9, 1.0, "nothing alone explains it", id="nearly compute"),
        pytest.param(9.5, 3.0, 1.0, "the frames' way to the GPU is full", id="copies"),
        pytest.param(9.5, 9.5, 9.0, "the GPU waits for the host", id="the host before all"),
    ],
)
def test_what_is_waited_for(
    upload_ms: float, compute_ms: float, launch_ms: float, expected: str
) -> None:
    stages = StageTimes(8, upload_ms, compute_ms, 0.1)
    assert waited_for(stages, launch_ms, batch_ms=10.0).startswith(expected)


@pytest.mark.parametrize(
    ("upload_ms", "bar"),
    [
        pytest.param(0.299, ">= 1", id="little to hide"),
        pytest.param(0.3, ">= 1.3", id="much to hide"),
    ],
)
def test_the_bar_over_serial_depends_on_the_copies(upload_ms: float, bar: str) -> None:
    result = figures(point("demo", 8, stages=StageTimes(8, upload_ms, 1.0, 0.1)))
    assert result["copy_over_compute_demo"] == upload_ms
    assert result["bars"]["overlap_over_serial_demo"]["bar"] == bar


def test_the_overlap_is_judged_by_the_lowest() -> None:
    result = figures(
        point("yolo_fp16", 1, overlapped=[2.5, 2.5, 2.5]),
        point("yolo_fp16", 8),
        point("demo", 8, overlapped=[1.1, 1.1, 1.1]),
    )
    assert result["overlap_over_compute_yolo_fp16"] == pytest.approx(0.97)
    assert result["overlap_over_compute"] == pytest.approx(0.97 / 1.1)
    assert result["bars"]["overlap_over_compute"] == {"bar": ">= 0.95", "verdict": "MISS"}
    assert result["overlap_over_serial_lowest"] == pytest.approx(0.8)
    assert result["latency_serial_ms_demo"] == 2.0
    assert "best_over_eager_batch1" not in result  # nobody measured the peer


def test_the_best_batch_is_held_against_the_peer_of_its_own_rounds() -> None:
    result = figures(
        point("yolo_fp16", 8, eager=[20.0, 20.0, 20.0], eager_lean=[10.0, 10.0, 10.0]),
        point(
            "yolo_fp16",
            32,
            detected=[1.0, 1.0, 1.0],
            overlapped=[0.5, 0.5, 0.5],
            eager=[10.0, 9.0, 8.0],
            eager_lean=[5.0, 5.0, 5.0],
        ),
        point("yolo_fp32", 8, eager=[5.0, 5.0, 5.0], eager_lean=[5.0, 5.0, 5.0]),
    )
    assert result["best_over_eager_batch1"] == 9.0
    assert result["bars"]["best_over_eager_batch1"] == {"bar": ">= 8.7", "verdict": "PASS"}
    assert result["best_over_eager_batch1_unsuppressed_yolo_fp16"] == 18.0
    assert result["best_over_lean_eager_batch1_yolo_fp16"] == 5.0
    assert result["best_over_eager_batch1_yolo_fp32"] == 4.0
    assert "best_over_eager_batch1_yolo_fp32" not in result["bars"]


def test_a_ladder_has_a_point_for_every_batch_that_the_engine_takes() -> None:
    result, eager = report(), PretendEager()
    result.points += ladder(opened("yolo_fp16"), eager, PACE, result)
    assert [one.batch for one in result.points] == [1, 8]
    ways = ["compute", "serial", "overlapped", "detected", "eager", "eager_lean"]
    assert [list(one.ms_per_frame) for one in result.points] == [ways, ways]
    assert all(len(values) == 2 for values in result.points[0].ms_per_frame.values())
    assert eager.asked > 0
    judge(result)
    told = result.as_json()
    assert [entry["batch"] for entry in told["points"]] == [1, 8]
    assert set(told["points"][0]["host_ms"]) == {"serial", "overlapped", "detected"}
    assert "yolo_fp16" in result.table()


@pytest.mark.parametrize(("score", "verdict"), [(0.0, "PASS"), (9.0, "MISS")])
def test_a_peer_that_computes_something_else_is_noticed(score: float, verdict: str) -> None:
    result = report()
    one = opened("yolo_fp16")
    # The double's scores are the numbers of its batches, beginning here at 0.
    list(ladder(one, PretendEager(score), Pace(1, 1, ()), result))
    assert result.as_json()["bars"]["largest_score_difference_yolo_fp16"]["verdict"] == verdict
    assert bool(result.missed) == (verdict == "MISS")


def test_precisions_are_compared_in_turn() -> None:
    result = report()
    networks = {name: opened(name) for name in ("yolo_fp32", "yolo_fp16", "yolo_int8")}
    compare(networks, PACE, result)
    told = result.as_json()
    assert told["fp16_b32_over_fp32_b1"] > 0
    assert told["int8_over_fp16"] > 0
    assert told["bars"]["fp16_b32_over_fp32_b1"]["bar"] == ">= 3.6"


def compute_in_turn(
    engine: DeviceEngine, rows: int, batches: int, compute: Any = DeviceEngine.compute_alone
) -> None:
    """The provider's double forgives no second batch with the same memory before the first ends."""
    for _ in range(batches):
        compute(engine, rows, 1)


@pytest.fixture
def without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the exports of an earlier run, and a GPU that the CPU stands in for."""
    for name in ("yolo-fp32", "yolo-fp16", "demo"):
        write_detector(tmp_path / f"{name}.onnx", INPUT_WH, class_count=3)
    monkeypatch.setattr(throughput, "DEMO", tmp_path / "demo.onnx")
    monkeypatch.setattr(throughput, "QUICK", PACE)
    monkeypatch.setattr(throughput, "_has_torch", lambda: False)
    monkeypatch.setattr(throughput, "_gpu", lambda: "the GPU is none")
    with cuda_provider() as (_, context), pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "close", lambda: None)  # one for all networks
        patch.setattr(DeviceEngine, "compute_alone", compute_in_turn)
        yield tmp_path


def test_networks_run_through_the_engines_of_the_daemon(
    without_torch: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(without_torch.parent)  # what is relative counts from here
    throughput.main(["--quick", "--json", "--state", without_torch.name, "--largest", "8"])
    told = json.loads(capsys.readouterr().out)
    measured = [(entry["network"], entry["batch"]) for entry in told["points"]]
    networks = ("yolo_fp32", "yolo_fp16", "demo")
    assert measured == [(name, batch) for name in networks for batch in (1, 8)]
    assert {"overlap_over_compute", "overlap_over_serial_lowest", "fp16_b32_over_fp32_b1"} <= set(
        told["bars"]
    )
    assert "best_over_eager_batch1" not in told
    notes = " ".join(told["notes"])
    assert "pip install torch" in notes
    assert "demo: onnxruntime" in notes
    has_missed = any(entry["verdict"] == "MISS" for entry in told["bars"].values())
    assert ("ms of the host" in notes) == has_missed


def test_a_network_that_cannot_be_built_is_told_and_left_out(
    without_torch: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = OnnxRuntimeToolchain.load

    def load_some(toolchain: OnnxRuntimeToolchain, data: bytes, precision: Precision) -> Any:
        if toolchain._graph.name == "yolo-fp16":
            raise BuildError("no kernel for Conv_7")
        return load(toolchain, data, precision)

    monkeypatch.setattr(OnnxRuntimeToolchain, "load", load_some)
    monkeypatch.setattr(throughput, "QUICK", Pace(1, 1, (1,)))
    throughput.main(["--quick", "--json", "--state", str(without_torch)])
    told = json.loads(capsys.readouterr().out)
    assert [entry["network"] for entry in told["points"]] == ["yolo_fp32", "demo"]
    assert "yolo_fp16 was not built: no kernel for Conv_7" in told["notes"]
    assert "fp16_b32_over_fp32_b1" not in told


def test_without_torch_and_exports_one_line_says_so(without_torch: Path) -> None:
    (without_torch / "yolo-fp16.onnx").unlink()
    with pytest.raises(SystemExit) as ended:
        throughput.main(["--quick", "--state", str(without_torch)])
    assert ended.value.code == (
        "throughput: torch makes the network and is the peer: pip install torch"
    )


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(_has_driver(), reason="there is an NVIDIA driver")
def test_without_a_gpu_one_line_says_so() -> None:
    ended = run(["-m", "benchmarks.throughput", "--quick"])
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("throughput: ")
    assert "NVIDIA driver" in ended.stderr
