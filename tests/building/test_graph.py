from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, Union

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge.building.graph import deploy
from edge.config.schema import ModelConfig
from edge.errors import ModelError
from tests.building.tiny_detectors import (
    TinyDetector,
    constant_output_model,
    make_model,
    random_frames,
    reference_detections,
    run_onnx,
    save,
)

DETECTORS = {
    "dynamic batch": TinyDetector(),
    "one class": TinyDetector(class_count=1),
    "eighty classes": TinyDetector(class_count=80, input_wh=(96, 96)),
    "fixed batch": TinyDetector(batch=2),
    "odd size": TinyDetector(input_wh=(67, 45)),
    "tall": TinyDetector(input_wh=(32, 128)),
    "one stride": TinyDetector(strides=(8,)),
    "oldest opset": TinyDetector(opset=11),
    "newest plain opset": TinyDetector(opset=17),
    "newer opset": TinyDetector(opset=19),
    "clashing names": TinyDetector(input_name="frames", output_name="detections"),
    "size left open": TinyDetector(is_size_open=True),
}


def config(**keys: Any) -> ModelConfig:
    return ModelConfig(path=Path("model.onnx"), **keys)


def refusal(path: Path, **keys: Any) -> str:
    with pytest.raises(ModelError) as caught:
        deploy(path, config(**keys))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("max_candidates", [1, 20, 1024])
@pytest.mark.parametrize("case", DETECTORS)
def test_equals_the_network_between_numpy(tmp_path: Path, case: str, max_candidates: int) -> None:
    tiny = DETECTORS[case]
    input_wh = tiny.input_wh if tiny.is_size_open else None
    graph = deploy(tiny.save(tmp_path), config(max_candidates=max_candidates, input_wh=input_wh))
    frames = random_frames(2, tiny.input_wh)
    found = run_onnx(graph.onnx_bytes, {"frames": frames})
    expected = reference_detections(tiny.model(), frames, max_candidates)
    k = min(max_candidates, tiny.anchor_count)
    assert found.dtype == np.float32
    assert graph.max_candidates == found.shape[1] or tiny.is_size_open
    np.testing.assert_allclose(found[:, :k], expected, atol=1e-3)
    assert (found[:, k:, 4] == 0).all()
    assert np.ptp(expected[..., 4]) > 0 or max_candidates == 1


@pytest.mark.parametrize("batch", ["batch", 2])
def test_half_precision_equals_the_network_between_numpy(
    tmp_path: Path, batch: Union[str, int]
) -> None:
    """Boxes near 64 px step by 1/32 px in half precision, and equal scores swap places."""
    tiny = TinyDetector(dtype=np.float16, batch=batch)
    graph = deploy(tiny.save(tmp_path), config())
    frames = random_frames(2, tiny.input_wh)
    found = run_onnx(graph.onnx_bytes, {"frames": frames})
    expected = reference_detections(tiny.model(), frames, 1024)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found[..., 4], expected[..., 4], atol=2e-3)
    for rows, expected_rows in zip(found, expected):
        distances = np.abs(rows[:, None] - expected_rows[None]).max(axis=2)
        assert distances.min(axis=0).max() < 0.1
        assert distances.min(axis=1).max() < 0.1


def test_keeps_to_what_old_runtimes_read(tmp_path: Path) -> None:
    graph = deploy(TinyDetector(opset=19).save(tmp_path), config())
    model = onnx.load_model_from_string(graph.onnx_bytes)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    takers = [node.op_type for node in model.graph.node if "frames" in node.input]
    assert takers == ["Cast"]
    k_of_top_k = next(node.input[1] for node in model.graph.node if node.op_type == "TopK")
    assert k_of_top_k in {tensor.name for tensor in model.graph.initializer}


def test_takes_a_newer_file_format(tmp_path: Path) -> None:
    model = TinyDetector().model()
    model.ir_version = 99
    assert deploy(save(model, tmp_path), config()).head == "yolov8"


def test_keeps_the_networks_names(tmp_path: Path) -> None:
    tiny = TinyDetector()
    graph = deploy(tiny.save(tmp_path), config())
    deployed = onnx.load_model_from_string(graph.onnx_bytes)
    outputs = {name for node in deployed.graph.node for name in node.output}
    assert {name for node in tiny.model().graph.node for name in node.output} <= outputs


def test_describes_the_model(tmp_path: Path) -> None:
    tiny = TinyDetector(names="{0: 'nut', 1: 'bolt', 2: 'gear'}")
    path = tiny.save(tmp_path, "parts.onnx")
    graph = deploy(path, config())
    assert graph.name == "parts"
    assert graph.head == "yolov8"
    assert graph.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert graph.class_names == ("nut", "bolt", "gear")
    assert graph.preprocessing.input_wh == (64, 48)
    assert graph.max_candidates == tiny.anchor_count
    assert graph.fixed_batch is None


@pytest.mark.parametrize("batch", [1, 4])
def test_tells_a_fixed_batch(tmp_path: Path, batch: int) -> None:
    assert deploy(TinyDetector(batch=batch).save(tmp_path), config()).fixed_batch == batch


SIZES: Dict[str, Tuple[bool, Optional[Tuple[int, int]], Optional[str]]] = {
    "model says": (False, None, None),
    "both agree": (False, (64, 48), None),
    "user settles": (True, (64, 48), None),
    "width differs": (False, (65, 48), "takes 64x48 pixels, but model.input_wh says 65x48"),
    "height differs": (False, (64, 47), "takes 64x48 pixels, but model.input_wh says 64x47"),
    "nobody says": (True, None, "model.input_wh: [640, 640]"),
}


@pytest.mark.parametrize("case", SIZES)
def test_input_size(tmp_path: Path, case: str) -> None:
    is_open, input_wh, complaint = SIZES[case]
    path = TinyDetector(is_size_open=is_open).save(tmp_path)
    if complaint is None:
        assert deploy(path, config(input_wh=input_wh)).preprocessing.input_wh == (64, 48)
    else:
        assert complaint in refusal(path, input_wh=input_wh)


@pytest.mark.parametrize(
    ("is_open", "input_wh", "expected"),
    [
        pytest.param(True, None, (64, 32), id="an open size is the exporter's"),
        pytest.param(True, (32, 64), (32, 64), id="the user goes first"),
        pytest.param(False, None, (64, 48), id="a fixed size is what it is"),
    ],
)
def test_the_exporters_input_size(
    tmp_path: Path, is_open: bool, input_wh: Optional[Tuple[int, int]], expected: Tuple[int, int]
) -> None:
    path = TinyDetector(is_size_open=is_open).save(tmp_path)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"imgsz": "[32, 64]"})
    graph = deploy(save(model, tmp_path), config(input_wh=input_wh))
    assert graph.preprocessing.input_wh == expected


def test_shapes_of_another_size_are_forgotten(tmp_path: Path) -> None:
    """An exporter notes shapes for its own example; they must not hide the true anchor count."""
    tiny = TinyDetector(is_size_open=True)
    model = tiny.model()
    model.graph.value_info.append(
        helper.make_tensor_value_info("flat4", TensorProto.FLOAT, ["batch", 7, 999])
    )
    graph = deploy(save(model, tmp_path), config(input_wh=tiny.input_wh))
    assert graph.max_candidates == tiny.anchor_count


def test_reads_external_weights(tmp_path: Path) -> None:
    inside = deploy(TinyDetector().save(tmp_path), config())
    path = tmp_path / "external.onnx"
    onnx.save_model(
        TinyDetector().model(),
        str(path),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    graph = deploy(path, config())
    frames = random_frames(2, (64, 48))
    np.testing.assert_array_equal(
        run_onnx(graph.onnx_bytes, {"frames": frames}),
        run_onnx(inside.onnx_bytes, {"frames": frames}),
    )
    weights = tmp_path / "weights.bin"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert deploy(path, config()).sha256 != graph.sha256
    weights.unlink()
    assert "its weights are in weights.bin, which is missing" in refusal(path)


FILES: Dict[str, Tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"hello, world\n", "not an ONNX file"),
    "zeros": (bytes(1000), "not an ONNX file"),
    "checkpoint": (b"PK\x03\x04" + bytes(100), "PyTorch checkpoint"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "web page": (b"<!doctype html>", "download the model again"),
    "header only": (onnx.ModelProto(ir_version=8).SerializeToString(), "holds no network"),
}


@pytest.mark.parametrize("case", FILES)
def test_refuses_what_is_no_onnx(tmp_path: Path, case: str) -> None:
    data, complaint = FILES[case]
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    assert complaint in refusal(path)


def test_refuses_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.onnx")
    assert "not a regular file" in refusal(tmp_path)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_refuses_a_truncated_file(tmp_path: Path, keep: float) -> None:
    data = TinyDetector().model().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * keep)])
    refusal(path)


def test_takes_nodes_in_any_order(tmp_path: Path) -> None:
    """Converters to half precision append theirs at the end."""
    tiny = TinyDetector()
    model = tiny.model()
    model.graph.node.sort(key=lambda node: node.output[0])
    frames = random_frames(2, tiny.input_wh)
    found = run_onnx(deploy(save(model, tmp_path), config()).onnx_bytes, {"frames": frames})
    np.testing.assert_allclose(found, reference_detections(tiny.model(), frames, 1024), atol=1e-3)


def test_refuses_nodes_in_a_circle(tmp_path: Path) -> None:
    model = TinyDetector().model()
    model.graph.node[0].input[0] = model.graph.node[1].output[0]
    assert "not a valid ONNX model" in refusal(save(model, tmp_path))


@pytest.mark.parametrize("op_type", ["NonMaxSuppression", "EfficientNMS_TRT", "BatchedNMS_TRT"])
def test_refuses_built_in_suppression(tmp_path: Path, op_type: str) -> None:
    model = TinyDetector().model()
    model.graph.node.append(helper.make_node(op_type, ["output0"], ["boxes"]))
    assert refusal(save(model, tmp_path)).endswith(
        f"has non-maximum suppression built in ({op_type}), so that its number of boxes depends "
        "on the picture or on one runtime's plugin; export it again without (Ultralytics: no "
        "nms=True; YOLOv6 and YOLOv7: no --end2end): edge does it outside"
    )


def test_refuses_a_broken_graph(tmp_path: Path) -> None:
    model = TinyDetector().model()
    model.graph.node[0].input[0] = "nowhere"
    assert "not a valid ONNX model" in refusal(save(model, tmp_path))


OTHERS: Dict[str, Tuple[onnx.ModelProto, str]] = {
    "grey": (constant_output_model([("o", (1, 7, 99))], input_shape=(1, 1, 32, 32)), "an image"),
    "channels last": (
        constant_output_model([("o", (1, 7, 99))], input_shape=(1, 32, 32, 3)),
        "'images' [1, 32, 32, 3]; supported is an image [batch, 3, height, width]",
    ),
    "bytes in": (constant_output_model([("o", (1, 7, 99))], elem_type=TensorProto.UINT8), "uint8"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_refuses_other_inputs(tmp_path: Path, case: str) -> None:
    model, complaint = OTHERS[case]
    assert complaint in refusal(save(model, tmp_path))


def test_refuses_a_second_input(tmp_path: Path) -> None:
    model = TinyDetector().model()
    model.graph.input.append(helper.make_tensor_value_info("sizes", TensorProto.INT64, [2]))
    message = refusal(save(model, tmp_path))
    assert "has 2 inputs ('images' [?, 3, 48, 64], 'sizes' [2])" in message


def test_takes_weights_listed_among_the_inputs(tmp_path: Path) -> None:
    model = TinyDetector().model()
    for weight in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
        )
    assert deploy(save(model, tmp_path), config()).preprocessing.input_wh == (64, 48)


def test_takes_functions_of_the_model(tmp_path: Path) -> None:
    opset = helper.make_opsetid("", 13)
    double = helper.make_function(
        "own", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [opset]
    )
    tiny = TinyDetector(output_name="half_head")
    inner = tiny.model().graph
    inner.node.append(helper.make_node("Twice", ["half_head"], ["output0"], domain="own"))
    inner.output[0].name = "output0"
    model = make_model(inner, 13)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(double)
    graph = deploy(save(model, tmp_path), config(max_candidates=30))
    frames = random_frames(2, tiny.input_wh)
    np.testing.assert_allclose(
        run_onnx(graph.onnx_bytes, {"frames": frames}),
        reference_detections(model, frames, 30),
        atol=1e-3,
    )


def test_open_anchor_count_always_finds_k(tmp_path: Path) -> None:
    """Nothing tells N before the network runs: rows are added until K can be found."""
    tiny = TinyDetector(strides=(8,), class_count=2)
    model = tiny.model()
    _hide_anchor_count(model)
    graph = deploy(save(model, tmp_path), config(max_candidates=200))
    frames = random_frames(2, tiny.input_wh)
    found = run_onnx(graph.onnx_bytes, {"frames": frames})
    assert found.shape == (2, 200, 6)
    expected = reference_detections(tiny.model(), frames, 200)
    np.testing.assert_allclose(found[:, : tiny.anchor_count], expected, atol=1e-3)
    assert (found[:, tiny.anchor_count :, 4] == 0).all()


def _hide_anchor_count(model: onnx.ModelProto) -> None:
    """Keeps the anchors by a mask that is computed from the pixels: all, in truth."""
    graph = model.graph
    graph.node[-1].output[0] = "all"
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([0], np.int64), "zero"),
            numpy_helper.from_array(np.array(-1, np.float32), "low"),
            numpy_helper.from_array(np.array([0, 1], np.int64), "axes"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("ReduceMax", ["all"], ["best"], axes=[0, 1], keepdims=0),
            helper.make_node("Greater", ["best", "low"], ["mask"]),
            helper.make_node("Compress", ["all", "mask"], ["output0"], axis=2),
        ]
    )
    graph.output[0].type.tensor_type.shape.dim[2].dim_param = "anchors"


def test_class_names_of_the_user_win(tmp_path: Path) -> None:
    path = TinyDetector(names="{0: 'a', 1: 'b', 2: 'c'}").save(tmp_path)
    assert deploy(path, config(class_names=["x", "y", "z"])).class_names == ("x", "y", "z")
    assert "3 classes, but model.class_names has 2" in refusal(path, class_names=["x", "y"])


def test_what_a_frame_more_needs_is_estimated(tmp_path: Path) -> None:
    few, many = (
        deploy(path, ModelConfig(path=path, class_names=["a", "b", "c"]))
        for path in (
            TinyDetector(input_wh=(64, 64)).save(tmp_path, "few.onnx"),
            TinyDetector(input_wh=(128, 128)).save(tmp_path, "many.onnx"),
        )
    )
    # At least the picture itself as numbers; four times the pixels need four times as much.
    assert few.row_bytes >= 64 * 64 * 3 * 4
    assert many.row_bytes == 4 * few.row_bytes
