"""Adds operators to a graph under names that no exporter uses."""

from __future__ import annotations

from typing import Any, List, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

PREFIX = "edge/"


class GraphWriter:
    """Collects nodes and constants; every name begins with `edge/`."""

    def __init__(self) -> None:
        self.nodes: List[onnx.NodeProto] = []
        self.initializers: List[onnx.TensorProto] = []

    def add(self, op_type: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Appends a node with one output and returns that output's name."""
        output = PREFIX + name
        self._append(op_type, inputs, [output], name, attributes)
        return output

    def add_last(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """Appends a node whose output has a name given from outside."""
        self._append(op_type, inputs, [output], f"to_{output}", attributes)

    def add_top_k(self, scores: str, k: int, axis: int) -> List[str]:
        """Appends a sorted TopK and returns the names of its values and indices."""
        # TensorRT 8.5 takes K only as an initializer.
        count = self.constant("top_k", np.array([k], np.int64))
        outputs = [PREFIX + "top_scores", PREFIX + "top_indices"]
        self._append("TopK", [scores, count], outputs, "top", {"axis": axis, "sorted": 1})
        return outputs

    def add_slice(self, tensor: str, name: str, axis: int, start: int, stop: int) -> str:
        """Appends a Slice along one axis and returns its output's name."""
        bounds = [
            self.constant(f"{name}_{part}", np.array([value], np.int64))
            for part, value in (("start", start), ("stop", stop), ("axis", axis))
        ]
        return self.add("Slice", [tensor, *bounds], name)

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Adds an initializer and returns its name."""
        self.initializers.append(numpy_helper.from_array(values, PREFIX + name))
        return PREFIX + name

    def _append(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str,
        attributes: Any,
    ) -> None:
        node = helper.make_node(op_type, inputs, outputs, name=PREFIX + name, **attributes)
        self.nodes.append(node)
