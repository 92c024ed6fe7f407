"""What the user's network takes and gives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Optional, Tuple

import onnx

from edge.building import onnx_file
from edge.errors import ModelError

FLOAT = onnx.TensorProto.FLOAT
FLOAT16 = onnx.TensorProto.FLOAT16

Shape = Tuple[Optional[int], ...]
"""Dimensions of a tensor, None where they are open until the network runs."""


@dataclass(frozen=True)
class Tensor:
    """A named input or output; `shape` is empty where not even the rank is known."""

    name: str
    elem_type: int
    shape: Shape

    def __str__(self) -> str:
        if not self.shape:
            return f"'{self.name}' of unknown shape"
        dims = ", ".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"'{self.name}' [{dims}]"


@dataclass(frozen=True)
class Network:
    """A network that takes [batch, 3, H, W] floats; `fixed_batch` where it takes no other."""

    image: Tensor
    input_wh: Tuple[int, int]
    fixed_batch: Optional[int]
    outputs: Tuple[Tensor, ...]
    largest_activation: int = 0
    """Numbers in the largest tensor that a layer reads, of one image."""


def inspect(
    model: onnx.ModelProto,
    configured_wh: Optional[Tuple[int, int]],
    exported_wh: Optional[Tuple[int, int]] = None,
) -> Network:
    """Finds the image input, settles its size and infers the outputs; ModelError in words.

    `exported_wh` is the size the exporter worked with, taken where the network leaves its own open.
    """
    image = _image_input(model.graph)
    batch, _, height, width = image.shape
    is_open = width is None and height is None
    input_wh = _settle_size((width, height), configured_wh or (exported_wh if is_open else None))
    sized = _with_input_size(model, image.name, input_wh)
    outputs = tuple(_tensor(value) for value in sized.graph.output)
    inner = max(map(_numbers, sized.graph.value_info), default=0) // (batch or 1)
    largest = max(inner, 3 * input_wh[0] * input_wh[1])
    return Network(image, input_wh, batch, outputs, largest)


def _image_input(graph: onnx.GraphProto) -> Tensor:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [_tensor(value) for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ModelError(
            f"has {len(inputs)} inputs ({_listed(inputs)}); a detector has one, the image"
        )
    image = inputs[0]
    if len(image.shape) != 4 or image.shape[1] not in (3, None):
        raise ModelError(f"its input is {image}; supported is an image [batch, 3, height, width]")
    if image.elem_type not in (FLOAT, FLOAT16):
        type_name = onnx.TensorProto.DataType.Name(image.elem_type).lower()
        raise ModelError(
            f"its input {image} is {type_name}; supported are float and float16: "
            "export it without built-in preprocessing"
        )
    return image


def _settle_size(
    model_wh: Tuple[Optional[int], Optional[int]], configured_wh: Optional[Tuple[int, int]]
) -> Tuple[int, int]:
    width, height = model_wh
    if configured_wh is None:
        if width is None or height is None:
            raise ModelError(
                "leaves its input size open; write the size it was trained for, "
                "for example model.input_wh: [640, 640]"
            )
        return width, height
    if width not in (configured_wh[0], None) or height not in (configured_wh[1], None):
        raise ModelError(
            f"takes {width or 'any'}x{height or 'any'} pixels, but model.input_wh says "
            f"{configured_wh[0]}x{configured_wh[1]}; remove model.input_wh or export it again"
        )
    return configured_wh


def _with_input_size(
    model: onnx.ModelProto, input_name: str, input_wh: Tuple[int, int]
) -> onnx.ModelProto:
    """A copy whose shapes are inferred for one image of a settled size."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    image = next(value for value in sized.graph.input if value.name == input_name)
    dims = image.type.tensor_type.shape.dim
    # An open batch would hide every size that is computed together with it.
    dims[0].dim_value = dims[0].dim_value or 1
    dims[1].dim_value = 3
    dims[2].dim_value, dims[3].dim_value = input_wh[1], input_wh[0]
    # Left by the exporter for other sizes; they would contradict the settled one.
    del sized.graph.value_info[:]
    return onnx_file.infer_shapes(sized)


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    return Tensor(value.name, kind.elem_type, tuple(map(_dimension, kind.shape.dim)))


def _numbers(value: onnx.ValueInfoProto) -> int:
    """Elements of a tensor; 0 where its size is not known before it runs."""
    shape = _tensor(value).shape
    return math.prod(dim or 0 for dim in shape) if shape else 0


def _dimension(dim: onnx.TensorShapeProto.Dimension) -> Optional[int]:
    # Some exporters write an open dimension as 0 or -1.
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None


def _listed(tensors: List[Tensor]) -> str:
    return ", ".join(map(str, tensors)) or "none"
