"""The model, its engine, and how one is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Callable, Mapping, Optional, Tuple

from edge.config.schema import Memory, Precision
from edge.geometry import PadAnchor


class ChannelOrder(str, Enum):
    """The order of the colours in a network's own input."""

    RGB = "rgb"
    BGR = "bgr"


@dataclass(frozen=True)
class Preprocessing:
    """From a camera's frame to what the network was trained on.

    The host letterboxes; the deployed graph orders the channels and divides 0..255 by `divisor`.
    """

    input_wh: Tuple[int, int]
    pad_anchor: PadAnchor = PadAnchor.CENTER
    channel_order: ChannelOrder = ChannelOrder.RGB
    divisor: float = 255.0


@dataclass(frozen=True)
class DeployedGraph:
    """A detector that takes uint8 [B, H, W, 3] BGR and gives float32 [B, K, 6].

    `onnx_bytes` is the serialized model; `fixed_batch` is set where the network was exported
    for one batch size only; `sha256` names the user's file; `network_input` is the tensor inside
    that the network itself begins with, float NCHW; `row_bytes` is about what each frame of a batch
    needs while it is computed, 0 where that is not known.
    """

    onnx_bytes: bytes = field(repr=False)
    name: str
    sha256: str
    head: str
    preprocessing: Preprocessing
    class_names: Tuple[str, ...]
    max_candidates: int
    fixed_batch: Optional[int] = None
    network_input: str = ""
    row_bytes: int = 0
    precision: Precision = Precision.FP32


class BuildPhase(str, Enum):
    """What the making of an engine is at."""

    CALIBRATING = "calibrating"
    BUILDING = "building"
    JUDGING = "judging"


@dataclass(frozen=True)
class BuildProgress:
    """How far the making of an engine is: `done` 0..1, None where nobody can tell."""

    phase: BuildPhase
    precision: Precision
    done: Optional[float] = None
    message: str = ""


OnProgress = Callable[[BuildProgress], None]
"""Told how far a build is; must return at once."""


class EngineState(str, Enum):
    """What the appliance has to infer with."""

    LOADING = "loading"
    BUILDING = "building"
    SERVING = "serving"
    IMPROVING = "improving"
    FAILED = "failed"


@dataclass(frozen=True)
class GateOutcome:
    """What the gate said of an engine: AP50 lost against a more precise one over `boxes` boxes."""

    precision: Precision
    verdict: str
    loss: Optional[float]
    boxes: int
    summary: str


@dataclass(frozen=True)
class EngineStatus:
    """Which engine serves and which is being made.

    `cache` tells of each precision that was looked for whether it could be used again, or why
    not; `message` is what went wrong or was decided, in words; `priority` tells the same of the
    engine that takes priority frames alone, None where there is to be none.
    """

    state: EngineState
    wanted: Precision
    serving: Optional[Precision] = None
    progress: Optional[BuildProgress] = None
    eta_s: Optional[float] = None
    cache: Mapping[Precision, str] = field(default_factory=dict)
    gate: Optional[GateOutcome] = None
    message: str = ""
    priority: Optional[EngineStatus] = None


@dataclass(frozen=True)
class EngineInfo:
    """What serves: backend and version, precision, device, and the largest batch of one call.

    `memory` says how a GPU gets its frames, None on a CPU; where it `is_static`, fewer frames cost
    as much as the batch it was made for.
    """

    backend: str
    version: str
    device: str
    precision: str
    max_batch: int
    memory: Optional[Memory] = None
    is_static: bool = False


@dataclass(frozen=True)
class StageTimes:
    """What one batch of `rows` frames took on the GPU, in milliseconds; 0 where nothing is done."""

    rows: int
    upload_ms: float
    compute_ms: float
    download_ms: float


class TargetSource(str, Enum):
    """Who decided how many frames make a batch leave at once."""

    CONFIG = "config"
    BENCH = "bench"
    DEFAULT = "default"
    MEMORY = "memory"


@dataclass(frozen=True)
class BatchTarget:
    """The size at which a batch leaves at once."""

    frames: int
    source: TargetSource


@dataclass(frozen=True)
class BatchSetting:
    """What the batch policy works with: a full batch's frames, and the longest wait for them."""

    target: int
    window_ms: float
