"""From ONNX to TensorRT's network, its complaints in words, and which layers stay in half."""

from __future__ import annotations

import logging
from typing import Any, FrozenSet, List, Tuple

import onnx

from edge.building.tensorrt_config import is_strongly_typed
from edge.errors import BuildError, EdgeError, EngineOutOfMemory, ModelError

log = logging.getLogger(__name__)

_MAX_CHARACTERS = 300


def parse(trt: Any, builder: Any, logger: Any, model: onnx.ModelProto) -> Tuple[Any, Any]:
    """The network of an ONNX model and the parser, which owns its weights.

    ModelError names the operator that TensorRT does not know.
    """
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise _translated(trt, errors, model)
    return network, parser


def _network_flags(trt: Any) -> int:
    if is_strongly_typed(trt):
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    # Without it 8.x means a batch dimension outside the network; it does nothing in 10.
    explicit_batch = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return 0 if explicit_batch is None else 1 << int(explicit_batch)


def _translated(trt: Any, errors: List[Any], model: onnx.ModelProto) -> EdgeError:
    version = trt.__version__
    if not errors:
        return BuildError(f"TensorRT {version} cannot read the deployed graph, for no reason given")
    error = errors[0]
    text = f"TensorRT {version} cannot run {_where(error, model)}: {_in_short(error.desc())}"
    if error.code() == trt.ErrorCode.MEM_ALLOC_FAILED:
        return EngineOutOfMemory(text)
    # Not `.name`: in 8.5 another property of that name hides the enumeration's.
    if "UNSUPPORTED" in str(error.code()):
        return ModelError(f"{text}; export it again with standard operators, opset=17")
    return BuildError(text)


def _where(error: Any, model: onnx.ModelProto) -> str:
    nodes, index = model.graph.node, int(error.node())
    if not 0 <= index < len(nodes):
        return "the deployed graph"
    node = nodes[index]
    name = node.name or (node.output[0] if node.output else "")
    return f"operator {node.op_type} (node '{name}')"


def _in_short(text: str) -> str:
    return " ".join(str(text).split())[:_MAX_CHARACTERS]


def keep_in_half(trt: Any, network: Any, tensors: FrozenSet[str]) -> int:
    """Asks for float16 in the layers that make `tensors`; returns how many there are.

    Only of layers that compute in float: a precision on those of shapes, indices, booleans or
    constants fails the build.
    """
    count = 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        outputs = [layer.get_output(number) for number in range(layer.num_outputs)]
        if _is_wanted(outputs, tensors) and _computes_in_float(trt, layer, outputs):
            _set_half(trt, layer, outputs)
            count += 1
    log.debug("%d layers are kept in float16", count)
    return count


def _is_wanted(outputs: List[Any], tensors: FrozenSet[str]) -> bool:
    return any(output is not None and output.name in tensors for output in outputs)


def _computes_in_float(trt: Any, layer: Any, outputs: List[Any]) -> bool:
    if layer.type in (trt.LayerType.SHAPE, trt.LayerType.CONSTANT):
        return False
    return all(
        output is not None
        and not output.is_shape_tensor
        and output.dtype in (trt.DataType.FLOAT, trt.DataType.HALF)
        for output in outputs
    )


def _set_half(trt: Any, layer: Any, outputs: List[Any]) -> None:
    layer.precision = trt.DataType.HALF
    for number, output in enumerate(outputs):
        # What leaves the engine is float32 whatever the layer computes in.
        if not output.is_network_output:
            layer.set_output_type(number, trt.DataType.HALF)
