"""One build: TensorRT's builder, network and configuration, and what is said meanwhile."""

from __future__ import annotations

from typing import Any, FrozenSet, Tuple

import onnx

from edge.building.tensorrt_config import (
    BuildOptions,
    Gpu,
    Shape,
    add_profile,
    configure,
    load_timing_cache,
    shape_profile,
)
from edge.building.tensorrt_network import keep_in_half, parse
from edge.building.tensorrt_progress import BuildMeter, as_monitor
from edge.config.schema import Precision
from edge.errors import BuildError, EngineOutOfMemory
from edge.inference.tensorrt import start
from edge.inference.tensorrt_log import TensorRtLog, as_logger


class Build:
    """Made, told what to do, and run once; the CUDA context must be current all the while."""

    def __init__(
        self, trt: Any, model: onnx.ModelProto, precision: Precision, meter: BuildMeter
    ) -> None:
        self._trt = trt
        self._precision = precision
        self._input_name = model.graph.input[0].name
        has_monitor = hasattr(trt, "IProgressMonitor")
        self._log = TensorRtLog(None if has_monitor else meter.hear)
        self._logger = as_logger(trt, self._log)
        self._monitor = as_monitor(trt, meter) if has_monitor else None
        self._builder = start(trt, trt.Builder, self._logger, self._log)
        # The parser owns the weights until the engine is built.
        self._network, self._parser = parse(trt, self._builder, self._logger, model)

    def configure(self, options: BuildOptions, gpu: Gpu, timing_cache: bytes) -> None:
        """Sets what does not depend on the network."""
        self._config = configure(self._trt, self._builder, options, self._precision, gpu)
        if self._monitor is not None:
            self._config.progress_monitor = self._monitor
        self._timings = load_timing_cache(self._config, timing_cache)

    def set_shapes(self, shapes: Tuple[Shape, Shape, Shape]) -> None:
        """Sets the input's smallest, best and largest shape."""
        add_profile(self._builder, self._config, self._input_name, shapes)

    def set_calibrator(self, calibrator: Any, shape: Shape) -> None:
        """Takes scales from a calibrator whose batches are all of one shape."""
        # Without a profile of its own the calibration would take the engine's best batch for it.
        self._profile = shape_profile(self._builder, self._input_name, (shape,) * 3)
        self._calibrator = calibrator
        if not self._config.set_calibration_profile(self._profile):
            raise self._error("refuses the shape of the calibration batches")
        self._config.int8_calibrator = calibrator

    def keep_in_half(self, tensors: FrozenSet[str]) -> None:
        """Keeps the layers that make these tensors in float16."""
        # Prefer, not obey: where a device has no such kernel, the gate judges what came instead.
        self._config.set_flag(self._trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
        if not keep_in_half(self._trt, self._network, tensors):
            raise BuildError("TensorRT's network has none of the layers to keep in float16")

    def run(self) -> bytes:
        """Makes the plan; this takes minutes."""
        plan = self._builder.build_serialized_network(self._network, self._config)
        if plan is None:
            raise self._error("failed")
        return bytes(plan)

    @property
    def timing_cache(self) -> bytes:
        """What was measured, here and before."""
        cache = self._config.get_timing_cache()
        return b"" if cache is None else bytes(cache.serialize())

    def _error(self, what: str) -> Exception:
        version, precision = self._trt.__version__, self._precision.value
        text = f"TensorRT {version} {what} building the {precision} engine: {self._log.reason}"
        if self._log.is_out_of_memory:
            return EngineOutOfMemory(f"{text}; lower engine.max_batch or engine.workspace_mb")
        return BuildError(text)
