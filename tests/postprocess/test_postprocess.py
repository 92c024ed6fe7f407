from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import ManualClock
from edge.config.schema import CameraConfig, PostprocessConfig
from edge.errors import ConfigError
from edge.geometry import Letterbox
from edge.postprocess.postprocess import Postprocessor
from edge.records import (
    Batch,
    BatchItem,
    BatchResult,
    FrameInfo,
    FrameResult,
    Slot,
    TimestampSource,
)

NAMES = ("nut", "bolt", "gear")
SOURCE_WH = (200, 100)
MODEL_WH = (100, 100)  # half the size, with 25 rows of border above and below

Row = Sequence[float]
INSIDE = (10.0, 35.0, 20.0, 45.0)


def batch_result(images: Sequence[Sequence[Row]], k: int = 8) -> BatchResult:
    detections = np.zeros((len(images), k, 6), np.float32)
    for image, rows in zip(detections, images):
        for i, row in enumerate(rows):
            image[i] = row
    items = tuple(
        BatchItem(
            FrameInfo(f"cam{i}", 40 + i, SOURCE_WH, 1, 2, TimestampSource.RECEIVE),
            Letterbox.fit(SOURCE_WH, MODEL_WH),
            np.full((2, 2, 3), i, np.uint8),
        )
        for i in range(len(images))
    )
    slot = Slot(0, np.zeros((len(images), *MODEL_WH, 3), np.uint8), lambda _: None)
    return BatchResult(Batch(9, slot, items, 10, 11), detections, 12, 13, 1)


def process(
    images: Sequence[Sequence[Row]], k: int = 8, **keys: Any
) -> Tuple[List[FrameResult], int]:
    postprocessor = Postprocessor(PostprocessConfig(**keys), NAMES)
    results = list(postprocessor.process(batch_result(images, k), ManualClock(14)))
    return results, postprocessor.saturated_frames


def spread(count: int, score: float = 0.9, class_id: int = 0) -> List[Row]:
    """Boxes that do not overlap, all inside the picture."""
    return [(10 * i, 30, 10 * i + 8, 40, score, class_id) for i in range(count)]


def test_carries_the_frames_identity_and_times() -> None:
    results, _ = process([spread(1), spread(2)])
    assert [r.info.camera for r in results] == ["cam0", "cam1"]
    assert [r.info.frame_id for r in results] == [40, 41]
    assert [len(r.detections) for r in results] == [1, 2]
    assert {(r.batch.batch_id, r.batch.size) for r in results} == {(9, 2)}
    assert {(r.closed_ns, r.inferred_ns, r.finished_ns) for r in results} == {(11, 13, 14)}
    assert [int(r.image[0, 0, 0]) for r in results if r.image is not None] == [0, 1]


def test_frames_come_in_the_order_of_capture_each_with_its_own_objects() -> None:
    result = batch_result([spread(1), spread(2), spread(3)])
    captured_ns = (30, 10, 20)
    items = tuple(
        replace(item, info=replace(item.info, captured_ns=ns))
        for item, ns in zip(result.batch.items, captured_ns)
    )
    result = replace(result, batch=replace(result.batch, items=items))
    found = Postprocessor(PostprocessConfig(), NAMES).process(result, ManualClock(14))
    assert [(r.info.camera, len(r.detections)) for r in found] == [
        ("cam1", 2),
        ("cam2", 3),
        ("cam0", 1),
    ]


def test_a_camera_may_have_a_threshold_of_its_own() -> None:
    cameras = [
        CameraConfig.model_validate({"name": name, "uri": "synthetic://1", **keys})
        for name, keys in (("cam0", {"score_threshold": 0.8}), ("cam1", {}))
    ]
    postprocessor = Postprocessor(PostprocessConfig(score_threshold=0.5), NAMES, cameras)
    rows = [*spread(1, 0.81), *[(50, 30, 58, 40, 0.79, 0)], *[(70, 30, 78, 40, 0.49, 0)]]
    found = postprocessor.process(batch_result([rows, rows, rows]), ManualClock(14))
    assert [len(result.detections) for result in found] == [1, 2, 2]


def test_a_frame_is_full_by_its_cameras_own_threshold() -> None:
    camera = CameraConfig.model_validate(
        {"name": "cam0", "uri": "synthetic://1", "score_threshold": 0.95}
    )
    postprocessor = Postprocessor(PostprocessConfig(), NAMES, [camera])
    list(postprocessor.process(batch_result([spread(8), spread(8)]), ManualClock(14)))
    assert postprocessor.saturated_frames == 1


def test_a_frame_is_worked_on_when_it_is_asked_for() -> None:
    postprocessor = Postprocessor(PostprocessConfig(), NAMES)
    clock = ManualClock(14)
    found = postprocessor.process(batch_result([spread(8), spread(8)]), clock)
    assert postprocessor.saturated_frames == 0
    assert next(found).finished_ns == 14
    assert postprocessor.saturated_frames == 1
    clock.advance_ms(1)
    assert next(found).finished_ns == 1_000_014


def test_gives_source_pixels() -> None:
    results, _ = process([[(*INSIDE, 0.75, 2)]])
    found = results[0].detections
    np.testing.assert_allclose(found.boxes_xyxy, [[20, 20, 40, 40]], atol=1e-4)
    assert found.scores.tolist() == [0.75]
    assert found.class_ids.tolist() == [2]
    dtypes = [a.dtype.name for a in (found.boxes_xyxy, found.scores, found.class_ids)]
    assert dtypes == ["float32", "float32", "int64"]


BORDER: Dict[str, Tuple[Row, Optional[Row]]] = {
    "above the picture": ((10, 5, 20, 25, 0.9, 0), None),
    "one pixel into it": ((10, 5, 20, 26, 0.9, 0), (20, 0, 40, 2)),
    "below the picture": ((10, 75, 20, 95, 0.9, 0), None),
    "left of the picture": ((-20, 40, 0, 50, 0.9, 0), None),
    "cut at the right": ((90, 40, 120, 50, 0.9, 0), (180, 30, 200, 50)),
    "larger than all": ((-50, -50, 500, 500, 0.9, 0), (0, 0, 200, 100)),
}


@pytest.mark.parametrize("case", BORDER)
def test_clips_to_the_source(case: str) -> None:
    row, expected = BORDER[case]
    results, _ = process([[row]])
    boxes = results[0].detections.boxes_xyxy
    np.testing.assert_allclose(boxes, np.array([expected] if expected else []).reshape(-1, 4))


@pytest.mark.parametrize(("score", "is_told"), [(0.4999, False), (0.5, True), (0.5001, True)])
def test_score_threshold(score: float, is_told: bool) -> None:
    results, _ = process([[(*INSIDE, score, 0)]], score_threshold=0.5)
    assert len(results[0].detections) == is_told


def test_threshold_0_does_not_tell_unused_rows() -> None:
    results, saturated = process([spread(2, 0.001)], score_threshold=0.0)
    assert len(results[0].detections) == 2
    assert saturated == 0


@pytest.mark.parametrize("limit", [1, 3, 5])
def test_max_detections_keeps_the_best(limit: int) -> None:
    rows = [(*row[:4], 0.9 - 0.1 * i, 0) for i, row in enumerate(spread(4))]
    results, _ = process([rows], max_detections=limit)
    scores = results[0].detections.scores
    np.testing.assert_allclose(scores, [0.9, 0.8, 0.7, 0.6][:limit], rtol=1e-6)


def test_boxes_in_the_border_take_no_place() -> None:
    rows = [(10, 0, 20, 10, 0.99, 0), *spread(2)]
    results, _ = process([rows], max_detections=2)
    assert len(results[0].detections) == 2


def test_suppresses_overlaps_of_one_class_only() -> None:
    rows = [(*INSIDE, 0.9, 0), (*INSIDE, 0.8, 0), (*INSIDE, 0.7, 1)]
    results, _ = process([rows])
    assert results[0].detections.class_ids.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("classes", "told"),
    [(None, [0, 1, 2]), (["bolt"], [1]), (["gear", "nut"], [0, 2]), (list(NAMES), [0, 1, 2])],
)
def test_classes(classes: Optional[List[str]], told: List[int]) -> None:
    rows = [(10 * i, 30, 10 * i + 8, 40, 0.9 - 0.1 * i, i) for i in range(3)]
    results, _ = process([rows], classes=classes)
    assert results[0].detections.class_ids.tolist() == told


def test_unknown_classes_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        Postprocessor(PostprocessConfig(classes=["bold", "nut", "zebra"]), NAMES)
    first, second = str(caught.value).splitlines()
    assert first == (
        "postprocess.classes: the model has no class 'bold'; did you mean 'bolt'? "
        "it knows: nut, bolt, gear"
    )
    assert second.startswith("postprocess.classes: the model has no class 'zebra'; it knows")


def test_unknown_class_of_many() -> None:
    names = [f"class_{i}" for i in range(80)]
    with pytest.raises(ConfigError, match="class_19 and 60 more"):
        Postprocessor(PostprocessConfig(classes=["x"]), names)


@pytest.mark.parametrize(
    ("candidates", "score", "saturated"), [(8, 0.9, 1), (8, 0.25, 1), (7, 0.9, 0), (8, 0.2, 0)]
)
def test_counts_saturated_frames(candidates: int, score: float, saturated: int) -> None:
    assert process([spread(candidates, score)], k=8)[1] == saturated


def test_saturation_is_counted_before_filters() -> None:
    assert process([spread(8, 0.9, class_id=1)] * 3, k=8, classes=["nut"])[1] == 3


FLOAT = st.floats(width=32)


@given(st.lists(st.tuples(FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, st.integers(0, 2)), max_size=8))
def test_survives_any_floats(rows: List[Row]) -> None:
    with np.errstate(over="ignore"):  # a box of 1e38 pixels may reach infinity, and is clipped
        results, _ = process([rows])
    found = results[0].detections
    boxes = found.boxes_xyxy
    assert np.isfinite(boxes).all()
    assert np.isfinite(found.scores).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes >= 0).all()
    assert (boxes <= [*SOURCE_WH, *SOURCE_WH]).all()
