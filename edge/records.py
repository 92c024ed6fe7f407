"""The records that pass between rooms."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.geometry import Image, Letterbox, PadAnchor

# --- cameras ---------------------------------------------------------------------------------


class TimestampSource(str, Enum):
    """Which clock a capture time comes from."""

    V4L2 = "v4l2"
    PTS = "pts"
    RECEIVE = "receive"


class CameraState(str, Enum):
    """What a camera does right now."""

    STARTING = "starting"
    ONLINE = "online"
    STALLED = "stalled"
    OFFLINE = "offline"
    DISABLED = "disabled"
    ENDED = "ended"


@dataclass(frozen=True)
class CameraStatus:
    """A camera's state since `since_unix_ms`, with the reason in words when it is not online."""

    camera: str
    state: CameraState
    since_unix_ms: int
    reason: str = ""


class DropCause(str, Enum):
    """Why a frame that was read never reached the detector, or its result never the broker."""

    SUPERSEDED = "superseded"
    STALE = "stale"
    RATE_CAP = "rate_cap"
    ABORTED = "aborted"


DropCounts = Mapping[DropCause, int]


@dataclass(frozen=True)
class FrameInfo:
    """A frame's identity and time, without its pixels.

    `frame_id` counts the frames the camera's source has delivered, from 0; a file that loops
    counts on. `captured_ns` is monotonic.
    """

    camera: str
    frame_id: int
    size_wh: Tuple[int, int]
    captured_ns: int
    captured_unix_ms: int
    ts_source: TimestampSource


@dataclass(frozen=True)
class Frame:
    """A decoded picture, uint8 [h, w, 3] BGR; whoever holds it must not write to it."""

    info: FrameInfo
    image: Image


# --- batches ---------------------------------------------------------------------------------


class Slot:
    """Rows of host memory that one batch is drawn into, uint8 [B, H, W, 3] BGR.

    The ring owns it; a row may be written only between admission and close, and read only
    between close and release. `give_back` is how it returns to its ring.
    """

    def __init__(self, index: int, rows: Image, give_back: Callable[[Slot], None]) -> None:
        self.index = index
        self.rows = rows
        self._give_back = give_back
        # Geometry each row's grey border was last painted for: it is repainted only on change.
        self._bordered_for: List[Optional[Letterbox]] = [None] * len(rows)

    @property
    def capacity(self) -> int:
        """Rows in the slot."""
        return len(self.rows)

    def release(self) -> None:
        """Gives the slot back to its ring, once nobody reads or writes its rows."""
        self._give_back(self)

    def draw(self, row: int, source: Image, letterbox: Letterbox) -> None:
        """Letterboxes `source` into row number `row`."""
        stale_border = self._bordered_for[row] != letterbox
        letterbox.draw(source, self.rows[row], paint_border=stale_border)
        self._bordered_for[row] = letterbox

    def move(self, source_row: int, target_row: int) -> None:
        """Copies one row over another, border and all."""
        self.rows[target_row] = self.rows[source_row]
        self._bordered_for[target_row] = self._bordered_for[source_row]

    def __repr__(self) -> str:
        return f"<Slot {self.index} of {self.capacity} rows>"


class Lane(str, Enum):
    """Which way a frame took: gathered with others, or at once and alone."""

    BATCH = "batch"
    PRIORITY = "priority"


@dataclass(frozen=True)
class BatchItem:
    """One occupied row of a batch; `image` is kept only where something needs the full frame."""

    info: FrameInfo
    letterbox: Letterbox
    image: Optional[Image] = None


@dataclass(frozen=True)
class BatchInfo:
    """What a frame's result says of the batch it was in.

    `align_error_ns` is the time between the captures of its oldest and its newest frame.
    """

    batch_id: int
    size: int
    lane: Lane
    align_error_ns: int


@dataclass(frozen=True, eq=False)
class Batch:
    """A closed slot: item i lies in row i."""

    batch_id: int
    slot: Slot
    items: Tuple[BatchItem, ...]
    opened_ns: int
    closed_ns: int
    lane: Lane = Lane.BATCH

    @property
    def frames(self) -> Image:
        """The occupied rows, a view [n, H, W, 3]."""
        return self.slot.rows[: len(self.items)]

    @property
    def info(self) -> BatchInfo:
        """What its frames' results say of it."""
        captured_ns = [item.info.captured_ns for item in self.items]
        spread_ns = max(captured_ns) - min(captured_ns)
        return BatchInfo(self.batch_id, len(self.items), self.lane, spread_ns)


@dataclass(frozen=True)
class BatchResult:
    """What the engine said of a batch: float32 [n, K, 6] x1, y1, x2, y2, score, class.

    Boxes are in model pixels; an image's rows are sorted by score, unused ones score 0.
    """

    batch: Batch
    detections: NDArray[np.float32]
    started_ns: int
    done_ns: int


# --- results ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Detections:
    """The objects of one frame, a struct of arrays.

    boxes_xyxy float32 [N, 4] in source pixels, scores float32 [N] in 0..1, class_ids int64 [N].
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes_xyxy.shape != (count, 4) or self.class_ids.shape != (count,):
            raise ValueError(
                f"expected boxes ({count}, 4) and class_ids ({count},), "
                f"got {self.boxes_xyxy.shape} and {self.class_ids.shape}"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        """No objects."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))


@dataclass(frozen=True)
class FrameResult:
    """One frame's detections with the times of its road, all monotonic nanoseconds."""

    info: FrameInfo
    detections: Detections
    batch: BatchInfo
    closed_ns: int
    inferred_ns: int
    finished_ns: int
    image: Optional[Image] = None


# --- the model and its engine ----------------------------------------------------------------


@dataclass(frozen=True)
class Preprocessing:
    """What the host must do to a frame so that the deployed graph understands it.

    Channel order and scale are inside the graph; the host only letterboxes.
    """

    input_wh: Tuple[int, int]
    pad_anchor: PadAnchor = PadAnchor.CENTER


@dataclass(frozen=True)
class DeployedGraph:
    """A detector that takes uint8 [B, H, W, 3] BGR and gives float32 [B, K, 6].

    `onnx_bytes` is the serialized model; `fixed_batch` is set where the network was exported
    for one batch size only; `sha256` names the user's file.
    """

    onnx_bytes: bytes = field(repr=False)
    name: str
    sha256: str
    head: str
    preprocessing: Preprocessing
    class_names: Tuple[str, ...]
    max_candidates: int
    fixed_batch: Optional[int] = None


@dataclass(frozen=True)
class EngineInfo:
    """What serves: backend and version, precision, device, and the largest batch of one call."""

    backend: str
    version: str
    device: str
    precision: str
    max_batch: int


class TargetSource(str, Enum):
    """Who decided how many frames make a batch leave at once."""

    CONFIG = "config"
    TUNED = "tuned"
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


# --- observation -----------------------------------------------------------------------------


@dataclass(frozen=True)
class CameraCounters:
    """What one camera has done since the start; rates are over the last seconds."""

    status: CameraStatus
    frames_read: int
    frames_inferred: int
    detections: int
    reconnects: int
    dropped: DropCounts
    fps_read: float
    fps_inferred: float
    latency_ms_p50: Optional[float]
    latency_ms_p99: Optional[float]
    deadline_missed: int = 0


@dataclass(frozen=True)
class PipelineCounters:
    """What the whole pipeline has done since the start.

    `batching` is what the configuration or the tuning file says; `tuned` is what live tuning has
    made of it, None where that is off.
    """

    cameras: Dict[str, CameraCounters]
    batches: int
    frames_inferred: int
    detections: int
    batch_fill: float
    batch_size_mean: float
    in_flight: int
    saturated_frames: int
    latency_ms_p50: Optional[float]
    latency_ms_p99: Optional[float]
    infer_ms_p50: Optional[float]
    infer_ms_p99: Optional[float]
    batching: Optional[BatchSetting] = None
    tuned: Optional[BatchSetting] = None
    tune_changes: int = 0

    @classmethod
    def zero(cls) -> PipelineCounters:
        """Nothing has happened yet."""
        return cls({}, 0, 0, 0, 0.0, 0.0, 0, 0, None, None, None, None)


@dataclass(frozen=True)
class PublisherCounters:
    """What was handed to the broker and what was not, by cause; why there is no connection."""

    connected: bool
    broker: str
    published: int
    queued: int
    dropped: Mapping[str, int]
    error: str = ""


OnFrame = Callable[[], None]
"""Told that a mailbox has a newer frame; must return at once."""

OnBatchResult = Callable[[BatchResult], None]
"""Gets each batch in the order of submission, on the completion thread."""
