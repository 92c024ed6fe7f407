"""A TensorRT that builds nothing but keeps to the rules: what the double answers when it builds."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, Optional, Set, Tuple

import onnx

from tests.inference.host_cuda import HostCuda
from tests.inference.tensorrt_api.double import World, host_memory

TIMINGS = b"timings of this machine"


class Severity:
    """A log line's severity."""

    def __init__(self, name: str) -> None:
        self.name = name


class BuilderWorld(World):
    """Parses ONNX, calibrates as TensorRT does, and writes down what each build was told."""

    def __init__(self, host: HostCuda) -> None:
        super().__init__()
        self.host = host
        self.trt: Any = None
        self.logger: Any = None
        self.is_fast = True
        self.dla_cores = 0
        self.unsupported = ""
        self.code = "UNSUPPORTED_NODE"
        self.fail_with: List[str] = []
        self.fail_at = 0
        self.takes_cache = True
        self.max_batches: Optional[int] = None
        self.scale_names: Optional[List[str]] = None
        self.monitor_steps = 4
        self.builds: List[Build] = []
        self.models: List[onnx.ModelProto] = []
        self.calibrated: List[Any] = []

    def log(self, severity: str, text: str) -> None:
        self.logger.log(Severity(severity), text)

    # --- builder and network

    def Builder___init__(self, this: Any, logger: Any) -> None:
        self.logger = logger

    def Builder_platform_has_fast_fp16(self, this: Any) -> bool:
        return self.is_fast

    Builder_platform_has_fast_int8 = Builder_platform_has_fast_fp16

    def Builder_num_DLA_cores(self, this: Any) -> int:
        return self.dla_cores

    def Builder_create_network(self, this: Any, flags: int) -> Any:
        return self.trt.INetworkDefinition()

    def Builder_create_optimization_profile(self, this: Any) -> Any:
        return self.trt.IOptimizationProfile()

    def IOptimizationProfile_set_shape(self, this: Any, *shapes: Any) -> None:
        this.__dict__["shapes"] = shapes

    def OnnxParser_parse(self, this: Any, data: bytes) -> bool:
        model = onnx.load_model_from_string(data)
        self.models.append(model)
        names = [node.op_type for node in model.graph.node]
        this.__dict__["bad_node"] = names.index(self.unsupported) if self.unsupported else -1
        return not self.unsupported

    def OnnxParser_num_errors(self, this: Any) -> int:
        return 1

    def OnnxParser_get_error(self, this: Any, index: int) -> Any:
        error = self.trt.ParserError()
        error.__dict__["bad_node"] = this.__dict__["bad_node"]
        return error

    def ParserError_node(self, this: Any) -> int:
        return int(this.__dict__["bad_node"])

    def ParserError_desc(self, this: Any) -> str:
        return "No importer registered\n for op"

    def ParserError_code(self, this: Any) -> Any:
        return self.trt.ErrorCode[self.code]

    def INetworkDefinition_num_layers(self, this: Any) -> int:
        return len(self.models[-1].graph.node)

    def INetworkDefinition_get_layer(self, this: Any, index: int) -> Any:
        node = self.models[-1].graph.node[index]
        layer = self.trt.ILayer()
        layer.__dict__.update(outputs=list(node.output), op_type=node.op_type)
        return layer

    def ILayer_num_outputs(self, this: Any) -> int:
        return len(this.__dict__["outputs"])

    def ILayer_get_output(self, this: Any, index: int) -> Any:
        tensor = self.trt.ITensor()
        tensor.__dict__.update(tensor=this.__dict__["outputs"][index], op=this.__dict__["op_type"])
        return tensor

    def ILayer_set_output_type(self, this: Any, index: int, kind: Any) -> None:
        self.builds[-1].halves.add(this.__dict__["outputs"][index])

    def ITensor_name(self, this: Any) -> str:
        return str(this.__dict__["tensor"])

    def ITensor_dtype(self, this: Any) -> Any:
        return self.trt.DataType.FLOAT

    def ITensor_is_network_output(self, this: Any) -> bool:
        return this.__dict__["tensor"] in [o.name for o in self.models[-1].graph.output]

    # --- configuration

    def Builder_create_builder_config(self, this: Any) -> Any:
        config = self.trt.IBuilderConfig()
        self.builds.append(Build(config))
        return config

    def IBuilderConfig_set_flag(self, this: Any, flag: Any) -> None:
        self.builds[-1].flags.add(flag.name)

    def IBuilderConfig_clear_flag(self, this: Any, flag: Any) -> None:
        self.builds[-1].cleared.add(flag.name)

    def IBuilderConfig_set_memory_pool_limit(self, this: Any, pool: Any, nbytes: int) -> None:
        self.builds[-1].pools[pool.name] = nbytes

    def IBuilderConfig_set_tactic_sources(self, this: Any, mask: int) -> bool:
        self.builds[-1].tactic_sources = mask
        return True

    def IBuilderConfig_add_optimization_profile(self, this: Any, profile: Any) -> int:
        self.builds[-1].shapes = profile.__dict__["shapes"]
        return 0

    def IBuilderConfig_set_calibration_profile(self, this: Any, profile: Any) -> bool:
        self.builds[-1].calibration_shapes = profile.__dict__["shapes"]
        return True

    def IBuilderConfig_create_timing_cache(self, this: Any, data: bytes) -> Any:
        if data.startswith(b"foreign"):
            return None
        cache = self.trt.ITimingCache()
        cache.__dict__["data"] = data
        return cache

    def IBuilderConfig_set_timing_cache(self, this: Any, cache: Any, ignore: bool) -> bool:
        assert ignore is False
        self.builds[-1].timing_cache = cache.__dict__["data"]
        return not cache.__dict__["data"].startswith(b"mismatch")

    def IBuilderConfig_get_timing_cache(self, this: Any) -> Any:
        return self.trt.ITimingCache()

    def ITimingCache_serialize(self, this: Any) -> Any:
        return host_memory(self.trt, TIMINGS)

    # --- the build itself

    def Builder_build_serialized_network(self, this: Any, network: Any, config: Any) -> Any:
        self.host.require_current("build")
        build = self.builds[-1]
        self._tell_progress(config)
        calibrator = config.values.get("int8_calibrator")
        if calibrator is not None:
            if not self._calibrate(calibrator, build):
                self.log("ERROR", "Calibration failure occurred with no scaling factors detected.")
                return None
            self._tell_progress(config)
        if self.fail_with and len(self.builds) > self.fail_at:
            for line in self.fail_with:
                self.log("ERROR", line)
            return None
        return host_memory(self.trt, f"plan {len(self.builds)}".encode())

    def _calibrate(self, calibrator: Any, build: Build) -> bool:
        if self.takes_cache and calibrator.read_calibration_cache():
            return True
        build.batch_size = calibrator.get_batch_size()
        count = 0
        while self.max_batches is None or count < self.max_batches:
            pointers = None
            with contextlib.suppress(Exception):  # as the binding does
                pointers = calibrator.get_batch([self.models[-1].graph.input[0].name])
            if not pointers:
                break
            count += 1
            shape = build.calibration_shapes[1]
            nbytes = 4 * shape[0] * shape[1] * shape[2] * shape[3]
            memory = self.host.bytes_at(pointers[0], nbytes)
            self.calibrated.append(memory.copy().view("float32").reshape(shape))
        if not count:
            return False
        calibrator.write_calibration_cache(self._cache())
        return True

    def _cache(self) -> bytes:
        graph = self.models[-1].graph
        names = [graph.input[0].name, *(o for node in graph.node for o in node.output)]
        lines = [f"{name}: 3c010a14" for name in (self.scale_names or names)]
        return "\n".join(["TRT-8502-EntropyCalibration2", *lines, ""]).encode()

    def _tell_progress(self, config: Any) -> None:
        monitor = config.values.get("progress_monitor")
        if monitor is not None:
            monitor.phase_start("Building", None, 2)
            monitor.phase_start("Timing", "Building", self.monitor_steps)
            for step in range(self.monitor_steps):
                assert monitor.step_complete("Timing", step)
            monitor.phase_finish("Timing")
            assert monitor.step_complete("Building", 0)
            assert monitor.step_complete("Building", 1)
            monitor.phase_finish("Building")
            return
        self.log("VERBOSE", "After final dead-layer removal: 4 layers")
        for number in range(4):
            self.log("VERBOSE", "=============== Computing costs for ")
            self.log("VERBOSE", f"--------------- Timing Runner: Conv_{number} (Cask)")


class Build:
    """What one build was told."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.flags: Set[str] = set()
        self.cleared: Set[str] = set()
        self.pools: Dict[str, int] = {}
        self.tactic_sources: Optional[int] = None
        self.shapes: Tuple[Any, ...] = ()
        self.calibration_shapes: Tuple[Any, ...] = ()
        self.batch_size = 0
        self.timing_cache = b""
        self.halves: Set[str] = set()
