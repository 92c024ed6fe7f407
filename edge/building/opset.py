"""Brings newer exports down to the operator set the deployed graph is written in."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from edge.building.constants import constants_of
from edge.errors import ModelError

OLDEST_OPSET = 11
"""First whose TopK, GatherElements and Slice are those of the deployed graph."""

NEWEST_OPSET = 17
"""Last that TensorRT 8.5 reads."""

_DEFAULT_DOMAINS = ("", "ai.onnx")

Constants = Mapping[str, onnx.TensorProto]

# Operators that changed after opset 17 only in the element types they take.
_WIDER_TYPES_ONLY = frozenset(
    (
        "Constant",
        "ConstantOfShape",
        "Conv",
        "ConvTranspose",
        "Dropout",
        "Equal",
        "Flatten",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "InstanceNormalization",
        "MaxPool",
        "Reshape",
        "Selu",
        "Shape",
        "Size",
        "Softplus",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    )
)


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators a model uses."""
    versions = [o.version for o in model.opset_import if o.domain in _DEFAULT_DOMAINS]
    return max(versions, default=0)


def lower(model: onnx.ModelProto) -> None:
    """Rewrites a model in place so that its opset lies in 11..17; ModelError if it cannot."""
    opset = opset_of(model)
    if opset < OLDEST_OPSET:
        raise ModelError(
            f"uses ONNX opset {opset}, older than {OLDEST_OPSET}; "
            f"export it again with opset={NEWEST_OPSET}"
        )
    if opset <= NEWEST_OPSET:
        return
    if opset > onnx.defs.onnx_opset_version():
        raise ModelError(
            f"uses ONNX opset {opset}, newer than the {onnx.defs.onnx_opset_version()} that the "
            f"installed onnx package knows; export it again with opset={NEWEST_OPSET}"
        )
    constants = constants_of(model.graph)
    for node in model.graph.node:
        if node.domain in _DEFAULT_DOMAINS and _is_newer(node, opset):
            _lower_node(node, opset, constants)
    for entry in model.opset_import:
        if entry.domain in _DEFAULT_DOMAINS:
            entry.version = NEWEST_OPSET


def _is_newer(node: onnx.NodeProto, opset: int) -> bool:
    # A subgraph would have to be lowered too; no exporter of detectors writes one.
    has_subgraph = any(a.HasField("g") for a in node.attribute)
    schema = onnx.defs.get_schema(node.op_type, opset)
    return has_subgraph or schema.since_version > NEWEST_OPSET


def _lower_node(node: onnx.NodeProto, opset: int, constants: Constants) -> None:
    if node.op_type in _WIDER_TYPES_ONLY:
        return
    rewrite = _REWRITES.get(node.op_type)
    if rewrite is None or not rewrite(node, constants):
        raise ModelError(
            f"uses {node.op_type} of ONNX opset {opset} in a way that opset {NEWEST_OPSET} lacks; "
            f"export it again with opset={NEWEST_OPSET}"
        )


def _attributes(node: onnx.NodeProto) -> Dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _remove(node: onnx.NodeProto, *names: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def _lower_split(node: onnx.NodeProto, constants: Constants) -> bool:
    # 17 splits evenly by the number of outputs, which is all that num_outputs repeats.
    _remove(node, "num_outputs")
    return True


def _lower_resize(node: onnx.NodeProto, constants: Constants) -> bool:
    attributes = _attributes(node)
    means_the_same = (
        attributes.get("coordinate_transformation_mode") != b"half_pixel_symmetric"
        and "axes" not in attributes
        and not attributes.get("antialias", 0)
        and attributes.get("keep_aspect_ratio_policy", b"stretch") == b"stretch"
    )
    _remove(node, "antialias", "keep_aspect_ratio_policy")
    return means_the_same


def _lower_reduce(node: onnx.NodeProto, constants: Constants) -> bool:
    """Axes became an input at 18; before that they are an attribute."""
    means_the_same = not _attributes(node).get("noop_with_empty_axes", 0)
    if len(node.input) == 2 and node.input[1]:
        axes = constants.get(node.input[1])
        means_the_same = axes is not None
        if axes is not None:
            values: List[int] = np.atleast_1d(numpy_helper.to_array(axes)).tolist()
            node.attribute.append(onnx.helper.make_attribute("axes", values))
    del node.input[1:]
    _remove(node, "noop_with_empty_axes")
    return means_the_same


def _lower_pad(node: onnx.NodeProto, constants: Constants) -> bool:
    return _attributes(node).get("mode") != b"wrap" and len(node.input) <= 3


def _lower_average_pool(node: onnx.NodeProto, constants: Constants) -> bool:
    attributes = _attributes(node)
    _remove(node, "dilations")
    return not attributes.get("ceil_mode", 0) and set(attributes.get("dilations", ())) <= {1}


def _lower_cast(node: onnx.NodeProto, constants: Constants) -> bool:
    # Both speak of 8-bit floats, which 17 cannot hold anyway.
    _remove(node, "saturate", "round_mode")
    return True


def _lower_scatter(node: onnx.NodeProto, constants: Constants) -> bool:
    return _attributes(node).get("reduction", b"none") in (b"none", b"add", b"mul")


_REWRITES: Dict[str, Callable[[onnx.NodeProto, Constants], bool]] = {
    "AveragePool": _lower_average_pool,
    "Cast": _lower_cast,
    "Pad": _lower_pad,
    "ReduceMax": _lower_reduce,
    "ReduceMean": _lower_reduce,
    "ReduceMin": _lower_reduce,
    "Resize": _lower_resize,
    "ScatterElements": _lower_scatter,
    "ScatterND": _lower_scatter,
    "Split": _lower_split,
}
"""Each makes the node one of opset 17; False where 17 has no equal."""
