"""The deployed graph on a GPU, with ONNX Runtime's CUDA provider."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import Counter
from contextlib import ExitStack
from types import ModuleType
from typing import Any, Callable, Dict, Optional

import numpy as np

from edge.errors import ConfigError, CudaError, EngineError, EngineOutOfMemory
from edge.inference.cuda import Context, Event, Stream
from edge.inference.device import DEFAULT, DeviceEngine, DeviceOptions
from edge.inference.onnxruntime import (
    errors_of,
    import_onnxruntime,
    load_error,
    quiet_options,
    run_error,
)
from edge.records import DeployedGraph
from edge.threads import CallThread

log = logging.getLogger(__name__)

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_DEVICE, _DEVICE_ID = "cuda", 0
_QUIET = 4

# ONNX Runtime gives the pinned memory that a run took back only in a run that waits.
_TIDIED_EVERY = 1000

# What computes shapes is on the CPU on purpose: its numbers are there, and nobody waits for it.
_SHAPE_OPERATORS = frozenset({"Shape", "Size", "Gather", "Slice", "Concat", "Cast", "Reshape"})
_SHAPE_OPERATORS |= {"Squeeze", "Unsqueeze", "Range", "ConstantOfShape", "Expand", "Where", "Equal"}
_SHAPE_OPERATORS |= {"Add", "Sub", "Mul", "Div", "Mod", "Floor", "Min", "Max", "Identity"}


class OrtProgram:
    """A session of the CUDA provider that queues work and returns before it is done.

    A session keeps the stream it was made with, so it has one of its own, which two events join to
    the stream of each batch. It also keeps handles and pinned memory for every thread that runs it,
    so it has a thread of its own as well. Made, used and closed where `context` is current. Raises
    ConfigError where the provider is not usable, ModelError for a graph it cannot load,
    EngineOutOfMemory.
    """

    backend = "onnxruntime"
    can_be_recorded = False

    def __init__(
        self,
        graph: DeployedGraph,
        max_batch: int,
        context: Context,
        *,
        is_high_priority: bool = False,
    ) -> None:
        self._ort = import_onnxruntime()
        self._errors = errors_of(self._ort)
        self._context = context
        self.max_batch = graph.fixed_batch or max_batch
        self.is_static = graph.fixed_batch is not None
        self.input_wh = graph.preprocessing.input_wh
        self.candidates = graph.max_candidates
        self._run_options = run_options(self._ort)
        self._waiting_options = run_options(self._ort, is_waiting=True)
        self._runs = 0
        with ExitStack() as made:
            self._thread = made.enter_context(contextlib.closing(CallThread("onnxruntime")))
            self._stream = made.enter_context(Stream(context, is_high_priority=is_high_priority))
            self._given = made.enter_context(Event(context))
            self._done = made.enter_context(Event(context))
            options = _provider_options(self._stream, is_static=self.is_static)
            self._session: Optional[Any] = None
            self._binding: Any = None
            made.callback(self._alone, self._forget_session)
            self._alone(lambda: self._open(graph, options))
            # Closed first: no memory goes while work that uses it is still queued.
            made.callback(self._stream.synchronize)
            made.callback(self._alone, self._tidy_up)
            self._owned = made.pop_all()

    @property
    def version(self) -> str:
        """ONNX Runtime's version."""
        return str(self._ort.__version__)

    def enqueue(
        self, rows: int, frames_pointer: int, detections_pointer: int, stream: Stream
    ) -> None:
        """Queues one batch on `stream`, from and to GPU memory that nobody touches meanwhile.

        `rows` is `max_batch` where the graph is static. Raises EngineError, with nothing of the
        batch left on the GPU; EngineOutOfMemory where fewer rows may fit.
        """
        if self._session is None:
            raise EngineError("the engine is closed")
        stream.record(self._given)
        self._stream.wait(self._given)
        self._alone(lambda: self._run(rows, frames_pointer, detections_pointer))
        self._stream.record(self._done)
        stream.wait(self._done)

    def close(self) -> None:
        """Frees the GPU memory it holds, once all that was queued is done; may be called again."""
        self._owned.close()

    def _alone(self, work: Callable[[], None]) -> None:
        """Does it in the session's thread."""

        def in_context() -> None:
            with self._context.current():
                work()

        self._thread.call(in_context)

    def _run(self, rows: int, frames_pointer: int, detections_pointer: int) -> None:
        if self._session is None:
            raise EngineError("the engine is closed")
        self._bind(rows, frames_pointer, detections_pointer)
        try:
            self._session.run_with_iobinding(self._binding, self._next_options())
        except self._errors as error:
            # What was queued before the failure still reads and writes the batch's memory.
            self._stream.synchronize()
            # The error's frames would keep the session when its stream is gone.
            raise run_error(error) from error.with_traceback(None)

    def _bind(self, rows: int, frames_pointer: int, detections_pointer: int) -> None:
        width, height = self.input_wh
        frames_shape, shape = (rows, height, width, 3), (rows, self.candidates, 6)
        place = (_DEVICE, _DEVICE_ID)
        self._binding.bind_input("frames", *place, np.uint8, frames_shape, frames_pointer)
        self._binding.bind_output("detections", *place, np.float32, shape, detections_pointer)

    def _next_options(self) -> Any:
        self._runs += 1
        return self._waiting_options if self._runs % _TIDIED_EVERY == 0 else self._run_options

    def _tidy_up(self) -> None:
        """Runs once and waits, so that the session ends with nothing of ONNX Runtime's queued.

        What it would queue in the end frees pinned memory inside a callback of CUDA, which CUDA
        forbids: the process would abort.
        """
        width, height = self.input_wh
        rows = self.max_batch if self.is_static else 1
        if self._session is None:
            return
        frames = np.zeros((rows, height, width, 3), np.uint8)
        try:
            self._session.run(None, {"frames": frames}, self._waiting_options)
        except self._errors as error:
            log.warning("ONNX Runtime does not end in order: %s", run_error(error))

    def _forget_session(self) -> None:
        # In this order: a binding holds on to what it was made from.
        self._binding = None
        self._session = None

    def _open(self, graph: DeployedGraph, options: Dict[str, str]) -> None:
        try:
            session = _open_session(self._ort, graph.onnx_bytes, options)
        except self._errors as error:
            raise load_error(self._ort, graph.name, "cannot load", error) from error
        _warn_of_cpu_operators(session, graph.name)
        self._session = session
        self._binding = session.io_binding()


class OnnxRuntimeCudaEngine(DeviceEngine):
    """Runs a deployed graph over the overlap loop, `max_batch` frames at most.

    A graph of a fixed batch takes as many as it was exported for. Raises as OrtProgram, and
    ConfigError where the GPU cannot run what was loaded.
    """

    def __init__(
        self,
        graph: DeployedGraph,
        max_batch: int,
        context: Context,
        options: DeviceOptions = DEFAULT,
    ) -> None:
        def open_program() -> OrtProgram:
            is_high_priority = options.is_high_priority
            return OrtProgram(graph, max_batch, context, is_high_priority=is_high_priority)

        try:
            super().__init__(open_program, graph.precision, context, options)
        except (CudaError, EngineOutOfMemory):
            raise  # neither says anything about the network
        except EngineError as error:
            raise ConfigError(
                f"'{graph.name}' cannot run on this GPU: {error}; `engine.device: cpu` tells "
                "whether it is the network's fault"
            ) from error


def offers_cuda() -> bool:
    """True where the installed ONNX Runtime has a CUDA provider, usable or not."""
    return _CUDA in import_onnxruntime().get_available_providers()


def check_provider(probe: bytes, context: Context) -> None:
    """Raises ConfigError where the CUDA provider does not start; `probe` is any small graph."""
    ort = import_onnxruntime()
    with context.current():
        try:
            _open_session(ort, probe, {"device_id": str(_DEVICE_ID)})
        except errors_of(ort) as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"engine.device: ONNX Runtime cannot use the GPU: {reason}"
            ) from error


def _provider_options(stream: Stream, *, is_static: bool) -> Dict[str, str]:
    return {
        "device_id": str(_DEVICE_ID),
        "user_compute_stream": str(stream.handle),
        "do_copy_in_default_stream": "1",
        # Growing by powers of two would take up to twice what is needed.
        "arena_extend_strategy": "kSameAsRequested",
        # Measuring all algorithms takes seconds for each new batch size, amid the traffic; where
        # there is only one size it is done while the engine warms up.
        "cudnn_conv_algo_search": "EXHAUSTIVE" if is_static else "HEURISTIC",
        # TF32 rounds to 10 bits of mantissa, and this is the engine that others are judged by.
        "use_tf32": "0",
    }


def run_options(ort: ModuleType, *, is_waiting: bool = False) -> Any:
    """How a batch is run: quietly, and without waiting for it unless that is asked for."""
    options = ort.RunOptions()
    options.log_severity_level = _QUIET
    if not is_waiting:
        # A run returns as soon as all is queued.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return options


def _open_session(ort: ModuleType, model: bytes, provider_options: Dict[str, str]) -> Any:
    """A session that has the CUDA provider; ConfigError where it could not be started."""
    missing = _preload(ort)
    options = quiet_options(ort)
    # Batches vary in size, and a plan of the memory is kept for each size that was seen.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    providers = [(_CUDA, provider_options), _CPU]
    session = ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
    if _CUDA not in session.get_providers():
        reason = missing or "libraries of CUDA or cuDNN that fit it are missing"
        raise ConfigError(
            f"engine.device: ONNX Runtime {ort.__version__} cannot start its CUDA provider: "
            f"{reason}; run `pip install 'onnxruntime-gpu[cuda,cudnn]'`, or use cpu"
        )
    return session


def _preload(ort: ModuleType) -> str:
    """Loads the CUDA libraries that pip installed; what is missing, in words."""
    if not hasattr(ort, "preload_dlls"):  # before 1.21 only the system's own are found
        return ""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it prints what it cannot load
        ort.preload_dlls()
    return said.getvalue().partition("\n")[0].strip()


def _warn_of_cpu_operators(session: Any, name: str) -> None:
    """Tells of operators that each batch takes the way over the CPU for."""
    if not hasattr(session, "get_provider_graph_assignment_info"):  # before 1.24
        return
    counts = Counter(
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == _CPU
        for node in part.get_nodes()
        if node.op_type not in _SHAPE_OPERATORS
    )
    if counts:
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        log.warning(
            "%d operators of '%s' run on the CPU (%s): every batch waits for them",
            sum(counts.values()),
            name,
            listed,
        )
