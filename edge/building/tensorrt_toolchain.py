"""Engines for TensorRT, built on the very GPU that will run them."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Optional, Tuple

from edge.atomic_file import replace_bytes
from edge.building.fingerprint import BackendKey
from edge.building.quantization_plan import QuantizationScheme
from edge.building.quantize import quantize
from edge.building.tensorrt_builder import BuildCaches, TensorRtBuilder
from edge.building.tensorrt_config import BuildOptions, is_strongly_typed
from edge.building.toolchain import CalibrationFeed
from edge.config.schema import CalibrationMethod, EngineConfig, Precision
from edge.geometry import Image
from edge.inference.cuda import Context
from edge.inference.device import DeviceOptions
from edge.inference.free_memory import free_bytes
from edge.inference.pinned_rows import PinnedRows
from edge.inference.tensorrt import TensorRtEngine, import_tensorrt
from edge.records import DeployedGraph, Lane, OnProgress

log = logging.getLogger(__name__)

TIMING_CACHE = "tensorrt-timing.cache"

# Volta, Xavier's own: the first whose tensor cores make half precision pay.
_FAST_HALF_CAPABILITY = (7, 0)


class TensorRtToolchain:
    """Makes and loads TensorRT engines; holds the GPU's context until it is closed.

    `max_batch` is the largest batch of one call, `folder` where timings and scales are kept for
    the next build; a `context` that is given stays the giver's. Raises ConfigError without
    TensorRT, pycuda or a driver, CudaError without GPU.
    """

    # NVIDIA's own advice for convolutional networks, and a DLA's only choice.
    method = CalibrationMethod.ENTROPY
    exact = Precision.FP32
    has_fast_int8 = True

    def __init__(
        self,
        graph: DeployedGraph,
        config: EngineConfig,
        max_batch: int,
        folder: Path,
        lane: Lane = Lane.BATCH,
        context: Optional[Context] = None,
    ) -> None:
        self._graph = graph
        if lane is Lane.PRIORITY:
            # A DLA takes one batch after the other: on it a priority frame would wait for the
            # shared engine's, while the GPU has time.
            config = config.model_copy(update={"dla_core": None})
        self._config = config
        self._lane = lane
        self._folder = folder
        self._trt = import_tensorrt()
        self._context = context or Context()
        self._owns_context = context is None
        self._pinned = PinnedRows(self._context, config.memory)
        options = BuildOptions.of(config, max_batch, self._free_bytes())
        self._max_batch, self._opt_batch = options.max_batch, options.opt_batch

    @property
    def first(self) -> Precision:
        """FP16, where the GPU is fast in it and TensorRT may choose it."""
        is_fast = self._context.compute_capability >= _FAST_HALF_CAPABILITY
        return Precision.FP16 if is_fast and not is_strongly_typed(self._trt) else Precision.FP32

    @property
    def key(self) -> BackendKey:
        """TensorRT's full version and the GPU: an engine serves nowhere else."""
        major, minor = self._context.compute_capability
        config = self._config
        return BackendKey(
            name="tensorrt",
            version=self._trt.__version__,
            device=self._context.device_name,
            compute_capability=f"{major}.{minor}",
            opt_batch=self._opt_batch,
            max_batch=self._max_batch,
            dla_core=config.dla_core,
            sparse_weights=config.sparse_weights,
            tactic_sources=None if config.tactic_sources is None else tuple(config.tactic_sources),
            lane=self._lane,
        )

    def ready(self, precision: Precision) -> Optional[bytes]:
        """None: TensorRT builds every engine."""
        return None

    def build(self, precision: Precision, on_progress: OnProgress) -> bytes:
        """Builds a float engine; raises as TensorRtBuilder does."""
        return self._builder(self._graph, on_progress).build(precision)

    def build_int8(
        self, feed: CalibrationFeed, on_progress: OnProgress, *, head_in_float: bool
    ) -> bytes:
        """Calibrates, or quantizes where TensorRT cannot, and builds; raises as those do."""
        scales = self._folder / f"tensorrt-{feed.key[:16]}.scales"
        builder = self._builder(self._graph, on_progress, scales)
        if not builder.wants_quantized_graph:
            return builder.build_int8(feed, head_in_fp16=head_in_float)
        scheme = QuantizationScheme.SYMMETRIC
        graph = quantize(self._graph, feed, head_in_float, on_progress, scheme)
        return self._builder(graph, on_progress).build(Precision.INT8)

    def allocate(self, shape: Tuple[int, int, int, int]) -> Image:
        """Pinned memory: it goes up while Python goes on."""
        return self._pinned.allocate(shape)

    def release(self, rows: Image) -> None:
        """Frees what `allocate` gave."""
        self._pinned.release(rows)

    def load(self, data: bytes, precision: Precision) -> TensorRtEngine:
        """Loads an engine that was built here and warms it up."""
        is_first = self._lane is Lane.PRIORITY
        options = DeviceOptions(self._config.memory, self._config.cuda_graphs, is_first)
        dla_core = self._config.dla_core
        return TensorRtEngine(data, precision, self._context, options, dla_core)

    def derived(self, max_batch: int, lane: Lane) -> TensorRtToolchain:
        """For another largest batch, or for priority frames, in the same context."""
        folder, context = self._folder, self._context
        return TensorRtToolchain(self._graph, self._config, max_batch, folder, lane, context)

    def close(self) -> None:
        """Lets the GPU go, where it is this one's; every engine must be closed by then."""
        if not self._owns_context:
            return
        self._pinned.close()
        self._context.close()

    def _builder(
        self, graph: DeployedGraph, on_progress: OnProgress, scales: Optional[Path] = None
    ) -> TensorRtBuilder:
        """A builder that remembers what earlier ones measured."""
        timings = self._folder / TIMING_CACHE

        def keep(caches: BuildCaches) -> None:
            _write(timings, caches.timing)
            if scales is not None:
                _write(scales, caches.calibration)
                _sweep(scales)

        calibration = b"" if scales is None else _read(scales)
        caches = BuildCaches(_read(timings), calibration, keep)
        options = BuildOptions.of(self._config, self._max_batch, self._free_bytes())
        return TensorRtBuilder(graph, options, self._context, on_progress, caches)

    def _free_bytes(self) -> int:
        with self._context.current():
            return free_bytes(self._context)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        log.warning("ignored %s: %s", path, error.strerror)
        return b""


def _write(path: Path, data: bytes) -> None:
    """Keeps what only saves time: a disk that is full costs the next build more, no more."""
    try:
        replace_bytes(path, data)
    except OSError as error:
        log.warning("cannot keep %s: %s", path, error.strerror)


def _sweep(scales: Path) -> None:
    """Removes the scales of other images or models, and what a killed build left of its files."""
    folder = scales.parent
    for pattern in ("tensorrt-*.scales", "tensorrt-*.scales.*.tmp", f"{TIMING_CACHE}.*.tmp"):
        for path in folder.glob(pattern):
            if path != scales:
                with contextlib.suppress(OSError):
                    path.unlink()
