"""The JSON messages: one model each, source of both the bytes on the wire and the JSON Schema.

Keys whose value is unknown are absent, and no number is ever NaN or infinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, Dict, List, Literal, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from typing_extensions import Annotated

from edge import records
from edge.clock import NS_PER_MS
from edge.config.schema import Memory
from edge.publish.envelope import Count, Header, Part, Payload, header_fields
from edge.publish.metrics import describe_metrics
from edge.records import TimestampSource

Unit = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

# A pixel of a 3840 wide frame is 0.00026 of it: five decimals keep a tenth of that.
_BOX_DECIMALS = 5
_SCORE_DECIMALS = 4
_MS_DECIMALS = 2


# --- detections ------------------------------------------------------------------------------


class Latency(Part):
    """Milliseconds per leg of a frame's road."""

    capture_to_batch: float
    infer: float
    post: float
    total: float


class BatchPart(Part):
    """The batch a frame was inferred in."""

    id: Count
    size: Annotated[int, Field(ge=1)]
    lane: records.Lane = Field(description="priority: it left at once and alone.")
    align_error_ms: Optional[float] = Field(
        None,
        ge=0,
        description="Time between the captures of the batch's oldest and newest frame; absent "
        "where it has only one.",
    )


class Size(Part):
    """Pixels."""

    w: Annotated[int, Field(ge=1)]
    h: Annotated[int, Field(ge=1)]


class DetectedObject(Part):
    """One object; `box` is x1, y1, x2, y2 in fractions of the source frame."""

    class_name: str = Field(alias="class")
    class_id: Count
    score: Unit
    box: Tuple[Unit, Unit, Unit, Unit]


class Detections(Payload):
    """The objects of one frame."""

    schema_id: Literal["edge.detections/1"] = Field(alias="schema")
    camera: str
    frame_id: Count = Field(description="Counts the frames the camera's source delivered.")
    ts_source: TimestampSource = Field(description="Which clock the capture time comes from.")
    clock_synced: bool = Field(description="False: do not trust ts, no time daemon has set it.")
    latency_ms: Latency
    batch: BatchPart
    model: str
    precision: str
    frame: Size
    replayed: bool = Field(description="True: sent late, from storage.")
    detections: List[DetectedObject]


@dataclass(frozen=True)
class ServedModel:
    """What a detections message says of its origin; `class_names` are indexed by class id."""

    name: str
    precision: str
    class_names: Tuple[str, ...]

    def class_name(self, class_id: int) -> str:
        """The name, or the number where the model has no name for it."""
        return self.class_names[class_id] if class_id < len(self.class_names) else str(class_id)


def detections_payload(
    result: records.FrameResult, header: Header, model: ServedModel, *, is_clock_synced: bool
) -> Detections:
    """Converts one frame's result; the message carries the frame's capture time."""
    info = result.info
    width, height = info.size_wh
    # One validation of plain values: a Python object per part would triple the time, and this
    # is the only message sent at the rate of frames.
    return Detections.model_validate(
        {
            "schema": "edge.detections/1",
            **header_fields(header, info.captured_unix_ms),
            "camera": info.camera,
            "frame_id": info.frame_id,
            "ts_source": info.ts_source,
            "clock_synced": is_clock_synced,
            "latency_ms": _latency(result),
            "batch": _batch(result.batch),
            "model": model.name,
            "precision": model.precision,
            "frame": {"w": width, "h": height},
            "replayed": False,
            "detections": _objects(result.detections, info.size_wh, model),
        }
    )


def _batch(batch: records.BatchInfo) -> Dict[str, Any]:
    return {
        "id": batch.batch_id,
        "size": batch.size,
        "lane": batch.lane,
        "align_error_ms": _ms(batch.align_error_ns) if batch.size > 1 else None,
    }


def _latency(result: records.FrameResult) -> Dict[str, float]:
    captured_ns = result.info.captured_ns
    return {
        "capture_to_batch": _ms(result.closed_ns - captured_ns),
        "infer": _ms(result.inferred_ns - result.closed_ns),
        "post": _ms(result.finished_ns - result.inferred_ns),
        "total": _ms(result.finished_ns - captured_ns),
    }


def _ms(duration_ns: int) -> float:
    return round(duration_ns / NS_PER_MS, _MS_DECIMALS)


def _objects(
    detections: records.Detections, size_wh: Tuple[int, int], model: ServedModel
) -> List[Dict[str, Any]]:
    # In float64, or 0.1 would print as 0.10000000149.
    boxes = _to_unit(detections.boxes_xyxy / np.array(size_wh * 2, np.float64), _BOX_DECIMALS)
    scores = _to_unit(detections.scores.astype(np.float64), _SCORE_DECIMALS)
    return [
        {"class": model.class_name(class_id), "class_id": class_id, "score": score, "box": box}
        for class_id, score, box in zip(detections.class_ids.tolist(), scores, boxes)
    ]


def _to_unit(values: NDArray[np.float64], decimals: int) -> List[Any]:
    # An FP16 network can overflow: a box that is not a number collapses to the frame's corner,
    # which shows, while its object stays. (np.clip and nan_to_num cost five times as much.)
    values[np.isnan(values)] = 0.0
    unit: List[Any] = np.minimum(np.maximum(values, 0.0), 1.0).round(decimals).tolist()
    return unit


# --- the appliance ---------------------------------------------------------------------------


class ApplianceState(str, Enum):
    """What the appliance is doing."""

    INIT = "init"
    BUILDING = "building"
    READY = "ready"
    DEGRADED = "degraded"
    STOPPING = "stopping"


class State(Payload):
    """The appliance's life cycle."""

    schema_id: Literal["edge.state/1"] = Field(alias="schema")
    state: ApplianceState
    reason: str = Field(description="In words; empty when there is nothing to explain.")


def state_payload(state: ApplianceState, reason: str, header: Header) -> State:
    """Says what the appliance is doing."""
    return State(schema_id="edge.state/1", **header_fields(header), state=state, reason=reason)


class HostPart(Part):
    """The machine and its software."""

    app_version: str
    python: str
    platform: str = Field(description="Operating system and processor.")
    module: Optional[str] = Field(None, description="The Jetson module.")
    l4t: Optional[str] = Field(None, description="Release of NVIDIA's Linux for Tegra.")
    boot_id: Optional[str] = Field(None, description="Changes when the machine restarts.")


class ModelPart(Part):
    """The user's model file."""

    name: str
    sha256: Sha256
    head: str = Field(description="The detector family its output was decoded as.")
    input: Size
    class_names: List[str]
    max_candidates: Count


class EnginePart(Part):
    """What runs the model."""

    backend: str
    version: str
    device: str
    precision: str
    max_batch: Annotated[int, Field(ge=1)]
    memory: Optional[Memory] = Field(None, description="How a GPU gets its frames.")


class BatchingPart(Part):
    """How frames become batches."""

    target: Annotated[int, Field(ge=1, description="A batch leaves at once at this size.")]
    target_source: records.TargetSource = Field(
        description="config: the user's; bench: chosen by `edge bench --tune`; memory: more would "
        "not fit; else default."
    )


class Info(Payload):
    """What the appliance is made of; what comes with the model is absent until it is loaded."""

    schema_id: Literal["edge.info/1"] = Field(alias="schema")
    host: HostPart
    cameras: List[str]
    model: Optional[ModelPart] = None
    engine: Optional[EnginePart] = None
    batching: Optional[BatchingPart] = None


@dataclass(frozen=True)
class Appliance:
    """What goes into an info message; `expected` are classes to be counted before any is seen."""

    host: HostPart
    cameras: Sequence[str]
    graph: Optional[records.DeployedGraph] = None
    engine: Optional[records.EngineInfo] = None
    target: Optional[records.BatchTarget] = None
    expected: Sequence[str] = ()

    def served_model(self) -> Optional[ServedModel]:
        """The origin of detections, once both model and engine are known."""
        if self.graph is None or self.engine is None:
            return None
        return ServedModel(self.graph.name, self.engine.precision, self.graph.class_names)


def info_payload(appliance: Appliance, header: Header) -> Info:
    """Says what the appliance is made of."""
    return Info(
        schema_id="edge.info/1",
        **header_fields(header),
        host=appliance.host,
        cameras=list(appliance.cameras),
        model=_model_part(appliance.graph),
        engine=_engine_part(appliance.engine),
        batching=_batching_part(appliance.target),
    )


def _model_part(graph: Optional[records.DeployedGraph]) -> Optional[ModelPart]:
    if graph is None:
        return None
    width, height = graph.preprocessing.input_wh
    return ModelPart(
        name=graph.name,
        sha256=graph.sha256,
        head=graph.head,
        input=Size(w=width, h=height),
        class_names=list(graph.class_names),
        max_candidates=graph.max_candidates,
    )


def _engine_part(engine: Optional[records.EngineInfo]) -> Optional[EnginePart]:
    if engine is None:
        return None
    return EnginePart(
        backend=engine.backend,
        version=engine.version,
        device=engine.device,
        precision=engine.precision,
        max_batch=engine.max_batch,
        memory=engine.memory,
    )


def _batching_part(target: Optional[records.BatchTarget]) -> Optional[BatchingPart]:
    if target is None:
        return None
    return BatchingPart(target=target.frames, target_source=target.source)


class Health(Payload):
    """Numbers about the device, flat; a key that is unknown is absent, any number may appear."""

    model_config = ConfigDict(extra="allow", json_schema_extra=describe_metrics)
    __pydantic_extra__: Dict[str, Union[int, float]]

    schema_id: Literal["edge.health/1"] = Field(alias="schema")
    source: records.HealthSource = Field(
        description="What told most of the machine's numbers: jtop (the service of jetson-stats), "
        "tegrastats, nvml (NVIDIA's driver), sysfs (a Jetson's own files), psutil (any system's)."
    )
    source_reason: Optional[str] = Field(
        None, description="Why no better source did, and what to do; absent where the best did."
    )


def health_payload(reading: records.MachineReading, header: Header) -> Health:
    """Says how the device feels; a number that is not finite counts as unknown."""
    known = {key: round(value, 3) for key, value in reading.numbers.items() if math.isfinite(value)}
    return Health(
        **{
            **known,
            "schema_id": "edge.health/1",
            **header_fields(header),
            "source": reading.source,
            "source_reason": reading.reason or None,
        }
    )
