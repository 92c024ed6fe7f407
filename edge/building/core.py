"""A network's core: all that lies between its input and its last layers with weights.

Only the core may be quantized. What follows, the tail, mixes boxes of 0..640 with scores of 0..1:
one scale over both would round every score to zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, FrozenSet, Iterable, Iterator, List, Optional, Set, Tuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge.building import onnx_file
from edge.building.constants import constants_of
from edge.building.float32 import widen
from edge.errors import BuildError
from edge.records import DeployedGraph

# Operators whose second input holds weights; MatMul may have them first.
_WEIGHTED = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))

# Where the neck joins branches: what comes behind the last of them belongs to one head.
_MERGES = frozenset(("Concat", "Resize", "Upsample", "ConvTranspose"))

_NAMED = 3


@dataclass(frozen=True)
class Core:
    """The part of a network that may be quantized.

    `boundary` names the outputs of the last layers with weights of each branch; `last_nodes` are
    those layers, `weighted_nodes` all layers with weights. `head_nodes` are what lies behind the
    neck's last merge, up to and with the last layers. `tail_nodes` and `tail_tensors` are all that
    is computed from the boundary, and all else that no layer with weights needs. A node without a
    name goes by its first output's.
    """

    network_input: str
    boundary: Tuple[str, ...]
    last_nodes: FrozenSet[str]
    weighted_nodes: FrozenSet[str]
    head_nodes: FrozenSet[str]
    tail_nodes: FrozenSet[str]
    tail_tensors: FrozenSet[str]


def find_core(model: onnx.ModelProto, network_input: str) -> Core:
    """Finds the last layers with weights; BuildError for a network that has none.

    A projection with fixed weights, as YOLOv8's distribution of box edges ends in, is no such
    layer: it belongs to the tail.
    """
    live = _behind(model.graph, network_input)
    computed = {output for node in live for output in node.output} | {network_input}
    weighted = [node for node in live if _has_weights(node, computed, model.graph)]
    if not weighted:
        raise BuildError(
            f"nothing behind '{network_input}' has weights, so there is nothing to quantize; "
            "use engine.precision: fp16 or fp32"
        )
    inside, last = _split(live, {node_name(node) for node in weighted})
    tail = [node for node in live if node_name(node) not in inside]
    return Core(
        network_input=network_input,
        boundary=tuple(node.output[0] for node in last),
        last_nodes=frozenset(map(node_name, last)),
        weighted_nodes=frozenset(map(node_name, weighted)),
        head_nodes=_head([node for node in live if node_name(node) in inside], last),
        tail_nodes=frozenset(map(node_name, tail)),
        tail_tensors=frozenset(output for node in tail for output in node.output),
    )


def extract_core(model: onnx.ModelProto, core: Core, input_wh: Tuple[int, int]) -> onnx.ModelProto:
    """The core alone, in float32 and with its names kept.

    Its input is `core.network_input` float32 [batch, 3, H, W], its outputs are the boundary.
    """
    graph = model.graph
    nodes = _in_front_of(graph, core)
    read = {name for node in nodes for name in inputs_of(node)}
    width, height = input_wh
    shape = [_batch(graph), 3, height, width]
    extracted = helper.make_model(
        helper.make_graph(
            nodes,
            "core",
            [helper.make_tensor_value_info(core.network_input, onnx.TensorProto.FLOAT, shape)],
            [onnx.ValueInfoProto(name=name) for name in core.boundary],
            [tensor for tensor in graph.initializer if tensor.name in read],
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
    )
    widen(extracted)
    return onnx_file.infer_shapes(extracted)


def scaled_tensors(model: onnx.ModelProto) -> Tuple[str, ...]:
    """The tensors that a graph with Q/DQ nodes rounds to 8 bits."""
    return tuple(n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear")


def assert_no_scale_behind(core: Core, scaled: Iterable[str]) -> None:
    """Raises BuildError if a tensor with a scale lies in the tail.

    `scaled` are names of tensors: of `scaled_tensors`, or of a TensorRT calibration cache.
    """
    behind = sorted(core.tail_tensors.intersection(scaled))
    if behind:
        more = f" and {len(behind) - _NAMED} more" if len(behind) > _NAMED else ""
        raise BuildError(
            f"{', '.join(behind[:_NAMED])}{more} would be rounded to 8 bits, behind the last "
            "layers with weights: scores would be lost; use engine.precision: fp16 or fp32"
        )


def node_name(node: onnx.NodeProto) -> str:
    """What a node is called here: its own name, else its first output's."""
    return str(node.name or next(filter(None, node.output), ""))


def inputs_of(node: onnx.NodeProto) -> Iterator[str]:
    """All tensors a node reads, those of its subgraphs among them."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for subgraph in (attribute.g, *attribute.graphs):
            for inner in subgraph.node:
                yield from inputs_of(inner)


def value_of(name: str, graph: onnx.GraphProto) -> Optional[NDArray[Any]]:
    """What a constant holds, found through copies of it; None where it is computed."""
    constants = constants_of(graph)
    makers = {output: node for node in graph.node for output in node.output}
    while name not in constants:
        maker = makers.get(name)
        if maker is None or maker.op_type != "Identity":
            return None
        name = maker.input[0]
    return numpy_helper.to_array(constants[name])


def core_of(graph: DeployedGraph) -> Core:
    """The core of a deployed graph."""
    return find_core(onnx.load_model_from_string(graph.onnx_bytes), graph.network_input)


def _behind(graph: onnx.GraphProto, tensor: str) -> List[onnx.NodeProto]:
    """The nodes that a tensor reaches, in order; a graph's nodes are sorted by dependence."""
    reached = {tensor}
    found: List[onnx.NodeProto] = []
    for node in graph.node:
        if not reached.isdisjoint(inputs_of(node)):
            reached.update(filter(None, node.output))
            found.append(node)
    return found


def _in_front_of(graph: onnx.GraphProto, core: Core) -> List[onnx.NodeProto]:
    """The nodes that the boundary needs from the network's input on, in order."""
    wanted = set(core.boundary)
    found: List[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if core.network_input not in node.output and not wanted.isdisjoint(node.output):
            wanted.update(inputs_of(node))
            found.append(node)
    return found[::-1]


def _split(live: List[onnx.NodeProto], weighted: Set[str]) -> Tuple[Set[str], List[onnx.NodeProto]]:
    """Names of the nodes a weighted one is, or needs; and the weighted that no other needs."""
    needed: Set[str] = set()
    inside: Set[str] = set()
    last: List[onnx.NodeProto] = []
    for node in reversed(live):
        is_needed = not needed.isdisjoint(node.output)
        if node_name(node) in weighted and not is_needed:
            last.append(node)
        if is_needed or node_name(node) in weighted:
            inside.add(node_name(node))
            needed.update(inputs_of(node))
    return inside, last[::-1]


def _head(core_nodes: List[onnx.NodeProto], last: List[onnx.NodeProto]) -> FrozenSet[str]:
    wanted = {node.output[0] for node in last}
    found: Set[str] = set()
    for node in reversed(core_nodes):
        is_merge = node.op_type in _MERGES and node not in last
        if not is_merge and not wanted.isdisjoint(node.output):
            wanted.update(inputs_of(node))
            found.add(node_name(node))
    return frozenset(found)


def _has_weights(node: onnx.NodeProto, computed: Set[str], graph: onnx.GraphProto) -> bool:
    """True for a layer with learned weights."""
    if node.op_type not in _WEIGHTED:
        return False
    candidates = node.input[:2] if node.op_type == "MatMul" else node.input[1:2]
    fixed = [name for name in candidates if name not in computed]
    if not fixed:
        return False  # attention multiplies what it computed
    weights = value_of(fixed[0], graph)
    return weights is None or not _is_projection(weights)


def _is_projection(weights: NDArray[Any]) -> bool:
    """True for the mean of a distribution (0, 1, 2, …), and for centre and size to corners."""
    flat = weights.astype(np.float64).ravel()
    if flat.size > 1 and flat[1] > 0 and np.array_equal(flat, flat[1] * np.arange(flat.size)):
        return True
    return weights.shape == (4, 4) and np.array_equal(flat * 2, np.round(flat * 2))


def _batch(graph: onnx.GraphProto) -> Any:
    """The batch of the deployed graph's input: a number, or a name where it is open."""
    dim = graph.input[0].type.tensor_type.shape.dim[0]
    return dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "batch"
