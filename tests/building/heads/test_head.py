"""Every family's deployed graph detects what the family's own pipeline does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.building.graph import deploy
from edge.building.heads.families import grid_cells
from edge.building.heads.head import grid
from edge.config.schema import HeadName, ModelConfig
from edge.geometry import Image, Letterbox
from edge.postprocess.postprocess import is_saturated
from edge.records import DeployedGraph
from tests.building.heads import reference
from tests.building.heads.tiny_networks import BOXES_OF_END_TO_END, Tiny
from tests.building.tiny_detectors import Dim, save

STRIDE = {"stride": "32"}


class Case(NamedTuple):
    """A network, what its head is called, and how its family decodes it."""

    tiny: Tiny
    head: HeadName
    decode: reference.Decode
    configured: Optional[HeadName] = None


YOLOX = Tiny("yolox", pixel_range=255.0)
CASES: Dict[str, Case] = {
    "YOLOv5": Case(Tiny("yolov5"), HeadName.YOLOV5, reference.yolov5),
    "YOLOv5, one class": Case(
        Tiny("yolov5", class_count=1, metadata=STRIDE), HeadName.YOLOV5, reference.yolov5
    ),
    "YOLOv5, feature maps aside": Case(
        Tiny("yolov5_with_feature_maps"), HeadName.YOLOV5, reference.yolov5
    ),
    "YOLOv6": Case(Tiny("yolov6"), HeadName.YOLOV5, reference.yolov5),
    "YOLOv6, one class": Case(Tiny("yolov6", class_count=1), HeadName.YOLOV5, reference.yolov5),
    "YOLOv7": Case(Tiny("yolov7"), HeadName.YOLOV5, reference.yolov7),
    "YOLOv7, one class": Case(
        Tiny("yolov7", class_count=1), HeadName.YOLOV7, reference.yolov7, HeadName.YOLOV7
    ),
    "YOLOv8": Case(Tiny("yolov8"), HeadName.YOLOV8, reference.yolov8),
    "YOLOv8, one class": Case(Tiny("yolov8", class_count=1), HeadName.YOLOV8, reference.yolov8),
    "YOLOv8, two classes": Case(Tiny("yolov8", class_count=2), HeadName.YOLOV8, reference.yolov8),
    "YOLO26, raw": Case(Tiny("yolo26_raw"), HeadName.YOLOV8, reference.yolov8),
    "YOLOv10, raw": Case(
        Tiny("yolov10_cut"), HeadName.YOLOV8_CORNERS, reference.yolov8_corners
    ),
    "YOLOv10": Case(Tiny("yolov10"), HeadName.END_TO_END, reference.end_to_end),
    "YOLOX": Case(YOLOX, HeadName.YOLOX, reference.yolox),
    "YOLOX, one class": Case(replace(YOLOX, class_count=1), HeadName.YOLOX, reference.yolox),
    "YOLOX, decoded": Case(
        replace(YOLOX, style="yolox_decoded"), HeadName.YOLOX_DECODED, reference.yolov5
    ),
    "YOLOX, decoded, one class": Case(
        replace(YOLOX, style="yolox_decoded", class_count=1),
        HeadName.YOLOX_DECODED,
        reference.yolov5,
    ),
}  # fmt: skip
YOLOX_HEADS = (HeadName.YOLOX, HeadName.YOLOX_DECODED)


def sources() -> List[Image]:
    """Wide, tall and exact pictures for networks of 96x64 pixels."""
    random = np.random.default_rng(5)
    sizes = ((96, 192), (64, 48), (128, 192), (48, 96))
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def deployed(tiny: Tiny, folder: Path, **keys: Any) -> DeployedGraph:
    input_wh = tiny.input_wh if tiny.is_size_open else None
    path = tiny.save(folder)
    return deploy(path, ModelConfig(path=path, input_wh=input_wh, **keys))


def found_by(graph: DeployedGraph, run: reference.Run = reference.run) -> reference.Rows:
    """What the deployed graph finds in the sources, letterboxed by the product."""
    preprocessing = graph.preprocessing
    width, height = preprocessing.input_wh
    frames = np.empty((4, height, width, 3), np.uint8)
    for frame, source in zip(frames, sources()):
        source_wh = source.shape[1], source.shape[0]
        letterbox = Letterbox.fit(source_wh, (width, height), preprocessing.pad_anchor)
        letterbox.draw(source, frame)
    return reference.run_in_parts(run, graph.onnx_bytes, "frames", frames, graph.fixed_batch or 0)


def expected_of(case: Case, tiny: Tiny, run: reference.Run = reference.run) -> reference.Rows:
    own = reference.Pipeline(reference.centered, reference.rgb_of_one, case.decode)
    if case.head in YOLOX_HEADS:
        own = reference.Pipeline(reference.top_left, reference.bgr_of_255, case.decode)
    return reference.detections(tiny.model(), sources(), tiny.input_wh, own, run)


def check_equal(
    case: Case, tiny: Tiny, folder: Path, run: reference.Run = reference.run
) -> DeployedGraph:
    graph = deployed(tiny, folder, head=case.configured)
    assert graph.head == case.head.value
    found, expected = found_by(graph, run), expected_of(case, tiny, run)
    assert found.dtype == np.float32
    k = min(expected.shape[1], graph.max_candidates)
    assert found.shape[1] == graph.max_candidates
    np.testing.assert_allclose(found[:, :k], expected[:, :k], atol=1e-3, rtol=1e-5)
    assert (found[:, k:] == 0).all()
    assert np.ptp(expected[..., 4]) > 0.01
    return graph


SHAPES: Dict[str, Tuple[Dim, bool]] = {
    "any batch": ("batch", False),
    "two images": (2, False),
    "any size": ("batch", True),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_familys_own_pipeline(tmp_path: Path, name: str, shape: str) -> None:
    batch, is_size_open = SHAPES[shape]
    case = CASES[name]
    tiny = replace(case.tiny, batch=batch, is_size_open=is_size_open)
    graph = check_equal(case, tiny, tmp_path)
    assert graph.fixed_batch == (2 if batch == 2 else None)
    assert len(graph.class_names) == tiny.class_count


@pytest.mark.parametrize("shape", ["two images", "any size"])
@pytest.mark.parametrize("name", CASES)
def test_half_precision_equals_the_familys_own_pipeline(
    tmp_path: Path, name: str, shape: str
) -> None:
    batch, is_size_open = SHAPES[shape]
    case = CASES[name]
    tiny = replace(case.tiny, batch=batch, is_size_open=is_size_open, dtype=np.float16)
    graph = check_equal(case, tiny, tmp_path, reference.run_to_the_letter)
    scores = found_by(graph)[..., 4]
    exact = found_by(graph, reference.run_to_the_letter)[..., 4]
    np.testing.assert_allclose(scores, exact, atol=1e-2)


@pytest.mark.parametrize("opset", [11, 18, 20])
@pytest.mark.parametrize("name", CASES)
def test_takes_every_opset(tmp_path: Path, name: str, opset: int) -> None:
    case = CASES[name]
    graph = check_equal(case, replace(case.tiny, opset=opset), tmp_path)
    model = onnx.load_model_from_string(graph.onnx_bytes)
    assert model.opset_import[0].version == min(opset, 17)
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("opset", [11, 18])
def test_takes_boxes_written_in_place(tmp_path: Path, opset: int) -> None:
    case = CASES["YOLOX, decoded"]
    tiny = replace(case.tiny, style="yolox_decoded_in_place", batch=2, opset=opset)
    check_equal(case, tiny, tmp_path)


FORBIDDEN = {"NonZero", "NonMaxSuppression", "If", "Loop", "Scan"}


@pytest.mark.parametrize("name", CASES)
def test_writes_only_what_old_runtimes_read(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    model = onnx.load_model_from_string(
        deployed(case.tiny, tmp_path, head=case.configured).onnx_bytes
    )
    ours = [node for node in model.graph.node if node.name.startswith("edge/")]
    constants = {tensor.name for tensor in model.graph.initializer}
    assert [node.op_type for node in model.graph.node if "frames" in node.input] == ["Cast"]
    assert {node.domain for node in model.graph.node} == {""}
    assert not FORBIDDEN & {node.op_type for node in ours}
    for node in ours:
        if node.op_type in ("Slice", "TopK", "Pad"):
            assert set(node.input[1:]) <= constants
    is_yolox = case.head in YOLOX_HEADS
    preprocessing = {node.op_type for node in ours[:4] if node.name.startswith("edge/")}
    assert ("Div" in preprocessing) is not is_yolox
    assert ("Gather" in preprocessing) is not is_yolox


@pytest.mark.parametrize("name", CASES)
def test_max_candidates_cuts_the_worst_and_says_so(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    everything = found_by(deployed(case.tiny, tmp_path, head=case.configured, max_candidates=3840))
    count = everything.shape[1]
    threshold = float(everything[0, count // 2, 4])
    above = int((everything[0, :, 4] >= threshold).sum())
    assert 1 < above <= count
    for max_candidates in (above - 1, above, above + 1):
        graph = deployed(case.tiny, tmp_path, head=case.configured, max_candidates=max_candidates)
        found = found_by(graph)
        if case.head is HeadName.END_TO_END:
            np.testing.assert_array_equal(found, everything)
            continue
        np.testing.assert_array_equal(found, everything[:, :max_candidates])
        assert is_saturated(found[0], threshold) is (max_candidates <= above)


def test_rows_of_an_end_to_end_network_are_never_cut(tmp_path: Path) -> None:
    graph = deployed(CASES["YOLOv10"].tiny, tmp_path, max_candidates=5)
    assert graph.max_candidates == found_by(graph).shape[1] == BOXES_OF_END_TO_END


def test_sorts_what_an_end_to_end_network_left_unsorted(tmp_path: Path) -> None:
    case = CASES["YOLOv10"]
    model = case.tiny.model()
    for node in model.graph.node:
        if node.op_type == "Concat" and model.graph.output[0].name in node.output:
            node.output[0] = "best_first"
    model.graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(np.array([value], np.int64), name)
            for name, value in (("from", -1), ("to", -99), ("along", 1), ("back", -1))
        ]
    )
    reverse = ["best_first", "from", "to", "along", "back"]
    model.graph.node.append(onnx.helper.make_node("Slice", reverse, [model.graph.output[0].name]))
    path = save(model, tmp_path)
    found = found_by(deploy(path, ModelConfig(path=path)))
    assert (np.diff(found[..., 4]) <= 0).all()
    best = expected_of(case, case.tiny)[:, 0]
    np.testing.assert_allclose(found[:, 0], best, atol=1e-3)


@given(columns=st.integers(1, 24), rows=st.integers(1, 24))
def test_grid_lists_every_cell_once(columns: int, rows: int) -> None:
    wh: Tuple[int, int] = (columns * 32, rows * 32)
    corners, strides = grid(wh)
    assert len(corners) == len(strides) == grid_cells(wh) == 21 * columns * rows
    centers = (corners + 0.5) * strides
    assert ((centers > 0) & (centers < wh)).all()
    assert len(np.unique(np.concatenate([corners, strides], axis=1), axis=0)) == len(corners)
    # Row by row: the second cell of each grid lies to the right of the first.
    assert corners[1].tolist() == [1, 0]


def test_half_precision_decodes_in_float32(tmp_path: Path) -> None:
    case = CASES["YOLOX"]
    graph = deployed(replace(case.tiny, dtype=np.float16), tmp_path)
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(graph.onnx_bytes))
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    assert kinds["edge/boxes"] == onnx.TensorProto.FLOAT
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
