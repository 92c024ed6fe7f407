"""Which operators of a core compute in 8 bits, and which tensors need a scale for that."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Dict, FrozenSet, Iterator, List, Optional, Tuple

import onnx
from numpy.typing import NDArray

from edge.building import onnx_file
from edge.building.core import Core, node_name, value_of
from edge.building.rounded_weights import Weighted
from edge.building.value_ranges import ValueRange


class QuantizationScheme(str, Enum):
    """For whom a network is quantized."""

    ASYMMETRIC = "asymmetric"
    """ONNX Runtime on a CPU: uint8 with zero points; it computes in 8 bits only what stands
    between Q/DQ pairs on all sides, so activation functions and joints have them as well."""

    SYMMETRIC = "symmetric"
    """TensorRT: int8 without zero points, on the inputs of layers with weights; it finds the rest
    by itself, and fuses more where a layer's output has no pair."""


# Where a layer's weights have their output channels.
_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}

_ELEMENTWISE = frozenset(("Add", "Mul"))
_UNARY = frozenset(("Sigmoid", "Relu", "LeakyRelu", "AveragePool", "GlobalAveragePool", "Concat"))
# They move values without changing any: what goes in and what comes out share one scale.
_MOVES = frozenset(("MaxPool", "Split", "Resize"))

_SIGMOID_RANGE = ValueRange(0.0, 1.0)


@dataclass(frozen=True)
class Plan:
    """What to quantize: nodes by name, those with weights and the tensors they read among them,
    and the tensors that get a Q/DQ pair.

    `moved` maps a tensor to the one whose scale it shares; `known` are ranges that need no images.
    `gated` are tensors x that only x * sigmoid(x) reads: it leaves nothing of what is far below 0.
    """

    nodes: FrozenSet[str]
    weighted: Dict[str, Weighted]
    read_by_weighted: FrozenSet[str]
    scaled: FrozenSet[str]
    moved: Dict[str, str]
    known: Dict[str, ValueRange]
    gated: FrozenSet[str]

    @property
    def observed(self) -> FrozenSet[str]:
        """Tensors whose values must be looked at."""
        own_scale = self.scaled - self.moved.keys() - self.known.keys()
        return own_scale | self.read_by_weighted


def make_plan(
    model: onnx.ModelProto, core: Core, in_float: FrozenSet[str], scheme: QuantizationScheme
) -> Plan:
    """Decides for every node of the core but those `in_float`."""
    computed = _computed(model, core)
    core_nodes = (n for n in model.graph.node if node_name(n) not in core.tail_nodes | in_float)
    nodes = [n for n in core_nodes if not computed.isdisjoint(n.input)]
    weighted = dict(_weighted(nodes, core, model.graph))
    if scheme is QuantizationScheme.SYMMETRIC:
        inputs = frozenset(n.input[0] for n in nodes if node_name(n) in weighted)
        return Plan(frozenset(weighted), weighted, inputs, inputs, {}, {}, frozenset())
    # ONNX Runtime has no transposed convolution in 8 bits on a CPU.
    weighted = {
        node_name(n): weighted[node_name(n)]
        for n in nodes
        if node_name(n) in weighted and n.op_type != "ConvTranspose"
    }
    chosen = [n for n in nodes if node_name(n) in weighted or _is_quantizable(n, computed)]
    return Plan(
        nodes=frozenset(map(node_name, chosen)),
        weighted=weighted,
        read_by_weighted=frozenset(n.input[0] for n in chosen if node_name(n) in weighted),
        scaled=_surrounded(chosen, computed, model.graph),
        moved={out: n.input[0] for n in chosen if n.op_type in _MOVES for out in n.output},
        known={n.output[0]: _SIGMOID_RANGE for n in chosen if n.op_type == "Sigmoid"},
        gated=_gated(chosen, model.graph),
    )


def _computed(model: onnx.ModelProto, core: Core) -> FrozenSet[str]:
    """Every float tensor of the core that depends on the image, its own input among them."""
    computed = {core.network_input}
    for node in model.graph.node:
        if node_name(node) not in core.tail_nodes and not computed.isdisjoint(node.input):
            computed.update(filter(None, node.output))
    # Sizes are computed from the image as well.
    known = onnx_file.infer_shapes(model).graph.value_info
    floats = {v.name for v in known if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    return frozenset(computed & (floats | {core.network_input}))


def _weighted(
    nodes: List[onnx.NodeProto], core: Core, graph: onnx.GraphProto
) -> Iterator[Tuple[str, Weighted]]:
    for node in nodes:
        if node_name(node) not in core.weighted_nodes:
            continue
        weights = value_of(node.input[1], graph)
        bias = value_of(node.input[2], graph) if len(node.input) > 2 else None
        is_bias_known = bias is not None or len(node.input) < 3
        if weights is not None and is_bias_known and _is_plain(node, weights):
            yield node_name(node), Weighted(weights, bias, _channel_axis(node))


def _is_plain(node: onnx.NodeProto, weights: NDArray[Any]) -> bool:
    """False for what 8-bit kernels do not have: scaled Gemm, stacks of matrices."""
    attributes = _attributes(node)
    if node.op_type == "Gemm":
        factors = (attributes.get("alpha", 1.0), attributes.get("beta", 1.0))
        return factors == (1.0, 1.0) and not attributes.get("transA", 0)
    return node.op_type != "MatMul" or weights.ndim == 2


def _channel_axis(node: onnx.NodeProto) -> Optional[int]:
    attributes = _attributes(node)
    if node.op_type == "Gemm":
        return 0 if attributes.get("transB", 0) else 1
    if node.op_type == "ConvTranspose" and attributes.get("group", 1) > 1:
        return None
    return _CHANNEL_AXIS[node.op_type]


def _is_quantizable(node: onnx.NodeProto, computed: FrozenSet[str]) -> bool:
    if node.op_type in _ELEMENTWISE:
        return all(name in computed for name in node.input)
    if node.op_type == "Resize":
        return bool(_attributes(node).get("mode", b"nearest") == b"nearest")
    return node.op_type in _UNARY or node.op_type in _MOVES


def _surrounded(
    nodes: List[onnx.NodeProto], computed: FrozenSet[str], graph: onnx.GraphProto
) -> FrozenSet[str]:
    """All that the nodes read and write, but for what a Relu behind a layer cuts off anyway."""
    scaled = {name for node in nodes for name in (*node.input, *node.output) if name in computed}
    return frozenset(scaled - _cut_by_relu(nodes, graph))


def _gated(nodes: List[onnx.NodeProto], graph: onnx.GraphProto) -> FrozenSet[str]:
    readers = _readers(graph)
    gates = {node.input[0]: node.output[0] for node in nodes if node.op_type == "Sigmoid"}
    products = [set(node.input) for node in nodes if node.op_type == "Mul"]
    return frozenset(x for x, gate in gates.items() if readers[x] == 2 and {x, gate} in products)


def _readers(graph: onnx.GraphProto) -> Dict[str, int]:
    """How often each tensor is read."""
    counts: Dict[str, int] = {}
    for name in (name for node in graph.node for name in node.input):
        counts[name] = counts.get(name, 0) + 1
    return counts


def _cut_by_relu(nodes: List[onnx.NodeProto], graph: onnx.GraphProto) -> FrozenSet[str]:
    # ONNX Runtime drops a Relu in front of a scale that starts at 0.
    readers = _readers(graph)
    made = {node.output[0] for node in nodes if node.op_type in _CHANNEL_AXIS}
    relus = {node.input[0] for node in nodes if node.op_type == "Relu"}
    return frozenset(name for name in made & relus if readers[name] == 1)


def _attributes(node: onnx.NodeProto) -> Dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
