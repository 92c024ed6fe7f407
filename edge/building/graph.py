"""From the user's ONNX to the deployed graph: camera pixels in, candidate boxes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import onnx
from onnx import helper

from edge.building import onnx_file, opset
from edge.building.constants import first_nan
from edge.building.graph_writer import GraphWriter
from edge.building.heads.head import Head
from edge.building.heads.recognition import recognise
from edge.building.metadata import class_names, input_wh, read_metadata
from edge.building.network import FLOAT, FLOAT16, Network, Tensor, inspect
from edge.config.schema import ModelConfig
from edge.errors import ModelError
from edge.records import ChannelOrder, DeployedGraph, Preprocessing

# A layer reads one tensor and writes another, and a third is kept for a later one: with the demo
# model ONNX Runtime takes 2.7 times the largest for each frame more.
_ACTIVATIONS_PER_ROW = 3
_FLOAT_BYTES = 4

INPUT = "frames"
OUTPUT = "detections"

# The last that ONNX Runtime 1.19 and the parser of TensorRT 8.5 both read.
_IR_VERSION = 8


def deploy(path: Path, config: ModelConfig) -> DeployedGraph:
    """Makes the deployed graph of a detector.

    It takes `frames` uint8 [B, H, W, 3] BGR and gives `detections` float32 [B, K, 6]:
    x1, y1, x2, y2 in model pixels, score, class; sorted by score. Raises ModelError, with what
    is wrong and what to do, for a file that is not a detector this program serves.
    """
    try:
        return _deploy(path, config)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _deploy(path: Path, config: ModelConfig) -> DeployedGraph:
    source = onnx_file.read(path)
    model = source.model
    damaged = first_nan(model.graph)
    if damaged is not None:
        raise ModelError(
            f"the weights '{damaged}' hold no numbers (NaN): the model is damaged; export it again"
        )
    _free_names(model.graph)
    metadata = read_metadata(model)
    network = inspect(model, config.input_wh, input_wh(metadata))
    head = recognise(network, model.graph, metadata, config.head)
    names = class_names(config.class_names, metadata, head.class_count)
    opset.lower(model)
    deployed = _assemble(model, network, head, config.max_candidates)
    onnx_file.check(deployed)
    return DeployedGraph(
        onnx_bytes=deployed.SerializeToString(),
        name=path.stem,
        sha256=source.sha256,
        head=head.name.value,
        preprocessing=head.preprocessing,
        class_names=names,
        max_candidates=head.candidate_count(config.max_candidates),
        fixed_batch=network.fixed_batch,
        network_input=network.image.name,
        row_bytes=_ACTIVATIONS_PER_ROW * _FLOAT_BYTES * network.largest_activation,
    )


def _assemble(
    model: onnx.ModelProto, network: Network, head: Head, max_candidates: int
) -> onnx.ModelProto:
    before, after = GraphWriter(), GraphWriter()
    _preprocess(before, network.image, head.preprocessing)
    head.decode(after, max_candidates, OUTPUT)
    width, height = network.input_wh
    batch = network.fixed_batch or "batch"
    candidates = head.candidate_count(max_candidates)
    graph = helper.make_graph(
        [*before.nodes, *model.graph.node, *after.nodes],
        model.graph.name or "detector",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, [batch, height, width, 3])],
        [helper.make_tensor_value_info(OUTPUT, FLOAT, [batch, candidates, 6])],
        [*model.graph.initializer, *before.initializers, *after.initializers],
        sparse_initializer=model.graph.sparse_initializer,
    )
    return helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=_IR_VERSION, producer_name="edge"
    )


def _preprocess(writer: GraphWriter, image: Tensor, preprocessing: Preprocessing) -> None:
    """Writes the operators from `frames` to the network's own input, float NCHW."""
    # TensorRT 8.5 lets uint8 go into a Cast and nowhere else, so the Cast comes first.
    pixels = writer.add("Cast", [INPUT], "pixels", to=FLOAT)
    steps: List[Tuple[str, List[str], Dict[str, Any]]] = [("Transpose", [], {"perm": [0, 3, 1, 2]})]
    if preprocessing.channel_order is ChannelOrder.RGB:
        bgr_to_rgb = writer.constant("bgr_to_rgb", np.array([2, 1, 0], np.int64))
        steps.append(("Gather", [bgr_to_rgb], {"axis": 1}))
    if preprocessing.divisor != 1:
        # Before any cast to half precision, where steps of 1/255 are not exact.
        divisor = writer.constant("divisor", np.array(preprocessing.divisor, np.float32))
        steps.append(("Div", [divisor], {}))
    if image.elem_type == FLOAT16:
        steps.append(("Cast", [], {"to": FLOAT16}))
    for op_type, inputs, attributes in steps[:-1]:
        pixels = writer.add(op_type, [pixels, *inputs], op_type.lower(), **attributes)
    op_type, inputs, attributes = steps[-1]
    writer.add_last(op_type, [pixels, *inputs], image.name, **attributes)


def _free_names(graph: onnx.GraphProto) -> None:
    """Renames what the network itself calls `frames` or `detections`."""
    new_names = {name: f"network/{name}" for name in (INPUT, OUTPUT)}
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = new_names.get(value.name, value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new_names.get(name, name) for name in names]
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                _free_names(subgraph)
