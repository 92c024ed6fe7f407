"""Records as the other rooms would hand them to the publisher."""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Sequence

import numpy as np

from edge.clock import NS_PER_MS
from edge.publish.envelope import Header
from edge.publish.payload import Appliance, HostPart, ServedModel
from edge.records import (
    BatchInfo,
    BatchTarget,
    CameraCounters,
    CameraState,
    CameraStatus,
    DeployedGraph,
    Detections,
    DropCause,
    EngineInfo,
    FrameInfo,
    FrameResult,
    HealthSource,
    Lane,
    MachineReading,
    Preprocessing,
    TargetSource,
    TimestampSource,
)

CAPTURED_UNIX_MS = 1_795_351_830_123
HEADER = Header(device="nx-0421", session=17, seq=48211, unix_ms=CAPTURED_UNIX_MS + 31)
MODEL = ServedModel("yolov8n", "fp16", ("person", "car"))


def detections(
    boxes_xyxy: Sequence[Sequence[float]] = ((480.0, 270.0, 960.0, 1080.0),),
    scores: Sequence[float] = (0.87346,),
    class_ids: Sequence[int] = (1,),
) -> Detections:
    return Detections(
        np.array(boxes_xyxy, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(class_ids, np.int64),
    )


def frame_result(found: Optional[Detections] = None, frame_id: int = 90317) -> FrameResult:
    return FrameResult(
        info=FrameInfo(
            camera="dock1",
            frame_id=frame_id,
            size_wh=(1920, 1080),
            captured_ns=1_000 * NS_PER_MS,
            captured_unix_ms=CAPTURED_UNIX_MS,
            ts_source=TimestampSource.RECEIVE,
        ),
        detections=detections() if found is None else found,
        batch=BatchInfo(7, 6, Lane.BATCH, 2 * NS_PER_MS),
        closed_ns=1_009 * NS_PER_MS,
        inferred_ns=1_027 * NS_PER_MS,
        finished_ns=1_031 * NS_PER_MS,
    )


def appliance() -> Appliance:
    return Appliance(
        host=HostPart(app_version="0.1.0", python="3.8.18", platform="Linux aarch64"),
        cameras=("dock1", "gate"),
        graph=DeployedGraph(
            onnx_bytes=b"",
            name="yolov8n",
            sha256="ab" * 32,
            head="v8",
            preprocessing=Preprocessing((640, 480)),
            class_names=("person", "car"),
            max_candidates=1024,
        ),
        engine=EngineInfo("onnxruntime", "1.19.2", "CPU", "fp32", 64),
        target=BatchTarget(4, TargetSource.BENCH),
    )


def camera_status(state: CameraState = CameraState.ONLINE, reason: str = "") -> CameraStatus:
    return CameraStatus("dock1", state, CAPTURED_UNIX_MS, reason)


def camera_counters(
    latency_ms_p50: Optional[float] = 31.0419, dropped: Optional[Dict[DropCause, int]] = None
) -> CameraCounters:
    return CameraCounters(
        status=camera_status(),
        frames_read=100,
        frames_inferred=90,
        detections=12,
        reconnects=1,
        dropped={DropCause.SUPERSEDED: 10} if dropped is None else dropped,
        fps_read=29.9712,
        fps_inferred=27.0,
        latency_ms_p50=latency_ms_p50,
        latency_ms_p99=None,
    )


def machine_reading(numbers: Mapping[str, float]) -> MachineReading:
    return MachineReading(HealthSource.PSUTIL, numbers)
