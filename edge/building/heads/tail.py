"""What a network does with the results of its last convolutions: the tail tells the family."""

from __future__ import annotations

from collections import Counter, deque
from typing import Deque, Dict, Iterator, List, Mapping, Optional, Tuple

import onnx
from onnx import numpy_helper

from edge.building.constants import constants_of

# The inputs that carry numbers; the others are shapes, places and sizes.
_DATA_INPUTS: Mapping[str, Tuple[int, ...]] = {
    "ConstantOfShape": (),
    "Expand": (0,),
    "Gather": (0,),
    "GatherElements": (0,),
    "GatherND": (0,),
    "Pad": (0,),
    "Range": (),
    "Reshape": (0,),
    "Resize": (0,),
    "ScatterElements": (0, 2),
    "ScatterND": (0, 2),
    "Shape": (),
    "Slice": (0,),
    "Split": (0,),
    "Squeeze": (0,),
    "Tile": (0,),
    "TopK": (0,),
    "Unsqueeze": (0,),
}
_ARITHMETIC = ("Add", "Div", "Exp", "Mul", "Pow", "Sub")
_CONVOLUTIONS = ("Conv", "ConvTranspose")


class Tail:
    """The operators between the last convolutions and one output, nearest to the output first."""

    def __init__(self, graph: onnx.GraphProto, output: str) -> None:
        self._producers: Dict[str, onnx.NodeProto] = {
            name: node for node in graph.node for name in node.output
        }
        self._constants = constants_of(graph)
        self._output = output
        self._nodes = list(self._behind_convolutions(output))
        self._counts = Counter(node.op_type for node in self._nodes)

    def count(self, op_type: str) -> int:
        """How many operators of a type there are."""
        return self._counts[op_type]

    @property
    def is_undecoded(self) -> bool:
        """Tells whether the convolutions' numbers are handed out without any arithmetic."""
        return self._is_learnt(self._output) and not any(map(self.count, _ARITHMETIC))

    @property
    def has_corners(self) -> bool:
        """Tells whether boxes are put together of (cell - distance) and (cell + distance)."""
        for node in self._first_inputs():
            if self._makers(node) == ["Sub", "Add"]:
                return True
            # Centre and size are computed of the corners: these are not what is handed out.
            if node.op_type in ("Add", "Sub", "Div"):
                return False
        return False

    @property
    def has_constant_column(self) -> bool:
        """Tells whether a part of the output is the same for every image."""
        joints = (node for node in self._first_inputs() if node.op_type == "Concat")
        columns = next(joints, onnx.NodeProto()).input
        return any(not self._is_learnt(name) for name in columns)

    @property
    def top_k(self) -> Optional[int]:
        """K of the last TopK, where it is constant."""
        nodes = (node for node in self._nodes if node.op_type == "TopK")
        return self._constant_input(next(nodes, None))

    @property
    def class_count(self) -> Optional[int]:
        """The divisor whose remainder is the class of a flattened index."""
        nodes = (node for node in self._nodes if node.op_type == "Mod")
        return self._constant_input(next(nodes, None))

    def _constant_input(self, node: Optional[onnx.NodeProto]) -> Optional[int]:
        value = self._constants.get(node.input[1]) if node is not None else None
        return None if value is None else int(numpy_helper.to_array(value).ravel()[0])

    def _makers(self, node: onnx.NodeProto) -> List[str]:
        if node.op_type != "Concat":
            return []
        makers = (self._producers.get(name) for name in node.input)
        return [maker.op_type if maker is not None else "" for maker in makers]

    def _first_inputs(self) -> Iterator[onnx.NodeProto]:
        """From the output towards the convolutions, always by the first input: to the boxes."""
        node = self._producers.get(self._output)
        while node is not None and node.op_type not in _CONVOLUTIONS:
            yield node
            inputs = _data_inputs(node)
            node = self._producers.get(inputs[0]) if inputs else None

    def _is_learnt(self, tensor: str) -> bool:
        """Tells whether a convolution's result flows into a tensor."""
        nodes = [self._producers.get(tensor), *self._behind_convolutions(tensor)]
        inputs = (name for node in nodes if node is not None for name in _data_inputs(node))
        makers = [*map(self._producers.get, inputs), nodes[0]]
        return any(maker is not None and maker.op_type in _CONVOLUTIONS for maker in makers)

    def _behind_convolutions(self, tensor: str) -> Iterator[onnx.NodeProto]:
        waiting: Deque[str] = deque([tensor])
        seen = {tensor}
        while waiting:
            node = self._producers.get(waiting.popleft())
            if node is None or node.op_type in _CONVOLUTIONS:
                continue
            yield node
            # Another output of the same node leads to the same inputs.
            new = [name for name in _data_inputs(node) if name not in seen]
            seen.update(new)
            waiting.extend(new)


def _data_inputs(node: onnx.NodeProto) -> List[str]:
    indices = _DATA_INPUTS.get(node.op_type, range(len(node.input)))
    return [node.input[i] for i in indices if i < len(node.input) and node.input[i]]
