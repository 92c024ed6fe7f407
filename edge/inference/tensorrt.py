"""A built engine on the GPU; with the log beside it, all that runs TensorRT."""

from __future__ import annotations

import importlib
import threading
from contextlib import ExitStack
from types import ModuleType
from typing import Any, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.config.schema import Precision
from edge.errors import ConfigError, EngineError, EngineOutOfMemory
from edge.geometry import Image
from edge.inference.cuda import Context, Stream
from edge.inference.engine import Pending
from edge.inference.overlap import IN_FLIGHT, Launched, OverlapLoop
from edge.inference.tensorrt_log import TensorRtLog, as_logger
from edge.records import EngineInfo

_INPUT, _OUTPUT = "frames", "detections"
_PROFILE = 0
_BYTES_PER_MB = 1 << 20


class TensorRtProgram:
    """A deserialized engine with one execution context: knows shapes, queues work, owns no I/O.

    Made, used and closed where `context` is current; one thread at a time. Raises EngineError
    for a plan that is damaged, foreign or not a deployed graph; EngineOutOfMemory before it takes
    what is not there.
    """

    def __init__(self, plan: bytes, context: Context, dla_core: Optional[int] = None) -> None:
        self._trt = import_tensorrt()
        self._log = TensorRtLog()
        self._logger = as_logger(self._trt, self._log)
        self._runtime: Optional[Any] = None
        self._engine: Optional[Any] = None
        self._execution: Optional[Any] = None
        try:
            self._load(plan, context, dla_core)
        except EngineError:
            self.close()
            raise

    @property
    def version(self) -> str:
        """TensorRT's version."""
        return str(self._trt.__version__)

    @property
    def max_batch(self) -> int:
        """The largest batch of one call."""
        _, _, largest = self._profile
        return int(largest[0])

    @property
    def is_static(self) -> bool:
        """True where every call has `max_batch` rows, as on a DLA."""
        smallest, _, largest = self._profile
        return int(smallest[0]) == int(largest[0])

    @property
    def input_wh(self) -> Tuple[int, int]:
        """Width and height of a frame in pixels."""
        _, height, width, _ = self._open_engine.get_tensor_shape(_INPUT)
        return int(width), int(height)

    @property
    def candidates(self) -> int:
        """Rows of detections for each frame."""
        return int(self._open_engine.get_tensor_shape(_OUTPUT)[1])

    def enqueue(
        self, rows: int, frames_pointer: int, detections_pointer: int, stream: Stream
    ) -> None:
        """Queues one batch on `stream`, from and to GPU memory that nobody touches meanwhile.

        `rows` is `max_batch` where the engine is static. Returns before the batch is done.
        """
        execution = self._execution
        if execution is None:
            raise EngineError("the engine is closed")
        width, height = self.input_wh
        self._log.forget()
        is_queued = (
            execution.set_input_shape(_INPUT, (rows, height, width, 3))
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

    @property
    def _profile(self) -> Any:
        return self._open_engine.get_tensor_profile_shape(_INPUT, _PROFILE)

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

    def _check_memory(self, context: Context) -> None:
        needed, free = _activation_bytes(self._open_engine), context.memory_info().free
        if needed > free:
            raise EngineOutOfMemory(
                f"the engine needs {needed // _BYTES_PER_MB} MB to run {self.max_batch} frames at "
                f"once and {free // _BYTES_PER_MB} MB are free; lower engine.max_batch"
            )

    def _error(self, what: str) -> EngineError:
        text = f"TensorRT {self.version} {what}: {self._log.reason}"
        return EngineOutOfMemory(text) if self._log.is_out_of_memory else EngineError(text)


class TensorRtEngine:
    """Runs batches, two at a time on the device: one computes while the next goes up.

    One thread launches, any other collects. It keeps `context` current only while it works, and
    does not close it. Raises ConfigError without TensorRT, else as TensorRtProgram.
    """

    in_flight = IN_FLIGHT

    def __init__(
        self,
        plan: bytes,
        precision: Precision,
        context: Context,
        dla_core: Optional[int] = None,
    ) -> None:
        self._context = context
        self._precision = precision
        self._lock = threading.Lock()
        with context.current(), ExitStack() as made:
            self._program = TensorRtProgram(plan, context, dla_core)
            made.callback(self._program.close)
            self._max_batch = self._program.max_batch
            self._input_wh = self._program.input_wh
            self._loop = OverlapLoop(context, self._program, self.in_flight)
            made.callback(self._loop.close)
            self._owned: Optional[ExitStack] = made.pop_all()
        try:
            self._warm_up()
        except EngineError:
            self.close()
            raise

    @property
    def info(self) -> EngineInfo:
        """What serves, and the largest batch it takes at once."""
        major, minor = self._context.compute_capability
        return EngineInfo(
            backend="tensorrt",
            version=self._program.version,
            device=f"{self._context.device_name} (sm_{major}{minor})",
            precision=self._precision.value,
            max_batch=self._max_batch,
        )

    @property
    def input_wh(self) -> Tuple[int, int]:
        """Width and height of a frame in pixels."""
        return self._input_wh

    def launch(self, frames: Image) -> Pending:
        """Queues frames uint8 [n, H, W, 3] BGR, untouched until `wait` has given their detections.

        Waits itself where `in_flight` batches are out.
        """
        width, height = self._input_wh
        if frames.shape[1:] != (height, width, 3) or not 1 <= len(frames) <= self._max_batch:
            raise ValueError(
                f"expected frames (1..{self._max_batch}, {height}, {width}, 3), got {frames.shape}"
            )
        with self._lock:
            if self._owned is None:
                raise EngineError("the engine is closed")
            with self._context.current():
                return _Launched(self._context, self._loop.launch(frames))

    def infer(self, frames: Image) -> NDArray[np.float32]:
        """Runs frames uint8 [n, H, W, 3] BGR; float32 [n, K, 6] that belongs to the caller."""
        return self.launch(frames).wait()

    def close(self) -> None:
        """Frees what the engine holds, once all that was launched is collected; may be repeated."""
        with self._lock:
            owned, self._owned = self._owned, None
            if owned is not None:
                with self._context.current():
                    owned.close()

    def _warm_up(self) -> None:
        """Runs blank frames, so that the first real one neither waits nor finds a fault."""
        width, height = self._input_wh
        for count in sorted({1, self._max_batch}):
            detections = self.infer(np.zeros((count, height, width, 3), np.uint8))
            if not np.isfinite(detections).all():
                raise EngineError(
                    f"the engine gives no numbers (NaN) for {count} blank frame(s) in "
                    f"{self._precision.value}: the weights are damaged, or too large for it"
                )


class _Launched:
    """A batch of the loop, collected wherever the context is made current."""

    def __init__(self, context: Context, launched: Launched) -> None:
        self._context = context
        self._launched = launched

    def wait(self) -> NDArray[np.float32]:
        with self._context.current():
            return self._launched.wait()


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
