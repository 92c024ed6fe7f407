"""Engines for ONNX Runtime: the deployed graph itself, or its quantized twin."""

from __future__ import annotations

import dataclasses
from typing import Optional, Tuple

import numpy as np

from edge.building.fingerprint import BackendKey
from edge.building.quantize import quantize
from edge.building.toolchain import CalibrationFeed
from edge.config.schema import CalibrationMethod, EngineConfig, Precision
from edge.errors import BuildError
from edge.geometry import PAD_GREY, Image
from edge.inference.onnxruntime import OnnxRuntimeEngine, runtime_version
from edge.records import DeployedGraph, OnProgress


class OnnxRuntimeToolchain:
    """Makes and loads engines for ONNX Runtime's CPU provider."""

    # With the demo model 0.992 of its mAP50-95 are left; with entropy 0.982.
    method = CalibrationMethod.MINMAX
    first = Precision.FP32
    exact = Precision.FP32

    def __init__(self, graph: DeployedGraph, config: EngineConfig) -> None:
        self._graph = graph
        self._config = config

    @property
    def key(self) -> BackendKey:
        """ONNX Runtime's version: a graph it quantized is not promised to fit another."""
        return BackendKey(name="onnxruntime", version=runtime_version(), device="cpu")

    def ready(self, precision: Precision) -> Optional[bytes]:
        """The deployed graph itself serves in float32."""
        return self._graph.onnx_bytes if precision is Precision.FP32 else None

    def build(self, precision: Precision, on_progress: OnProgress) -> bytes:
        """Raises BuildError: there is no float engine but the one that is ready."""
        raise BuildError(f"ONNX Runtime's CPU provider does not compute in {precision.value}")

    def build_int8(
        self, feed: CalibrationFeed, on_progress: OnProgress, *, head_in_float: bool
    ) -> bytes:
        """Quantizes the deployed graph's core; raises BuildError."""
        return quantize(self._graph, feed, head_in_float, on_progress).onnx_bytes

    def allocate(self, shape: Tuple[int, int, int, int]) -> Image:
        """Ordinary memory: the CPU reads any."""
        return np.full(shape, PAD_GREY, np.uint8)

    def load(self, data: bytes, precision: Precision) -> OnnxRuntimeEngine:
        """Loads a graph that was built here and warms it up."""
        graph = dataclasses.replace(self._graph, onnx_bytes=data, precision=precision)
        return OnnxRuntimeEngine(graph, self._config)

    def close(self) -> None:
        """Nothing to let go."""
