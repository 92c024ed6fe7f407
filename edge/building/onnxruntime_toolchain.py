"""Engines for ONNX Runtime: the deployed graph itself, or its quantized twin."""

from __future__ import annotations

import dataclasses
import logging
from importlib.util import find_spec
from typing import Optional, Tuple, Union

import numpy as np
from onnx import TensorProto, helper

from edge.building.fingerprint import BackendKey
from edge.building.quantize import quantize
from edge.building.toolchain import CalibrationFeed
from edge.config.schema import CalibrationMethod, Device, EngineConfig, Precision
from edge.errors import BuildError, ConfigError, CudaError, EdgeError
from edge.geometry import PAD_GREY, Image
from edge.inference.cuda import Context
from edge.inference.device import DeviceOptions
from edge.inference.onnxruntime import OnnxRuntimeEngine, runtime_version
from edge.inference.onnxruntime_cuda import OnnxRuntimeCudaEngine, check_provider, offers_cuda
from edge.inference.pinned_rows import PinnedRows
from edge.records import DeployedGraph, Lane, OnProgress

log = logging.getLogger(__name__)

_MAX_BATCH = 32
_PROBE_OPSET, _PROBE_IR = 13, 7  # any ONNX Runtime reads these


class OnnxRuntimeToolchain:
    """Makes and loads engines for ONNX Runtime, on the GPU where that is asked for or works.

    It holds the GPU's context until it is closed; a `context` that is given stays the giver's.
    `max_batch` is the largest batch of one call on a GPU. Raises ConfigError without ONNX Runtime,
    or where `engine.device` asks for a GPU that cannot be used.
    """

    # With the demo model 0.992 of its mAP50-95 are left; with entropy 0.982.
    method = CalibrationMethod.MINMAX
    first = Precision.FP32
    exact = Precision.FP32

    def __init__(
        self,
        graph: DeployedGraph,
        config: EngineConfig,
        max_batch: int = _MAX_BATCH,
        lane: Lane = Lane.BATCH,
        context: Optional[Context] = None,
    ) -> None:
        self._graph = graph
        self._config = config
        self._max_batch = max_batch
        self._lane = lane
        self._context = context or open_context(config.device)
        self._owns_context = context is None
        self._pinned = None if self._context is None else PinnedRows(self._context, config.memory)

    @property
    def has_fast_int8(self) -> bool:
        """False on a GPU: its provider computes in float what a graph rounds to 8 bits."""
        return self._context is None

    @property
    def key(self) -> BackendKey:
        """ONNX Runtime's version: a graph it quantized is not promised to fit another."""
        device = "cpu" if self._context is None else self._context.device_name
        return BackendKey(name="onnxruntime", version=runtime_version(), device=device)

    def ready(self, precision: Precision) -> Optional[bytes]:
        """The deployed graph itself serves in float32."""
        return self._graph.onnx_bytes if precision is Precision.FP32 else None

    def build(self, precision: Precision, on_progress: OnProgress) -> bytes:
        """Raises BuildError: there is no float engine but the one that is ready."""
        raise BuildError(f"ONNX Runtime does not compute in {precision.value} by itself")

    def build_int8(
        self, feed: CalibrationFeed, on_progress: OnProgress, *, head_in_float: bool
    ) -> bytes:
        """Quantizes the deployed graph's core; raises BuildError."""
        return quantize(self._graph, feed, head_in_float, on_progress).onnx_bytes

    def allocate(self, shape: Tuple[int, int, int, int]) -> Image:
        """Pinned memory for a GPU, ordinary memory for the CPU, which reads any."""
        if self._pinned is not None:
            return self._pinned.allocate(shape)
        return np.full(shape, PAD_GREY, np.uint8)

    def release(self, rows: Image) -> None:
        """Frees what `allocate` gave; ordinary memory ends by itself."""
        if self._pinned is not None:
            self._pinned.release(rows)

    def load(
        self, data: bytes, precision: Precision
    ) -> Union[OnnxRuntimeEngine, OnnxRuntimeCudaEngine]:
        """Loads a graph that was built here and warms it up."""
        graph = dataclasses.replace(self._graph, onnx_bytes=data, precision=precision)
        if self._context is None:
            return OnnxRuntimeEngine(graph, self._config)
        is_first = self._lane is Lane.PRIORITY
        options = DeviceOptions(self._config.memory, is_high_priority=is_first)
        return OnnxRuntimeCudaEngine(graph, self._max_batch, self._context, options)

    def derived(self, max_batch: int, lane: Lane) -> OnnxRuntimeToolchain:
        """For another largest batch, or for priority frames, on the same GPU; itself on a CPU."""
        if self._context is None:
            return self
        return OnnxRuntimeToolchain(self._graph, self._config, max_batch, lane, self._context)

    def close(self) -> None:
        """Lets the GPU go, where it is this one's; every engine must be closed by then."""
        if self._context is None or not self._owns_context:
            return
        if self._pinned is not None:
            self._pinned.close()
            self._pinned = None
            self._context.close()


def open_context(device: Optional[Device]) -> Optional[Context]:
    """The GPU to compute on, None for the CPU; where nothing is asked for, the GPU if it works.

    Raises ConfigError where a GPU is asked for and cannot be used.
    """
    if device is Device.CPU or (device is None and not offers_cuda()):
        return None
    try:
        return _open_context()
    except (ConfigError, CudaError) as error:
        if device is Device.CUDA:
            raise
        # Somebody installed it for the GPU, so they will want to know.
        log.warning("ONNX Runtime computes on the CPU: %s", error)
        return None


def _open_context() -> Context:
    if not offers_cuda():
        raise ConfigError(
            f"engine.device: this onnxruntime {runtime_version()} has no CUDA provider; run "
            "`pip uninstall onnxruntime` and `pip install onnxruntime-gpu pycuda`, or use cpu"
        )
    if find_spec("pycuda") is None:
        raise ConfigError(
            "engine.device: pycuda is not installed; run `pip install pycuda`, or use cpu"
        )
    context = Context()
    try:
        check_provider(probe(), context)
    except EdgeError:
        context.close()
        raise
    return context


def probe() -> bytes:
    """The smallest graph there is: starting the provider with it shows all that may be missing."""
    given, found = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("given", "found")
    )
    nodes = [helper.make_node("Relu", ["given"], ["found"])]
    graph = helper.make_graph(nodes, "probe", [given], [found])
    opset = [helper.make_opsetid("", _PROBE_OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=_PROBE_IR)
    data: bytes = model.SerializeToString()
    return data
