"""Makes a deployed graph that computes in 8 bits what may be rounded to 8 bits."""

from __future__ import annotations

import dataclasses
from typing import Dict, Iterator, Mapping, Set

import onnx

from edge.building import onnx_file
from edge.building.activations import observe
from edge.building.constants import first_nan
from edge.building.core import Core, assert_no_scale_behind, find_core, node_name, scaled_tensors
from edge.building.float32 import widen
from edge.building.qdq import QdqWriter
from edge.building.quantization_plan import Plan, QuantizationScheme, make_plan
from edge.building.toolchain import CalibrationFeed
from edge.building.value_ranges import Histogram, ValueRange
from edge.config.schema import CalibrationMethod, Precision
from edge.errors import BuildError
from edge.records import DeployedGraph, OnProgress

# In steps of 1/255 the sigmoid of this and of everything below is 0.
_GATE_SHUT = -7.0


def quantize(
    graph: DeployedGraph,
    feed: CalibrationFeed,
    head_in_float: bool,
    on_progress: OnProgress,
    scheme: QuantizationScheme = QuantizationScheme.ASYMMETRIC,
) -> DeployedGraph:
    """The same detector with Q/DQ pairs in its core, calibrated by the feed's images.

    The last layers with weights stay in float; with `head_in_float` all that lies behind the
    neck's last merge does. Raises BuildError: for weights or activations that are no numbers, by
    name; for a feed that ends early; for a graph with nothing left to quantize. Raises ConfigError
    where ONNX Runtime is missing; what reading the images raises goes up.
    """
    model = onnx.load_model_from_string(graph.onnx_bytes)
    if scaled_tensors(model):
        raise BuildError(f"'{graph.name}' is quantized already; export it in float32 or float16")
    _check_weights(model.graph)
    widen(model)
    _name_nodes(model.graph)
    core = find_core(model, graph.network_input)
    plan = make_plan(model, core, core.head_nodes if head_in_float else core.last_nodes, scheme)
    if not plan.weighted:
        raise BuildError(
            f"'{graph.name}' has no layers left to quantize; use engine.precision: fp16 or fp32"
        )
    observed = [name for name in _in_order(model.graph) if name in plan.observed]
    histograms = observe(model, observed, feed, graph.fixed_batch or 1, on_progress)
    ranges = _ranges(histograms, plan, graph.network_input, feed.method, scheme)
    means = {name: histograms[name].channel_means for name in plan.read_by_weighted}
    QdqWriter(plan, ranges, means, scheme).rewrite(model.graph)
    _check_scales(model, core)
    return dataclasses.replace(
        graph, onnx_bytes=model.SerializeToString(), precision=Precision.INT8
    )


def _ranges(
    histograms: Mapping[str, Histogram],
    plan: Plan,
    network_input: str,
    method: CalibrationMethod,
    scheme: QuantizationScheme,
) -> Dict[str, ValueRange]:
    is_symmetric = scheme is QuantizationScheme.SYMMETRIC

    def value_range(name: str, histogram: Histogram) -> ValueRange:
        # Pixels use their whole range, and white is not to be clipped for being rare.
        wanted = CalibrationMethod.MINMAX if name == network_input else method
        found = histogram.value_range(wanted, is_symmetric=is_symmetric)
        is_gated = name in plan.gated
        return ValueRange(max(found.low, _GATE_SHUT), found.high) if is_gated else found

    ranges = {name: value_range(name, histogram) for name, histogram in histograms.items()}
    return {**ranges, **plan.known}


def _in_order(graph: onnx.GraphProto) -> Iterator[str]:
    """All computed tensors: the first that holds no number is where it went wrong."""
    return (output for node in graph.node for output in node.output)


def _check_weights(graph: onnx.GraphProto) -> None:
    name = first_nan(graph)
    if name is not None:
        raise BuildError(
            f"the weights '{name}' hold no numbers (NaN): the model is damaged; export it again"
        )


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Gives every node a name of its own: here they are told apart by name."""
    seen: Set[str] = set()
    for node in graph.node:
        name = node_name(node)
        node.name = name if name not in seen else f"{name}/{node.output[0]}"
        seen.add(node.name)


def _check_scales(model: onnx.ModelProto, core: Core) -> None:
    """Raises BuildError where something outside of the core was rounded."""
    onnx_file.check(model)
    scaled = scaled_tensors(model)
    assert_no_scale_behind(core, scaled)
    made_by_last = set(core.boundary).intersection(scaled)
    if made_by_last:
        raise BuildError(
            f"'{min(made_by_last)}' is what scores are made of, and must stay in float"
        )
