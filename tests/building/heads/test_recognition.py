"""Which head a network is taken for, and what is said where nothing tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.building.graph import deploy
from edge.building.heads.recognition import recognise
from edge.building.network import FLOAT, Network, Tensor
from edge.config.schema import HeadName, ModelConfig
from edge.errors import ModelError
from tests.building.heads.tiny_networks import Tiny
from tests.building.tiny_detectors import constant_output_model, save

SUPPORTED = (
    "supported is a YOLO detector with one output, [batch, anchors, 5 + classes], "
    "[batch, 4 + classes, anchors] or [batch, boxes, 6]"
)
DECODE = (
    "export it again with its boxes decoded (YOLOv7: with --grid, YOLOv5: without --train, "
    "Ultralytics: as it comes)"
)
FIXED_SIZE = "leaves the number of classes open; export it again with a fixed input size"


def refusal(model: onnx.ModelProto, folder: Path, **keys: Any) -> str:
    path = save(model, folder)
    with pytest.raises(ModelError) as caught:
        deploy(path, ModelConfig(path=path, **keys))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message[len(f"{path}: ") :]


def head_of(model: onnx.ModelProto, folder: Path, **keys: Any) -> str:
    path = save(model, folder)
    return deploy(path, ModelConfig(path=path, **keys)).head


class Ambiguous(NamedTuple):
    tiny: Tiny
    sentence: str
    ways_out: Dict[HeadName, int]
    """Heads that settle it, and how many classes the network then has."""


AMBIGUOUS: Dict[str, Ambiguous] = {
    "one class of YOLOv5 or YOLOv7": Ambiguous(
        Tiny("yolov7", class_count=1),
        "its output 'Concat_{}' [1, 378, 6] has one class, scored as in YOLOv5 (times objectness) "
        "or as in YOLOv7 (objectness alone); write model.head: yolov5 or model.head: yolov7",
        {HeadName.YOLOV5: 1, HeadName.YOLOV7: 1},
    ),
    "exponentials of YOLOv3": Ambiguous(
        Tiny("yolov3"),
        "its output 'Concat_{}' [1, 378, 8] may be YOLOX's or that of an early YOLOv6 or YOLOv3, "
        "which want other colours; write model.head: yolox_decoded or model.head: yolov5",
        {HeadName.YOLOV5: 3, HeadName.YOLOX_DECODED: 3},
    ),
    "as many anchors as numbers": Ambiguous(
        Tiny("yolov8", class_count=38, input_wh=(64, 32)),
        "its output 'Concat_{}' [1, 42, 42] has as many rows as columns, so that nothing tells "
        "which are anchors; write model.head: yolov8 or model.head: yolov5",
        {HeadName.YOLOV8: 38, HeadName.YOLOV5: 37},
    ),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_is_ambiguous_must_be_settled_by_the_user(tmp_path: Path, case: str) -> None:
    tiny, sentence, ways_out = AMBIGUOUS[case]
    model = tiny.model()
    name = model.graph.output[0].name
    assert refusal(model, tmp_path) == sentence.replace("Concat_{}", name)
    for head, class_count in ways_out.items():
        path = save(model, tmp_path)
        graph = deploy(path, ModelConfig(path=path, head=head))
        assert graph.head == head.value
        assert len(graph.class_names) == class_count


REFUSED: Dict[str, Tuple[onnx.ModelProto, str]] = {
    "classifier": (
        constant_output_model([("probs", (1, 1000))]),
        f"its output is 'probs' [1, 1000], an image classifier's; {SUPPORTED}",
    ),
    "segmentation": (
        constant_output_model([("output0", (1, 116, 8400)), ("output1", (1, 32, 160, 160))]),
        "has 2 outputs ('output0' [1, 116, 8400], 'output1' [1, 32, 160, 160]); " + SUPPORTED,
    ),
    "boxes and scores": (
        constant_output_model([("boxes", (1, 8400, 4)), ("scores", (1, 8400, 80))]),
        f"has 2 outputs ('boxes' [1, 8400, 4], 'scores' [1, 8400, 80]); {SUPPORTED}",
    ),
    "three feature maps": (
        constant_output_model([(f"o{n}", (1, 3, n, n, 85)) for n in (80, 40, 20)]),
        "gives undecoded feature maps ('o80' [1, 3, 80, 80, 85], 'o40' [1, 3, 40, 40, 85], "
        f"'o20' [1, 3, 20, 20, 85]); {DECODE}",
    ),
    "one feature map": (
        constant_output_model([("output0", (1, 255, 80, 80))]),
        f"gives undecoded feature maps ('output0' [1, 255, 80, 80]); {DECODE}",
    ),
    "a number": (
        constant_output_model([("output0", (1,))]),
        f"its output is 'output0' [1]; {SUPPORTED}",
    ),
    "no class": (
        constant_output_model([("output0", (1, 4, 8400))]),
        f"its output is 'output0' [1, 4, 8400], without a row per class; {SUPPORTED}",
    ),
    "no class, anchors first": (
        constant_output_model([("output0", (1, 8400, 5))]),
        f"its output is 'output0' [1, 8400, 5], without a row per class; {SUPPORTED}",
    ),
    "pose": (
        constant_output_model([("output0", (1, 56, 8400))], {"task": "pose"}),
        f"is a 'pose' model by its metadata; {SUPPORTED}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_other_networks(tmp_path: Path, case: str) -> None:
    model, sentence = REFUSED[case]
    assert refusal(model, tmp_path) == sentence


UNDECODED = {
    "distances": (Tiny("undecoded_distances"), "[1, 7, 126]"),
    "logits of YOLOX's shape": (Tiny("undecoded_logits"), "[1, 126, 8]"),
}


@pytest.mark.parametrize("case", UNDECODED)
def test_refuses_undecoded_numbers(tmp_path: Path, case: str) -> None:
    tiny, shape = UNDECODED[case]
    model = tiny.model()
    name = model.graph.output[0].name
    assert refusal(model, tmp_path) == f"its output '{name}' {shape} is undecoded; {DECODE}"


def test_refuses_grids_that_do_not_cover_the_picture(tmp_path: Path) -> None:
    assert refusal(Tiny("yolox", input_wh=(104, 72)).model(), tmp_path) == (
        "takes 104x72 pixels, but YOLOX's grids fit only multiples of 32; "
        "export it again with such a size"
    )


def test_refuses_the_best_boxes_with_more_than_a_class(tmp_path: Path) -> None:
    model = Tiny("yolov10").model()
    name = model.graph.output[0].name
    model.graph.node[-1].output[0] = "six"
    model.graph.node.append(onnx.helper.make_node("Concat", ["six", "six"], [name], axis=2))
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 12
    assert refusal(model, tmp_path) == (
        f"its output '{name}' [1, 30, 12] holds only its best boxes; {SUPPORTED}"
    )


MISFITS = {
    "rows for columns": (Tiny("yolov8"), HeadName.YOLOV5, "[1, 7, 126]"),
    "columns for rows": (Tiny("yolov5"), HeadName.YOLOV8, "[1, 378, 8]"),
    "not six numbers": (Tiny("yolov5"), HeadName.END_TO_END, "[1, 378, 8]"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_named_head_must_fit(tmp_path: Path, case: str) -> None:
    tiny, head, shape = MISFITS[case]
    model = tiny.model()
    assert refusal(model, tmp_path, head=head) == (
        f"its output '{model.graph.output[0].name}' {shape} is not that of model.head: "
        f"{head.value}; correct it, or remove it to have the head recognised"
    )


def test_grids_named_by_the_user_must_have_the_cells(tmp_path: Path) -> None:
    model = Tiny("yolov5").model()
    assert refusal(model, tmp_path, head=HeadName.YOLOX) == (
        f"its output '{model.graph.output[0].name}' [1, 378, 8] has 378 anchors, but YOLOX's "
        f"grids of strides 8, 16 and 32 have 126 cells; {DECODE}"
    )


def test_classes_of_an_end_to_end_network_come_from_the_graph_or_from_names(
    tmp_path: Path,
) -> None:
    model = Tiny("yolov10").model()
    assert len(deploy(save(model, tmp_path), ModelConfig(path=tmp_path)).class_names) == 3
    assert refusal(model, tmp_path, class_names=["nut", "bolt"]) == (
        "its output has 3 classes, but model.class_names has 2; correct the list"
    )
    for node in model.graph.node:
        if node.op_type == "Mod":
            node.op_type = "Sub"  # what it is does not matter, but that it tells no class count
    assert refusal(model, tmp_path) == (
        "its output does not tell how many classes there are; list them in model.class_names"
    )
    path = save(model, tmp_path)
    named = deploy(path, ModelConfig(path=path, class_names=["nut", "bolt"]))
    assert named.class_names == ("nut", "bolt")


OPEN = {
    "everything": ((None, None, None), {}, None),
    "end to end by metadata": ((None, None, None), {"end2end": "True"}, HeadName.END_TO_END),
    "not end to end by metadata": ((None, None, None), {"end2end": "False"}, None),
    "anchors of YOLOv8": ((None, 84, None), {}, HeadName.YOLOV8),
    "anchors of YOLOv5": ((None, None, 85), {}, HeadName.YOLOV5),
}  # fmt: skip


@pytest.mark.parametrize("case", OPEN)
def test_sizes_that_nothing_tells(case: str) -> None:
    shape, metadata, head = OPEN[case]
    output = Tensor("output0", FLOAT, shape)
    network = Network(Tensor("images", FLOAT, (None, 3, 64, 96)), (96, 64), None, (output,))
    if head is None:
        with pytest.raises(ModelError) as caught:
            recognise(network, onnx.GraphProto(), metadata, None)
        assert str(caught.value) == f"its output 'output0' [?, ?, ?] {FIXED_SIZE}"
    else:
        found = recognise(network, onnx.GraphProto(), metadata, None)
        assert (found.name, found.anchor_count) == (head, None)


def test_named_heads_need_the_number_of_classes() -> None:
    output = Tensor("output0", FLOAT, (None, None, 8400))
    network = Network(Tensor("images", FLOAT, (None, 3, 64, 96)), (96, 64), None, (output,))
    with pytest.raises(ModelError, match="leaves the number of classes open"):
        recognise(network, onnx.GraphProto(), {}, HeadName.YOLOV8)


DIMENSIONS = st.one_of(st.none(), st.integers(1, 30_000))


@given(
    shape=st.lists(DIMENSIONS, max_size=5).map(tuple),
    name=st.one_of(st.none(), st.sampled_from(HeadName)),
    is_end_to_end=st.booleans(),
)
def test_any_shape_is_understood_or_refused(
    shape: Tuple[Optional[int], ...], name: Optional[HeadName], is_end_to_end: bool
) -> None:
    output = Tensor("output0", FLOAT, shape)
    network = Network(Tensor("images", FLOAT, (None, 3, 640, 640)), (640, 640), None, (output,))
    metadata = {"end2end": str(is_end_to_end)}
    try:
        head = recognise(network, onnx.GraphProto(), metadata, name)
    except ModelError:
        return
    assert name in (None, head.name)
    assert head.class_count is None or head.class_count >= 1
    assert 1 <= head.candidate_count(1024) <= 3840


def test_yolox_and_yolov5_of_one_shape_are_told_apart_by_their_grids(tmp_path: Path) -> None:
    tiny = Tiny("yolox")
    heads = {
        style: head_of(replace(tiny, style=style).model(), tmp_path)
        for style in ("yolox", "yolox_decoded", "yolov6", "yolov5")
    }
    assert heads == {
        "yolox": "yolox",
        "yolox_decoded": "yolox_decoded",
        "yolov6": "yolov5",
        "yolov5": "yolov5",
    }
