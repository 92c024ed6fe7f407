"""Writes pairs of QuantizeLinear and DequantizeLinear into a graph."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional

import numpy as np
import onnx
from numpy.typing import NDArray

from edge.building.core import inputs_of, node_name
from edge.building.graph_writer import GraphWriter
from edge.building.quantization_plan import Plan, QuantizationScheme
from edge.building.rounded_weights import Rounded, Weighted, round_layer
from edge.building.value_ranges import ValueRange

# A CPU with AVX2 but no VNNI adds two products of uint8 and int8 in 16 bits: from weights of 65
# on the sum saturates. (Measured on the demo's model, mAP50-95 over that of float32: 0.90 with
# weights up to 127, 0.99 up to 63, at the same speed.)
_WEIGHT_LIMIT = {QuantizationScheme.ASYMMETRIC: 63, QuantizationScheme.SYMMETRIC: 127}

_SMALLEST_SCALE = 1e-12


class _Scale(NamedTuple):
    scale: NDArray[np.float32]
    zero_point: NDArray[Any]


class QdqWriter:
    """Rewrites a graph in place by a plan.

    Wants the range of each observed tensor, and the mean of each channel of what layers read.
    """

    def __init__(
        self,
        plan: Plan,
        ranges: Mapping[str, ValueRange],
        means: Mapping[str, NDArray[np.float64]],
        scheme: QuantizationScheme,
    ) -> None:
        self._plan = plan
        self._means = means
        self._scheme = scheme
        self._scales = {name: self._scale(ranges[self._source(name)]) for name in plan.scaled}
        self._rounded: Dict[str, str] = {}
        self._writer = GraphWriter()

    def rewrite(self, graph: onnx.GraphProto) -> None:
        """Replaces what quantized nodes read and write; leaves every other name as it was."""
        makers = {output: node_name(node) for node in graph.node for output in node.output}
        nodes: List[onnx.NodeProto] = []
        for node in graph.node:
            source = next(iter(node.input), "")
            self._redirect(node, makers)
            if node_name(node) in self._plan.weighted:
                self._write_weights(node, source)
            nodes += self._written()
            nodes.append(node)
            for output in node.output:
                self._write_pair(output)
            nodes += self._written()
        del graph.node[:]
        graph.node.extend(nodes)
        _keep_used(graph, self._writer.initializers)

    def _written(self) -> List[onnx.NodeProto]:
        written = self._writer.nodes[:]
        self._writer.nodes.clear()
        return written

    def _source(self, tensor: str) -> str:
        while tensor in self._plan.moved:
            tensor = self._plan.moved[tensor]
        return tensor

    def _scale(self, values: ValueRange) -> _Scale:
        if self._scheme is QuantizationScheme.SYMMETRIC:
            step = max(-values.low, values.high) / 127
            return _Scale(_as_scale(step), np.array(0, np.int8))
        step = (values.high - values.low) / 255
        scale = _as_scale(step)
        return _Scale(scale, np.array(np.clip(round(-values.low / float(scale)), 0, 255), np.uint8))

    def _redirect(self, node: onnx.NodeProto, makers: Mapping[str, str]) -> None:
        """Lets a node read rounded tensors where it computes in 8 bits, or where their maker does.

        What an 8-bit node makes exists in 8 bits only.
        """
        is_quantized = node_name(node) in self._plan.nodes
        for index, name in enumerate(node.input):
            is_made_so = makers.get(name) in self._plan.nodes
            if name in self._rounded and (is_quantized or is_made_so):
                node.input[index] = self._rounded[name]

    def _write_pair(self, tensor: str) -> None:
        if tensor not in self._scales:
            return
        name = f"int8/{tensor}"
        scale = self._writer.constant(f"{name}/scale", self._scales[tensor].scale)
        zero = self._writer.constant(f"{name}/zero_point", self._scales[tensor].zero_point)
        rounded = self._writer.add("QuantizeLinear", [tensor, scale, zero], f"{name}/quantized")
        self._rounded[tensor] = self._writer.add(
            "DequantizeLinear", [rounded, scale, zero], f"{name}/dequantized"
        )

    def _write_weights(self, node: onnx.NodeProto, source: str) -> None:
        layer = self._plan.weighted[node_name(node)]
        name = f"int8/{node_name(node)}"
        input_scale = float(self._scales[source].scale)
        limit = _WEIGHT_LIMIT[self._scheme]
        rounded = round_layer(layer, limit, input_scale, self._means.get(source))
        node.input[1] = self._weights(f"{name}/weights", layer, rounded)
        if rounded.bias is not None:
            scale = (rounded.scales * np.float32(input_scale)).astype(np.float32)
            node.input[2] = self._bias(f"{name}/bias", rounded.bias, scale, layer.axis)

    def _weights(self, name: str, layer: Weighted, rounded: Rounded) -> str:
        if self._scheme is QuantizationScheme.ASYMMETRIC:
            return self._dequantized(name, rounded.steps, rounded.scales, layer.axis)
        # TensorRT 8 takes no int8 constants: it rounds the weights itself.
        weights = self._writer.constant(name, layer.weights)
        parameters = self._parameters(name, rounded.scales, np.int8)
        axis = _axis(layer.axis)
        steps = self._writer.add(
            "QuantizeLinear", [weights, *parameters], f"{name}/quantized", **axis
        )
        return self._writer.add(
            "DequantizeLinear", [steps, *parameters], f"{name}/dequantized", **axis
        )

    def _bias(
        self,
        name: str,
        bias: NDArray[np.float32],
        scale: NDArray[np.float32],
        axis: Optional[int],
    ) -> str:
        """TensorRT takes no int32 bias; ONNX Runtime takes no other."""
        if self._scheme is QuantizationScheme.SYMMETRIC:
            return self._writer.constant(name, bias)
        steps = np.round(bias / scale).astype(np.int32)
        return self._dequantized(name, steps, scale, None if axis is None else 0)

    def _dequantized(
        self, name: str, steps: NDArray[Any], scale: NDArray[np.float32], axis: Optional[int]
    ) -> str:
        inputs = [self._writer.constant(name, steps), *self._parameters(name, scale, steps.dtype)]
        return self._writer.add("DequantizeLinear", inputs, f"{name}/dequantized", **_axis(axis))

    def _parameters(self, name: str, scale: NDArray[np.float32], dtype: Any) -> List[str]:
        """Constants for a scale and its zero points, all 0."""
        return [
            self._writer.constant(f"{name}/scale", scale),
            self._writer.constant(f"{name}/zero_point", np.zeros(scale.shape, dtype)),
        ]


def _axis(axis: Optional[int]) -> Dict[str, int]:
    return {} if axis is None else {"axis": axis}


def _as_scale(step: float) -> NDArray[np.float32]:
    # A tensor that is always 0 is exact on any scale.
    return np.array(step if step > _SMALLEST_SCALE else 1.0, np.float32)


def _keep_used(graph: onnx.GraphProto, added: List[onnx.TensorProto]) -> None:
    used = {name for node in graph.node for name in inputs_of(node)}
    kept = [tensor for tensor in (*graph.initializer, *added) if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
