from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Tuple

import pytest

from edge.building.tensorrt_network import keep_in_half
from tests.inference.tensorrt_api.double import CALIBRATED, World, tensorrt_double


class Tensor(NamedTuple):
    name: str
    dtype: str = "FLOAT"
    is_shape_tensor: bool = False
    is_network_output: bool = False


class Layer(NamedTuple):
    type: str
    outputs: Tuple[Tensor, ...]


class NetworkWorld(World):
    """A network of given layers."""

    def __init__(self, layers: List[Layer]) -> None:
        super().__init__()
        self.layers = layers
        self.trt: Any = None
        self.made: Dict[int, Any] = {}

    def INetworkDefinition_num_layers(self, this: Any) -> int:
        return len(self.layers)

    def INetworkDefinition_get_layer(self, this: Any, index: int) -> Any:
        layer = self.trt.ILayer()
        layer.__dict__["layer"] = self.layers[index]
        self.made[index] = layer
        return layer

    def ILayer_type(self, this: Any) -> Any:
        return self.trt.LayerType[this.__dict__["layer"].type]

    def ILayer_num_outputs(self, this: Any) -> int:
        return len(this.__dict__["layer"].outputs)

    def ILayer_get_output(self, this: Any, index: int) -> Any:
        tensor = self.trt.ITensor()
        tensor.__dict__["tensor"] = this.__dict__["layer"].outputs[index]
        return tensor

    def ITensor_name(self, this: Any) -> str:
        return str(this.__dict__["tensor"].name)

    def ITensor_dtype(self, this: Any) -> Any:
        return self.trt.DataType[this.__dict__["tensor"].dtype]

    def ITensor_is_shape_tensor(self, this: Any) -> bool:
        return bool(this.__dict__["tensor"].is_shape_tensor)

    def ITensor_is_network_output(self, this: Any) -> bool:
        return bool(this.__dict__["tensor"].is_network_output)


KEPT = {
    "convolution": (Layer("CONVOLUTION", (Tensor("a"),)), True),
    "half already": (Layer("CONVOLUTION", (Tensor("a", "HALF"),)), True),
    "gather of floats": (Layer("GATHER", (Tensor("a"),)), True),
    "not asked for": (Layer("CONVOLUTION", (Tensor("b"),)), False),
    "constant": (Layer("CONSTANT", (Tensor("a"),)), False),
    "shape": (Layer("SHAPE", (Tensor("a", "INT32"),)), False),
    "shape arithmetic": (Layer("ELEMENTWISE", (Tensor("a", is_shape_tensor=True),)), False),
    "integers": (Layer("ELEMENTWISE", (Tensor("a", "INT32"),)), False),
    "booleans": (Layer("ELEMENTWISE", (Tensor("a", "BOOL"),)), False),
    "values and indices": (Layer("TOPK", (Tensor("a"), Tensor("i", "INT32"))), False),
}


@pytest.mark.parametrize("version", CALIBRATED)
@pytest.mark.parametrize(("layer", "is_kept"), KEPT.values(), ids=KEPT)
def test_only_layers_that_compute_in_float_get_a_precision(
    version: str, layer: Layer, is_kept: bool
) -> None:
    world = NetworkWorld([Layer("CONVOLUTION", (Tensor("other"),)), layer])
    world.trt = trt = tensorrt_double(version, world)
    assert keep_in_half(trt, trt.INetworkDefinition(), frozenset(("a",))) == int(is_kept)
    wanted = {"precision": trt.DataType.HALF} if is_kept else {}
    assert world.made[1].values == wanted
    types = world.arguments_of("ILayer.set_output_type")
    assert types == ([(0, trt.DataType.HALF)] if is_kept else [])


def test_what_leaves_the_engine_stays_float32() -> None:
    world = NetworkWorld([Layer("CONCATENATION", (Tensor("a", is_network_output=True),))])
    world.trt = trt = tensorrt_double("8.5.2.2", world)
    assert keep_in_half(trt, trt.INetworkDefinition(), frozenset(("a",))) == 1
    assert world.made[0].values == {"precision": trt.DataType.HALF}
    assert not world.arguments_of("ILayer.set_output_type")
