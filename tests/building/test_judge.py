from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge.building.calibration import CalibrationImage
from edge.building.gate import Gate, Predictions
from edge.building.gate_report import Verdict
from edge.building.graph import deploy
from edge.building.judge import HoldOut, Judge
from edge.building.labels import Labels
from edge.config.schema import EngineConfig, GateConfig, ModelConfig, Precision
from edge.errors import BuildError
from edge.geometry import Image, Letterbox
from edge.inference.engine import Synchronous
from edge.inference.onnxruntime import OnnxRuntimeEngine
from edge.records import BuildPhase, BuildProgress, DeployedGraph, EngineInfo, Preprocessing

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "edge/demo/assets/parts.onnx"
IMAGE_COUNT = 40
BATCH = 12

# --- the demo model on images of the calibration folder --------------------------------------


@pytest.fixture(scope="module")
def graph() -> DeployedGraph:
    return deploy(MODEL, ModelConfig(path=MODEL, max_candidates=300))


@pytest.fixture(scope="module")
def hold_out(graph: DeployedGraph) -> HoldOut:
    paths = sorted((ROOT / "calibration").glob("*.jpg"))[::12][:IMAGE_COUNT]
    frames = np.empty((IMAGE_COUNT, *graph.preprocessing.input_wh[::-1], 3), np.uint8)
    for row, path in zip(frames, paths):
        source = np.asarray(cv2.imread(str(path)), np.uint8)
        letterbox = Letterbox.fit((source.shape[1], source.shape[0]), graph.preprocessing.input_wh)
        letterbox.draw(source, row)
    return HoldOut(lambda: padded(frames, BATCH), tuple(path.name for path in paths))


def padded(frames: Image, batch: int) -> Iterator[Image]:
    full = np.concatenate([frames, frames[: -len(frames) % batch]])
    return (full[start : start + batch] for start in range(0, len(full), batch))


def judge(graph: DeployedGraph, hold_out: HoldOut, min_boxes: int = 200, **keys: float) -> Judge:
    gate = Gate(GateConfig(min_boxes=min_boxes, **keys), graph.class_names, 0.2)
    return Judge(gate, hold_out, lambda progress: None)


def predicted(graph: DeployedGraph, hold_out: HoldOut, precision: Precision) -> Predictions:
    engine = OnnxRuntimeEngine(graph, EngineConfig())
    try:
        return judge(graph, hold_out).predict(engine, precision)
    finally:
        engine.close()


@pytest.fixture(scope="module")
def reference(graph: DeployedGraph, hold_out: HoldOut) -> Predictions:
    return predicted(graph, hold_out, Precision.FP32)


def changed(graph: DeployedGraph, change: Callable[[onnx.ModelProto], None]) -> DeployedGraph:
    model = onnx.load_from_string(graph.onnx_bytes)
    change(model)
    return dataclasses.replace(graph, onnx_bytes=model.SerializeToString())


def noise(share: float) -> Callable[[onnx.ModelProto], None]:
    """Adds noise to every convolution's weights, as a share of their spread."""

    def change(model: onnx.ModelProto) -> None:
        random = np.random.default_rng(1)
        for tensor in model.graph.initializer:
            if len(tensor.dims) == 4:
                weights = numpy_helper.to_array(tensor)
                wrong = random.normal(0, share * weights.std(), weights.shape)
                noisy = (weights + wrong).astype(weights.dtype)
                tensor.CopyFrom(numpy_helper.from_array(noisy, tensor.name))

    return change


def one_scale_behind_the_head(model: onnx.ModelProto) -> None:
    """Boxes 0..640 and scores 0..1 through one INT8 scale: what ruins detectors everywhere."""
    for node in model.graph.node:
        node.output[:] = ["exact" if name == "detections" else name for name in node.output]
    model.graph.initializer.extend(
        [
            helper.make_tensor("step", TensorProto.FLOAT, [], [640 / 127]),
            helper.make_tensor("middle", TensorProto.INT8, [], [0]),
        ]
    )
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", ["exact", "step", "middle"], ["int8"]),
            helper.make_node("DequantizeLinear", ["int8", "step", "middle"], ["detections"]),
        ]
    )


def test_an_engine_against_itself_passes_without_any_loss(
    graph: DeployedGraph, hold_out: HoldOut, reference: Predictions
) -> None:
    again = predicted(graph, hold_out, Precision.INT8)
    report = judge(graph, hold_out, max_loss=0).compare(reference, again)
    assert report.verdict is Verdict.PASS
    assert report.overall.loss == 0.0
    assert (report.overall.lost, report.overall.gained) == (0, 0)
    assert report.overall.boxes > 200
    assert report.images == IMAGE_COUNT
    assert len(report.classes) == len(graph.class_names)


@pytest.mark.parametrize(
    ("share", "verdict", "least", "most"),
    [
        pytest.param(0.002, Verdict.PASS, 0.0, 0.005, id="noise of two thousandths"),
        pytest.param(0.2, Verdict.FAIL, 0.1, 0.9, id="noise of a fifth"),
    ],
)
def test_noisy_weights(
    graph: DeployedGraph,
    hold_out: HoldOut,
    reference: Predictions,
    share: float,
    verdict: Verdict,
    least: float,
    most: float,
) -> None:
    noisy = predicted(changed(graph, noise(share)), hold_out, Precision.INT8)
    report = judge(graph, hold_out).compare(reference, noisy)
    assert report.verdict is verdict
    assert report.overall.loss is not None
    assert least <= report.overall.loss <= most
    assert report.overall.mean_iou is not None
    assert report.overall.mean_iou < 1.0


def test_one_scale_for_boxes_and_scores_fails_loudly(
    graph: DeployedGraph, hold_out: HoldOut, reference: Predictions
) -> None:
    rounded = predicted(changed(graph, one_scale_behind_the_head), hold_out, Precision.INT8)
    report = judge(graph, hold_out).compare(reference, rounded)
    assert report.verdict is Verdict.FAIL
    assert f"every score of int8 is 0 on all {IMAGE_COUNT} images" in report.reason


def test_too_few_images_are_no_evidence(
    graph: DeployedGraph, hold_out: HoldOut, reference: Predictions
) -> None:
    report = judge(graph, hold_out, min_boxes=500).compare(reference, reference)
    assert report.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    boxes = report.overall.boxes
    missing = -(-500 * IMAGE_COUNT // boxes) - IMAGE_COUNT
    assert f"add about {missing * 5} images like these" in report.reason


# --- engines whose every number is known -----------------------------------------------------


class TableEngine(Synchronous):
    """Gives the rows that stand in a table under the first pixel of each frame."""

    input_wh = (4, 4)

    def __init__(self, rows: NDArray[np.float32], max_batch: int = 2) -> None:
        self._rows = rows
        self.batches: List[int] = []
        self.info = EngineInfo("table", "1", "none", "fp32", max_batch)

    def infer(self, frames: Image) -> NDArray[np.float32]:
        self.batches.append(len(frames))
        rows: NDArray[np.float32] = self._rows[frames[:, 0, 0, 0]]
        return rows

    def close(self) -> None:
        self.batches.clear()


def table_of(*rows: Tuple[float, ...]) -> NDArray[np.float32]:
    """One image with these rows, float32 [1, K, 6]."""
    return np.array([rows], np.float32)


def numbered(count: int, batch: int = 3) -> HoldOut:
    frames = np.zeros((count, 4, 4, 3), np.uint8)
    frames[:, 0, 0, 0] = np.arange(count)
    return HoldOut(lambda: padded(frames, batch), tuple(f"{n}.jpg" for n in range(count)))


def look(engine: TableEngine, hold_out: HoldOut) -> Tuple[Predictions, List[BuildProgress]]:
    progress: List[BuildProgress] = []
    gate = Gate(GateConfig(), ("bolt", "nut"), 0.2)
    found = Judge(gate, hold_out, progress.append).predict(engine, Precision.INT8)
    return found, progress


def test_every_image_is_seen_once_in_batches_the_engine_takes() -> None:
    rows = np.array([[[n, 0, n + 1, 1, 0.9, 0]] for n in range(7)], np.float32)
    engine = TableEngine(rows)
    found, progress = look(engine, numbered(7))
    assert engine.batches == [2, 1, 2, 1, 1]
    assert [image.boxes_xyxy[0, 0] for image in found.images] == list(range(7))
    assert [one.done for one in progress] == [n / 7 for n in (0, 2, 3, 5, 6, 7)]
    assert {one.phase for one in progress} == {BuildPhase.JUDGING}
    assert progress[-1].message == "int8: 7 of 7 held-out images"


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_padding_is_not_judged(count: int) -> None:
    found, progress = look(
        TableEngine(table_of((0, 0, 1, 1, 0.5, 0)).repeat(5, 0)), numbered(count)
    )
    assert len(found.images) == count
    assert progress[-1].done == 1.0


def test_images_that_are_gone_end_the_judging() -> None:
    short = dataclasses.replace(numbered(3), names=tuple("abcd"))
    with pytest.raises(BuildError, match="1 of 4 held-out images are gone"):
        look(TableEngine(table_of((0, 0, 1, 1, 0.5, 0)).repeat(3, 0)), short)


NAN, INF = float("nan"), float("inf")
ROWS: Dict[str, Tuple[Tuple[float, ...], int, int]] = {
    # one row, how many boxes it makes, how many images it spoils
    "lowest score": ((0, 0, 9, 9, 0.0011, 0), 1, 0),
    "below every score": ((0, 0, 9, 9, 0.0009, 0), 0, 0),
    "unused": ((0, 0, 0, 0, 0, 0), 0, 0),
    "no area": ((5, 5, 5, 9, 0.9, 0), 0, 0),
    "last class": ((0, 0, 9, 9, 0.9, 1), 1, 0),
    "no such class": ((0, 0, 9, 9, 0.9, 2), 0, 1),
    "class below 0": ((0, 0, 9, 9, 0.9, -1), 0, 1),
    "score without a number": ((0, 0, 9, 9, NAN, 0), 0, 1),
    "class without a number": ((0, 0, 9, 9, 0.9, NAN), 0, 1),
    "box without a number": ((NAN, 0, 9, 9, 0.9, 0), 0, 1),
    "endless box": ((0, 0, INF, 9, 0.9, 0), 0, 1),
    "endless box that nobody sees": ((0, 0, INF, 9, 0.0, 0), 0, 0),
}


@pytest.mark.parametrize(("row", "boxes", "unsound"), ROWS.values(), ids=ROWS)
def test_rows(row: Tuple[float, ...], boxes: int, unsound: int) -> None:
    found, _ = look(TableEngine(table_of(row)), numbered(1))
    assert len(found.images[0]) == boxes
    assert found.unsound_images == unsound
    assert found.top_score == pytest.approx(0.0 if np.isnan(row[4]) else row[4])


def test_overlapping_boxes_of_a_class_are_suppressed() -> None:
    rows = table_of((0, 0, 9, 9, 0.5, 0), (0, 0, 9, 8, 0.9, 0), (0, 0, 9, 9, 0.7, 1))
    found, _ = look(TableEngine(rows), numbered(1))
    assert found.images[0].scores.tolist() == pytest.approx([0.9, 0.7])


# --- from a calibration folder ---------------------------------------------------------------


def test_a_calibration_folder_gives_frames_names_and_labels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((50, 100, 3), 200, np.uint8))
    cv2.imwrite(str(tmp_path / "b.png"), np.full((100, 100, 3), 100, np.uint8))
    labels = Labels(np.array([[10, 20, 30, 40]], np.float32), np.array([1]))
    images = (
        CalibrationImage(tmp_path / "a.png", "0", (100, 50), labels),
        CalibrationImage(tmp_path / "b.png", "1", (100, 100)),
    )
    hold_out = HoldOut.of(images, Preprocessing((200, 200)), batch=4)
    (frames,) = hold_out.frames()
    assert hold_out.names == ("a.png", "b.png")
    assert frames[:, 100, 100, 0].tolist() == [200, 100]
    assert hold_out.truth is not None
    marked, unmarked = hold_out.truth
    assert unmarked is None
    assert marked is not None
    # Twice as large, and 50 grey rows above.
    assert marked.boxes_xyxy.tolist() == [[20, 90, 60, 130]]
    assert marked.class_ids.tolist() == [1]
