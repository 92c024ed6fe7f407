"""The deployed graph on a CPU; with `onnxruntime_cuda`, all that runs ONNX Runtime."""

from __future__ import annotations

import importlib
import logging
from types import ModuleType
from typing import Any, Optional, Tuple, Type

import numpy as np
from numpy.typing import NDArray

from edge.cgroup import usable_cpus
from edge.config.schema import EngineConfig
from edge.errors import ConfigError, EdgeError, EngineError, EngineOutOfMemory, ModelError
from edge.geometry import Image
from edge.inference.engine import Synchronous
from edge.records import DeployedGraph, EngineInfo

log = logging.getLogger(__name__)

# A CPU gains nothing from larger batches, and each row of a batch costs activations.
_MAX_BATCH = 8

_FATAL_ONLY = 4
_OUT_OF_MEMORY = (
    "bad_alloc",
    "bad allocation",
    "failed to allocate",
    "is smaller than requested bytes",  # the arena's, below a limit
    "out of memory",  # CUDA's
    "alloc_failed",  # cuBLAS's, and cuDNN's before 9
    "allocation_failed",  # cuDNN's
)


class OnnxRuntimeEngine(Synchronous):
    """Runs a deployed graph with ONNX Runtime's CPU provider.

    Takes fewer frames at once where the memory does not suffice for more. Raises ConfigError where
    ONNX Runtime is missing, ModelError where it cannot run the network.
    """

    def __init__(self, graph: DeployedGraph, config: EngineConfig) -> None:
        self._ort = import_onnxruntime()
        self._errors = errors_of(self._ort)
        self._graph = graph
        self._max_batch = graph.fixed_batch or _MAX_BATCH
        self._session: Optional[Any] = self._open(_threads(config))
        self._warm_up(min(self._max_batch, config.max_batch or self._max_batch))

    @property
    def info(self) -> EngineInfo:
        """Which ONNX Runtime serves, and what the graph computes in."""
        return EngineInfo(
            backend="onnxruntime",
            version=self._ort.__version__,
            device="cpu",
            precision=self._graph.precision.value,
            max_batch=self._max_batch,
            is_static=self._graph.fixed_batch is not None,
        )

    @property
    def input_wh(self) -> Tuple[int, int]:
        """Width and height of a frame in pixels."""
        return self._graph.preprocessing.input_wh

    def infer(self, frames: Image) -> NDArray[np.float32]:
        """Runs frames uint8 [n, H, W, 3] BGR; float32 [n, K, 6] that belongs to the caller."""
        self._check(frames)
        try:
            return self._infer(frames)
        except self._errors as error:
            raise run_error(error) from error

    def close(self) -> None:
        """Frees the session; may be called again."""
        self._session = None

    def _infer(self, frames: Image) -> NDArray[np.float32]:
        count, fixed = len(frames), self._graph.fixed_batch or len(frames)
        if count < fixed:
            blank = np.zeros((fixed - count, *frames.shape[1:]), np.uint8)
            frames = np.concatenate([frames, blank])
        return self._run(frames)[:count]

    def _check(self, frames: Image) -> None:
        width, height = self.input_wh
        if frames.shape[1:] != (height, width, 3) or not 1 <= len(frames) <= self._max_batch:
            raise ValueError(
                f"expected frames (1..{self._max_batch}, {height}, {width}, 3), got {frames.shape}"
            )

    def _run(self, frames: Image) -> NDArray[np.float32]:
        if self._session is None:
            raise EngineError("the engine is closed")
        detections: NDArray[np.float32] = self._session.run(None, {"frames": frames})[0]
        return detections

    def _open(self, threads: int) -> Any:
        options = quiet_options(self._ort, threads)
        try:
            return self._ort.InferenceSession(
                self._graph.onnx_bytes, options, providers=["CPUExecutionProvider"]
            )
        except self._errors as error:
            raise self._load_error("cannot load", error) from error

    def _warm_up(self, largest: int) -> None:
        """Runs blank frames, so that the first real one neither waits nor finds a fault."""
        self._try(1)
        while largest > 1 and self._graph.fixed_batch is None:
            try:
                self._try(largest)
                return
            except EngineOutOfMemory as error:
                largest //= 2
                self._max_batch = largest
                log.warning("%s; at most %d frames at once", error, largest)

    def _try(self, count: int) -> None:
        width, height = self.input_wh
        try:
            detections = self.infer(np.zeros((count, height, width, 3), np.uint8))
        except EngineOutOfMemory:
            raise
        except EngineError as error:
            self.close()
            what = f"cannot run {count} frame(s) of {width}x{height} through"
            raise self._load_error(what, error) from error
        if not np.isfinite(detections).all():
            raise ModelError(
                f"'{self._graph.name}' gives no numbers (NaN) for a blank frame: its weights are "
                "damaged; export it again"
            )

    def _load_error(self, what: str, error: BaseException) -> Exception:
        return load_error(self._ort, self._graph.name, what, error)


def runtime_version() -> str:
    """ONNX Runtime's version; ConfigError where it is missing."""
    return str(import_onnxruntime().__version__)


def _threads(config: EngineConfig) -> int:
    # Left to itself ONNX Runtime counts the machine's cores, not those this process may use.
    return config.threads or usable_cpus()


def import_onnxruntime() -> ModuleType:
    """ONNX Runtime, told to be quiet; ConfigError where it is not installed."""
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ConfigError(
            "engine.backend: onnxruntime is not installed; "
            "run `pip install 'edge-vision[laptop]'` or `pip install onnxruntime`"
        ) from error
    # An appliance tells nobody but its broker anything.
    ort.disable_telemetry_events()
    ort.set_default_logger_severity(_FATAL_ONLY)
    return ort


def errors_of(ort: ModuleType) -> Tuple[Type[BaseException], ...]:
    """Everything ONNX Runtime raises: its exceptions share no base but Exception."""
    state = importlib.import_module(f"{ort.__name__}.capi.onnxruntime_pybind11_state")
    own = (value for value in vars(state).values() if isinstance(value, type))
    return (*(e for e in own if issubclass(e, Exception)), RuntimeError, MemoryError)


def quiet_options(ort: ModuleType, threads: int = 1) -> Any:
    """Options of a session with so many CPU threads, none of which spins or says anything."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would burn a core each while the next batch gathers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _FATAL_ONLY  # its complaints arrive as exceptions
    return options


def load_error(ort: ModuleType, name: str, what: str, error: BaseException) -> EdgeError:
    """What ONNX Runtime says of a network it cannot load or try, as EngineOutOfMemory or
    ModelError."""
    text = f"ONNX Runtime {ort.__version__} {what} '{name}'"
    reason = _in_short(error)
    if _is_out_of_memory(error):
        return EngineOutOfMemory(f"{text}: {reason}")
    return ModelError(f"{text}: {reason}; export it again with standard operators, opset=17")


def run_error(error: BaseException) -> EngineError:
    """What ONNX Runtime says of a batch it cannot run, as this program's error."""
    reason = _in_short(error)
    if _is_out_of_memory(error):
        return EngineOutOfMemory(f"ONNX Runtime ran out of memory: {reason}")
    return EngineError(f"ONNX Runtime failed: {reason}")


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY)


def _in_short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
