"""A built engine on the GPU; with the log beside it, all that runs TensorRT."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Optional

from edge.config.schema import Precision
from edge.errors import ConfigError, EngineError, EngineOutOfMemory
from edge.inference.cuda import Context, Stream
from edge.inference.device import DEFAULT, DeviceEngine, DeviceOptions
from edge.inference.free_memory import free_bytes
from edge.inference.tensorrt_log import TensorRtLog, as_logger

_INPUT, _OUTPUT = "frames", "detections"
_PROFILE = 0
_BYTES_PER_MB = 1 << 20


class TensorRtProgram:
    """A deserialized engine with one execution context: knows shapes, queues work, owns no I/O.

    Made, used and closed where `context` is current; one thread at a time. Raises EngineError
    for a plan that is damaged, foreign or not a deployed graph; EngineOutOfMemory before it takes
    what is not there. `max_batch`, `is_static`, `input_wh` and `candidates` are a Program's.
    """

    backend = "tensorrt"
    can_be_recorded = True

    def __init__(self, plan: bytes, context: Context, dla_core: Optional[int] = None) -> None:
        self._trt = import_tensorrt()
        self._log = TensorRtLog()
        self._logger = as_logger(self._trt, self._log)
        self._runtime: Optional[Any] = None
        self._engine: Optional[Any] = None
        self._execution: Optional[Any] = None
        self._rows = 0
        self.max_batch = 0
        self.is_static = False
        self.input_wh = 0, 0
        self.candidates = 0
        try:
            self._load(plan, context, dla_core)
        except EngineError:
            self.close()
            raise

    @property
    def version(self) -> str:
        """TensorRT's version."""
        return str(self._trt.__version__)

    def enqueue(
        self, rows: int, frames_pointer: int, detections_pointer: int, stream: Stream
    ) -> None:
        """Queues one batch on `stream`, from and to GPU memory that nobody touches meanwhile.

        `rows` is `max_batch` where the engine is static. Returns before the batch is done.
        """
        execution = self._execution
        if execution is None:
            raise EngineError("the engine is closed")
        self._log.forget()
        is_queued = (
            self._has_shape(execution, rows)
            and execution.set_tensor_address(_INPUT, frames_pointer)
            and execution.set_tensor_address(_OUTPUT, detections_pointer)
            and execution.execute_async_v3(stream.handle)
        )
        if not is_queued:
            raise self._error(f"cannot run {rows} frame(s)")

    def close(self) -> None:
        """Frees the GPU memory it holds, once all that was queued is done; may be called again."""
        # In this order: TensorRT wants the children gone before their makers.
        self._execution = None
        self._engine = None
        self._runtime = None

    def _has_shape(self, execution: Any, rows: int) -> bool:
        if rows != self._rows:
            width, height = self.input_wh
            is_set = execution.set_input_shape(_INPUT, (rows, height, width, 3))
            self._rows = rows if is_set else 0
        return self._rows == rows

    @property
    def _open_engine(self) -> Any:
        if self._engine is None:
            raise EngineError("the engine is closed")
        return self._engine

    def _load(self, plan: bytes, context: Context, dla_core: Optional[int]) -> None:
        runtime = start(self._trt, self._trt.Runtime, self._logger, self._log)
        if dla_core is not None:
            runtime.DLA_core = dla_core
        self._runtime = runtime
        self._engine = runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._error("cannot read the engine, which must be built again")
        self._check_tensors()
        self._read_shapes()
        self._check_memory(context)
        self._execution = self._engine.create_execution_context()
        if self._execution is None:
            raise self._error("cannot create an execution context")

    def _check_tensors(self) -> None:
        engine, trt = self._open_engine, self._trt
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        kinds = {name: engine.get_tensor_dtype(name) for name in names}
        expected = {_INPUT: trt.DataType.UINT8, _OUTPUT: trt.DataType.FLOAT}
        if kinds != expected:
            found = ", ".join(f"{name} {kind}" for name, kind in sorted(kinds.items()))
            raise EngineError(
                f"the engine is not one of this program: expected uint8 '{_INPUT}' and float32 "
                f"'{_OUTPUT}', found {found}; it must be built again"
            )

    def _read_shapes(self) -> None:
        """Asks once: each of TensorRT's answers takes as long as queueing a kernel."""
        engine = self._open_engine
        smallest, _, largest = engine.get_tensor_profile_shape(_INPUT, _PROFILE)
        _, height, width, _ = engine.get_tensor_shape(_INPUT)
        self.max_batch = int(largest[0])
        self.is_static = int(smallest[0]) == self.max_batch
        self.input_wh = int(width), int(height)
        self.candidates = int(engine.get_tensor_shape(_OUTPUT)[1])

    def _check_memory(self, context: Context) -> None:
        needed, free = _activation_bytes(self._open_engine), free_bytes(context)
        if needed > free:
            raise EngineOutOfMemory(
                f"the engine needs {needed // _BYTES_PER_MB} MB to run {self.max_batch} frames at "
                f"once and {free // _BYTES_PER_MB} MB are free"
            )

    def _error(self, what: str) -> EngineError:
        text = f"TensorRT {self.version} {what}: {self._log.reason}"
        return EngineOutOfMemory(text) if self._log.is_out_of_memory else EngineError(text)


class TensorRtEngine(DeviceEngine):
    """Runs a plan over the overlap loop. Raises ConfigError without TensorRT, else as
    TensorRtProgram."""

    def __init__(
        self,
        plan: bytes,
        precision: Precision,
        context: Context,
        options: DeviceOptions = DEFAULT,
        dla_core: Optional[int] = None,
    ) -> None:
        def open_program() -> TensorRtProgram:
            return TensorRtProgram(plan, context, dla_core)

        super().__init__(open_program, precision, context, options)


def import_tensorrt() -> ModuleType:
    """TensorRT's Python module; ConfigError where it is missing."""
    try:
        return importlib.import_module("tensorrt")
    except ImportError as error:
        raise ConfigError(
            f"engine.backend: TensorRT is not usable ({error}); on a Jetson run "
            "`apt-get install python3-libnvinfer`, or use onnxruntime"
        ) from error


def start(trt: Any, kind: Any, logger: Any, heard: TensorRtLog) -> Any:
    """Makes a `trt.Runtime` or `trt.Builder`; EngineError where CUDA is not up to it."""
    try:
        return kind(logger)
    except (TypeError, RuntimeError) as error:  # how the binding says that it got none
        raise EngineError(
            f"TensorRT {trt.__version__} cannot start on this GPU: {heard.reason}"
        ) from error


def _activation_bytes(engine: Any) -> int:
    # 10.3 counts in 64 bits under a name of its own, and 11 knows only that.
    if hasattr(engine, "device_memory_size_v2"):
        return int(engine.device_memory_size_v2)
    return int(engine.device_memory_size)
