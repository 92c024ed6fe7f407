"""What makes engines for one backend, and loads them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Callable, Iterator, Optional, Protocol, Tuple

from edge.building.fingerprint import BackendKey
from edge.config.schema import Backend, CalibrationMethod, Device, EngineConfig, Precision
from edge.errors import ConfigError
from edge.geometry import Image
from edge.inference.engine import Engine
from edge.records import Lane, OnProgress


@dataclass(frozen=True)
class CalibrationFeed:
    """Batches uint8 [batch, H, W, 3] BGR to calibrate from; `batches` begins anew at each call.

    `count` is how many they are; `key` names the images and how they are fed.
    """

    batches: Callable[[], Iterator[Image]]
    count: int
    method: CalibrationMethod
    key: str = ""


class Toolchain(Protocol):
    """Makes engines of one deployed graph for one backend."""

    @property
    def key(self) -> BackendKey:
        """All of the backend that decides what an engine is."""

    @property
    def method(self) -> CalibrationMethod:
        """How value ranges come out of calibration images, where the config does not say."""

    @property
    def first(self) -> Precision:
        """The precision that serves first, while a lower one is being made."""

    @property
    def exact(self) -> Precision:
        """The precision that `first` is judged by; the same where there is nothing to judge."""

    @property
    def has_fast_int8(self) -> bool:
        """True where an INT8 engine is faster than the first one."""

    def ready(self, precision: Precision) -> Optional[bytes]:
        """An engine that needs no building; None where it does."""

    def build(self, precision: Precision, on_progress: OnProgress) -> bytes:
        """Makes a float engine. Raises BuildError or ModelError."""

    def build_int8(
        self, feed: CalibrationFeed, on_progress: OnProgress, *, head_in_float: bool
    ) -> bytes:
        """Makes an INT8 engine, calibrated from `feed`. Raises BuildError or ModelError."""

    def allocate(self, shape: Tuple[int, int, int, int]) -> Image:
        """Memory uint8 that its engines read frames from without another copy; ends with it, or
        with `release`."""

    def release(self, rows: Image) -> None:
        """Frees what `allocate` gave, once nobody reads or writes it any more."""

    def load(self, data: bytes, precision: Precision) -> Engine:
        """Loads what was built and warms it up. Raises EngineError."""

    def derived(self, max_batch: int, lane: Lane) -> Toolchain:
        """The same on the same device for another largest batch, or for priority frames; itself
        where neither changes anything.

        It owns nothing: its `close` does nothing, the device is the first one's to close.
        """

    def close(self) -> None:
        """Lets the device go, once every engine it loaded is closed."""


def backend_of(config: EngineConfig) -> Backend:
    """The configured backend, else the best that is installed."""
    if config.backend is not None:
        return config.backend
    if config.device is Device.CPU:
        return Backend.ONNXRUNTIME
    has_tensorrt = all(importlib.util.find_spec(name) for name in ("tensorrt", "pycuda"))
    return Backend.TENSORRT if has_tensorrt else Backend.ONNXRUNTIME


def wanted_precision(
    config: EngineConfig, toolchain: Toolchain, *, has_calibration: bool
) -> Precision:
    """The lowest precision that may serve; ConfigError where it cannot be had."""
    wanted: Optional[Precision] = config.precision
    if wanted is None:
        has_reason = has_calibration and toolchain.has_fast_int8
        return Precision.INT8 if has_reason else toolchain.first
    if wanted is Precision.INT8 and not has_calibration:
        raise ConfigError(
            "engine.precision: int8 needs calibration images; name their folder in "
            "calibration.folder (`edge calibrate --collect` fills it from the cameras)"
        )
    if wanted is Precision.FP16 and toolchain.first is Precision.FP32:
        raise ConfigError(
            f"engine.precision: {toolchain.key.name} on {toolchain.key.device} does not compute "
            "in fp16; use fp32 or int8"
        )
    return wanted
