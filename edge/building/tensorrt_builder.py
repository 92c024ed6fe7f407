"""Builds TensorRT engines of the deployed graph: one road for TensorRT 8.5 to 11."""

from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import dataclass
from typing import Callable, FrozenSet, Iterator, Optional, Tuple

import onnx

from edge.building.calibration import to_network
from edge.building.core import Core, assert_no_scale_behind, extract_core, find_core, node_name
from edge.building.tensorrt_build import Build
from edge.building.tensorrt_calibrator import (
    Batch,
    BatchRoom,
    CalibrationFeeder,
    as_calibrator,
    has_calibrators,
    scaled_in,
)
from edge.building.tensorrt_config import (
    BuildOptions,
    Gpu,
    Shape,
    is_strongly_typed,
    reads_back_all_timings,
)
from edge.building.tensorrt_progress import BuildMeter
from edge.building.toolchain import CalibrationFeed
from edge.config.schema import CalibrationMethod, Precision
from edge.errors import BuildError, ConfigError, EdgeError
from edge.inference.cuda import Context
from edge.inference.tensorrt import import_tensorrt
from edge.records import DeployedGraph, OnProgress

# TensorRT builds three times: an engine in float32 to calibrate with, the core's in INT8, which is
# thrown away though what was measured for it is used again, and the one that was asked for.
_FLOAT_CORE_SHARE = 0.2
_CORE_SHARE = 0.6


def _forget(caches: BuildCaches) -> None:
    pass


@dataclass
class BuildCaches:
    """What earlier builds found out; each build brings it up to date, and has `keep` keep it.

    `timing` holds for one TensorRT and GPU, whatever the graph; `calibration` for one TensorRT,
    graph, method and set of calibration images. Empty where there is none.
    """

    timing: bytes = b""
    calibration: bytes = b""
    keep: Callable[[BuildCaches], None] = _forget


class TensorRtBuilder:
    """Builds engines of one graph; takes the GPU's memory only while it builds.

    Every build raises ModelError for an operator TensorRT does not know, ConfigError for what the
    device does not have, EngineOutOfMemory, else BuildError with TensorRT's reason.
    """

    def __init__(
        self,
        graph: DeployedGraph,
        options: BuildOptions,
        context: Context,
        on_progress: OnProgress,
        caches: Optional[BuildCaches] = None,
    ) -> None:
        self._trt = import_tensorrt()
        self._graph = graph
        self._options = options
        self._context = context
        self._on_progress = on_progress
        self._gpu = Gpu(context.device_name, context.compute_capability)
        self.caches = caches if caches is not None else BuildCaches()

    @property
    def wants_quantized_graph(self) -> bool:
        """True from TensorRT 11 on: INT8 is `build` of a graph that has Q/DQ nodes."""
        return not has_calibrators(self._trt)

    def build(self, precision: Precision) -> bytes:
        """Makes a plan in FP32 or FP16; in INT8 only of a graph with Q/DQ nodes."""
        self._check_precision(precision)
        model = onnx.load_model_from_string(self._graph.onnx_bytes)
        with self._context.current():
            return self._run(self._prepared(model, precision, self._meter(precision)))

    def build_int8(self, feed: CalibrationFeed, *, head_in_fp16: bool = False) -> bytes:
        """Makes an INT8 plan, calibrated from `feed` unless `caches` has the scales already.

        `head_in_fp16` keeps what lies behind the neck in float16. `feed.count` is in batches; a
        graph of a fixed batch is calibrated in batches of that size only.
        """
        if self.wants_quantized_graph:
            raise BuildError(
                f"TensorRT {self._trt.__version__} has no calibrators: build a quantized graph"
            )
        model = onnx.load_model_from_string(self._graph.onnx_bytes)
        core = find_core(model, self._graph.network_input)
        with self._context.current():
            if not self.caches.calibration:
                self.caches.calibration = self._calibrate(model, core, feed)
                # At once: the build that follows takes minutes, and may not live to see its end.
                self.caches.keep(self.caches)
            assert_no_scale_behind(core, scaled_in(self.caches.calibration))
            in_half = _head_tensors(model, core) if head_in_fp16 else frozenset()
            return self._build_from_scales(model, feed.method, in_half)

    def _calibrate(self, model: onnx.ModelProto, core: Core, feed: CalibrationFeed) -> bytes:
        """Runs the float core over the batches; its tensors have the deployed graph's names."""
        core_model = extract_core(model, core, self._graph.preprocessing.input_wh)
        first, batches = self._begin(feed)
        meter = self._meter(Precision.INT8, 0.0, _FLOAT_CORE_SHARE)

        def on_batch(count: int) -> None:
            meter.span(_FLOAT_CORE_SHARE, _CORE_SHARE)
            meter.calibrated(count, feed.count)

        with closing(BatchRoom(self._context, first.shape)) as room:
            feeder = CalibrationFeeder(batches, room.upload, on_batch)
            build = self._prepared(core_model, Precision.INT8, meter)
            calibrator = as_calibrator(self._trt, feed.method, len(first), feeder)
            build.set_calibrator(calibrator, first.shape)
            try:
                self._run(build, is_core=True)
            except EdgeError:
                # What the calibrator met is the cause: TensorRT only says that it got no batch.
                feeder.raise_error()
                raise
        return feeder.check(feed.count)

    def _build_from_scales(
        self, model: onnx.ModelProto, method: CalibrationMethod, in_half: FrozenSet[str]
    ) -> bytes:
        feeder = CalibrationFeeder.of_cache(self.caches.calibration)
        meter = self._meter(Precision.INT8, _CORE_SHARE, 1.0)
        build = self._prepared(model, Precision.INT8, meter)
        _, best, _ = self._shapes(model)
        build.set_calibrator(as_calibrator(self._trt, method, best[0], feeder), best)
        if in_half:
            build.keep_in_half(in_half)
        try:
            return self._run(build)
        finally:
            # With the core's scales at hand it has no reason to ask, whether it then fails or not.
            if feeder.asked:
                # Else every build to come would begin with them, and end here.
                self.caches.calibration = b""
                self.caches.keep(self.caches)
                raise BuildError("TensorRT does not take the core's scales for the deployed graph")

    def _prepared(self, model: onnx.ModelProto, precision: Precision, meter: BuildMeter) -> Build:
        build = Build(self._trt, model, precision, meter)
        build.configure(self._options, self._gpu, self.caches.timing)
        build.set_shapes(self._shapes(model))
        return build

    def _run(self, build: Build, *, is_core: bool = False) -> bytes:
        plan = build.run()
        if is_core or reads_back_all_timings(self._trt):
            self.caches.timing = build.timing_cache
            self.caches.keep(self.caches)
        return plan

    def _begin(self, feed: CalibrationFeed) -> Tuple[Batch, Iterator[Batch]]:
        """The first batch, and all of them."""
        batches = (to_network(frames, self._graph.preprocessing) for frames in feed.batches())
        first = next(batches, None)
        if first is None:
            raise BuildError("there is not one batch to calibrate from")
        fixed = self._graph.fixed_batch
        if fixed is not None and len(first) != fixed:
            raise ConfigError(
                f"calibration.batch: '{self._graph.name}' was exported for batches of {fixed}; "
                f"set calibration.batch: {fixed}"
            )
        return first, itertools.chain((first,), batches)

    def _shapes(self, model: onnx.ModelProto) -> Tuple[Shape, Shape, Shape]:
        """The input's smallest, best and largest shape."""
        dims = model.graph.input[0].type.tensor_type.shape.dim
        rest = tuple(int(dim.dim_value) for dim in dims[1:])
        smallest, best, largest = self._options.batches(self._graph.fixed_batch)
        return (smallest, *rest), (best, *rest), (largest, *rest)

    def _meter(self, precision: Precision, start: float = 0.0, end: float = 1.0) -> BuildMeter:
        return BuildMeter(precision, self._on_progress, start, end)

    def _check_precision(self, precision: Precision) -> None:
        made = self._graph.precision
        if precision is Precision.INT8 and made is not Precision.INT8:
            raise BuildError("INT8 needs scales: calibrate, or build a quantized graph")
        if precision is Precision.FP16 and is_strongly_typed(self._trt) and made is not precision:
            raise ConfigError(
                f"engine.precision: TensorRT {self._trt.__version__} computes in what the graph "
                "itself says, which is fp32; use int8 or fp32"
            )


def _head_tensors(model: onnx.ModelProto, core: Core) -> FrozenSet[str]:
    head = (node for node in model.graph.node if node_name(node) in core.head_nodes)
    return frozenset(output for node in head for output in node.output)
