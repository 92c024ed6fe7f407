"""The values a graph holds ready before it runs."""

from __future__ import annotations

from typing import Any, Dict, Optional

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

# How a Constant node may spell its value besides as a tensor.
_PLAIN = {
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}


def constants_of(graph: onnx.GraphProto) -> Dict[str, onnx.TensorProto]:
    """Initializers and Constant nodes by the name of their tensor."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute:
            attribute = node.attribute[0]
            if attribute.name == "value":
                found[node.output[0]] = attribute.t
            elif attribute.name in _PLAIN:
                found[node.output[0]] = numpy_helper.from_array(_plain_value(attribute))
    return found


def first_nan(graph: onnx.GraphProto) -> Optional[str]:
    """The first constant that holds what is no number; None where all are."""
    for name, tensor in constants_of(graph).items():
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and np.isnan(values).any():
            return name
    return None


def _plain_value(attribute: onnx.AttributeProto) -> NDArray[Any]:
    return np.array(onnx.helper.get_attribute_value(attribute), _PLAIN[attribute.name])
