"""What TensorRT is told about a build: memory, shapes, precision, device and where kernels are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Tuple

from edge.config.schema import EngineConfig, Precision, TacticSource
from edge.errors import BuildError, ConfigError

Shape = Tuple[int, ...]

_MAX_WORKSPACE_MB = 2048
_BYTES_PER_MB = 1 << 20
# Ampere: the first whose tensor cores skip the zeros.
_SPARSE_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class BuildOptions:
    """The engine's batches, the builder's scratch memory, and what else EngineConfig asks for."""

    max_batch: int
    opt_batch: int
    workspace_bytes: int
    dla_core: Optional[int] = None
    sparse_weights: bool = False
    tactic_sources: Optional[Tuple[TacticSource, ...]] = None

    @classmethod
    def of(cls, config: EngineConfig, max_batch: int, free_bytes: int) -> BuildOptions:
        """The options of a configuration on a GPU with `free_bytes` of free memory."""
        opt_batch = min(config.opt_batch or max_batch, max_batch)
        if config.workspace_mb is not None:
            workspace_bytes = config.workspace_mb * _BYTES_PER_MB
        else:
            workspace_bytes = min(free_bytes // 2, _MAX_WORKSPACE_MB * _BYTES_PER_MB)
        sources = config.tactic_sources
        return cls(
            # A DLA knows one batch only: the one the engine is to be fastest for.
            max_batch=max_batch if config.dla_core is None else opt_batch,
            opt_batch=opt_batch,
            workspace_bytes=workspace_bytes,
            dla_core=config.dla_core,
            sparse_weights=config.sparse_weights,
            tactic_sources=None if sources is None else tuple(sources),
        )

    def batches(self, fixed_batch: Optional[int]) -> Tuple[int, int, int]:
        """The smallest, best and largest batch of the engine's profile."""
        if fixed_batch is not None:
            return (fixed_batch,) * 3
        if self.dla_core is not None:
            return (self.max_batch,) * 3
        return 1, self.opt_batch, self.max_batch


@dataclass(frozen=True)
class Gpu:
    """What the builder must know of the device."""

    name: str
    compute_capability: Tuple[int, int]


def configure(trt: Any, builder: Any, options: BuildOptions, precision: Precision, gpu: Gpu) -> Any:
    """A builder configuration; ConfigError for what this GPU or this TensorRT does not have."""
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    _set_precision(trt, builder, config, precision, gpu)
    if options.tactic_sources is not None:
        config.set_tactic_sources(_mask(trt, options.tactic_sources))
    if options.sparse_weights:
        _set_sparse(trt, config, gpu)
    # A DLA does not compute in float32: what wants that runs on the GPU as a whole.
    if options.dla_core is not None and precision is not Precision.FP32:
        _set_dla(trt, builder, config, options.dla_core, gpu)
    return config


def add_profile(builder: Any, config: Any, name: str, shapes: Tuple[Shape, Shape, Shape]) -> None:
    """Adds the one profile: the smallest, best and largest shape of the network's input."""
    profile = shape_profile(builder, name, shapes)
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(f"TensorRT refuses the shapes {shapes} of '{name}'")


def shape_profile(builder: Any, name: str, shapes: Tuple[Shape, Shape, Shape]) -> Any:
    """A profile that is part of no configuration yet."""
    profile = builder.create_optimization_profile()
    profile.set_shape(name, *shapes)
    return profile


def load_timing_cache(config: Any, data: bytes) -> Any:
    """Gives the builder what it measured before, unless another TensorRT or GPU did.

    Keep what is returned until the engine is built.
    """
    for candidate in (data, b""):
        cache = config.create_timing_cache(candidate)
        # Never with a mismatch ignored: wrong times choose wrong kernels.
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


def reads_back_all_timings(trt: Any) -> bool:
    """False before TensorRT 10.2: it cannot read what it timed for its fusion compiler, Myelin.

    It then builds without any timings, which is slower than to begin with none. A network that
    is all convolutions is not compiled: its timings come back.
    """
    major, minor = str(trt.__version__).split(".")[:2]
    return (int(major), int(minor)) >= (10, 2)


def is_strongly_typed(trt: Any) -> bool:
    """True from TensorRT 11 on: the graph's own types decide, there are no precision flags."""
    return int(str(trt.__version__).split(".")[0]) >= 11


def _set_precision(trt: Any, builder: Any, config: Any, precision: Precision, gpu: Gpu) -> None:
    if is_strongly_typed(trt):
        return
    if precision is Precision.FP32:
        # TF32 rounds to 10 bits of mantissa, and this is the engine that others are judged by.
        config.clear_flag(trt.BuilderFlag.TF32)
        return
    _check_fast(builder, precision, gpu)
    # Beside INT8, FP16 is what the layers without a scale run in.
    config.set_flag(trt.BuilderFlag.FP16)
    if precision is Precision.INT8:
        config.set_flag(trt.BuilderFlag.INT8)


def _check_fast(builder: Any, precision: Precision, gpu: Gpu) -> None:
    is_fast = (
        builder.platform_has_fast_int8
        if precision is Precision.INT8
        else builder.platform_has_fast_fp16
    )
    if not is_fast:
        raise ConfigError(
            f"engine.precision: {gpu.name} gains nothing from {precision.value}; use fp32"
        )


def _mask(trt: Any, sources: Tuple[TacticSource, ...]) -> int:
    mask = 0
    for source in sources:
        known = getattr(trt.TacticSource, source.name, None)
        if known is None:
            raise ConfigError(
                f"engine.tactic_sources: TensorRT {trt.__version__} has no {source.value}; "
                "remove it from the list"
            )
        mask |= 1 << int(known)
    return mask


def _set_sparse(trt: Any, config: Any, gpu: Gpu) -> None:
    if gpu.compute_capability < _SPARSE_CAPABILITY:
        major, minor = gpu.compute_capability
        raise ConfigError(
            f"engine.sparse_weights: {gpu.name} (compute capability {major}.{minor}) has no "
            "sparse kernels, which begin at 8.0; remove the key"
        )
    config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)


def _set_dla(trt: Any, builder: Any, config: Any, core: int, gpu: Gpu) -> None:
    count = int(builder.num_DLA_cores)
    if count == 0:
        raise ConfigError(
            f"engine.dla_core: {gpu.name} has no deep-learning accelerator that TensorRT "
            f"{trt.__version__} can use; remove the key"
        )
    if core >= count:
        raise ConfigError(f"engine.dla_core: {core} is not there, {gpu.name} has 0 to {count - 1}")
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
