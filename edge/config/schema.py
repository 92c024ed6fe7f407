"""The shape of the YAML file: one frozen model per section, no I/O.

Every key's description is shown by `edge schema` and goes into the documentation.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import List, Optional, Tuple

from pydantic import Field, PositiveInt

from edge.config.camera import CameraConfig as CameraConfig
from edge.config.commands import CommandsConfig as CommandsConfig
from edge.config.governor import GovernorConfig as GovernorConfig
from edge.config.health import HealthConfig as HealthConfig
from edge.config.mqtt import TOPIC_LEVEL
from edge.config.mqtt import MqttConfig as MqttConfig
from edge.config.outbox import OutboxConfig as OutboxConfig
from edge.config.section import Section


class DeviceConfig(Section):
    """Who this appliance is and where it keeps its state."""

    id: Optional[str] = Field(
        None,
        pattern=TOPIC_LEVEL,
        description="Stable name in every topic; default: the module's serial number, "
        "else the host name.",
    )
    state_dir: Path = Field(
        Path("/var/lib/edge"), description="Writable folder for the session counter and caches."
    )


class HeadName(str, Enum):
    """What a detector ends with."""

    YOLOV5 = "yolov5"
    YOLOV7 = "yolov7"
    YOLOV8 = "yolov8"
    YOLOV8_CORNERS = "yolov8_corners"
    END_TO_END = "end_to_end"
    YOLOX = "yolox"
    YOLOX_DECODED = "yolox_decoded"


class ModelConfig(Section):
    """The detector."""

    path: Path = Field(description="ONNX file of a YOLO detector, relative to this file.")
    class_names: Optional[List[str]] = Field(
        None, min_length=1, description="Names by class id; default: those in the ONNX metadata."
    )
    input_wh: Optional[Tuple[PositiveInt, PositiveInt]] = Field(
        None,
        description="Input width and height in pixels; only for a model that leaves them open.",
    )
    head: Optional[HeadName] = Field(
        None,
        description="What the network ends with; only where it does not tell. yolov5: [batch, "
        "anchors, 5 + classes], also of YOLOv6; yolov7: the same, but a single class is scored by "
        "objectness alone; yolov8: [batch, 4 + classes, anchors]; yolov8_corners: the same with "
        "x1, y1, x2, y2; end_to_end: [batch, boxes, 6]; yolox: undecoded grids; yolox_decoded: "
        "exported with decode_in_inference.",
    )
    max_candidates: int = Field(
        1024,
        ge=1,
        le=3840,
        description="Boxes kept per image before suppression (3840 is TensorRT's limit).",
    )


class Backend(str, Enum):
    """What runs the network."""

    TENSORRT = "tensorrt"
    ONNXRUNTIME = "onnxruntime"


class Precision(str, Enum):
    """What a network computes in."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class TacticSource(str, Enum):
    """Where TensorRT may take kernels from."""

    CUBLAS = "cublas"
    CUBLAS_LT = "cublas_lt"
    CUDNN = "cudnn"
    EDGE_MASK_CONVOLUTIONS = "edge_mask_convolutions"
    JIT_CONVOLUTIONS = "jit_convolutions"


class Memory(str, Enum):
    """How a GPU gets the frames that the CPU drew."""

    AUTO = "auto"
    COPY = "copy"
    MAPPED = "mapped"


class Device(str, Enum):
    """Where ONNX Runtime computes."""

    CPU = "cpu"
    CUDA = "cuda"


class EngineConfig(Section):
    """How the network runs."""

    backend: Optional[Backend] = Field(
        None, description="What runs the network; default: tensorrt where it is installed."
    )
    device: Optional[Device] = Field(
        None,
        description="Where onnxruntime computes; default: cuda where onnxruntime-gpu and pycuda "
        "are installed and work, else cpu.",
    )
    precision: Optional[Precision] = Field(
        None,
        description="The lowest precision that may serve. int8 serves only where the gate lets it. "
        "Default: int8 where calibration.folder is given (not on onnxruntime with cuda, which is "
        "slower in it), else fp16 (onnxruntime: fp32).",
    )
    threads: Optional[int] = Field(
        None, ge=1, le=64, description="CPU threads of one inference; default: all cores."
    )
    max_batch: Optional[int] = Field(
        None,
        ge=1,
        le=64,
        description="Frames of one call to the engine; larger batches run in parts. Default: what "
        "the engine takes and the module is known to bear.",
    )
    memory: Memory = Field(
        Memory.AUTO,
        description="How a GPU gets its frames. copy: they are copied while it computes; mapped: "
        "it reads them where the CPU drew them, which only pays where both share the memory, as on "
        "a Jetson; auto: there, whichever is measured to be faster at the start, else copy.",
    )
    cuda_graphs: bool = Field(
        True,
        description="Batches of one size are queued on the GPU as a whole instead of kernel by "
        "kernel once they repeat, which spares the CPU (tensorrt only).",
    )
    stall_s: float = Field(
        30.0,
        ge=1,
        le=600,
        description="A batch without a result for this long means that the device hangs: the "
        "daemon ends with exit code 70, and its supervisor starts it again.",
    )
    opt_batch: Optional[int] = Field(
        None,
        ge=1,
        le=64,
        description="The batch TensorRT makes it fastest for; default: the largest of one call.",
    )
    workspace_mb: Optional[int] = Field(
        None,
        ge=16,
        le=65_536,
        description="TensorRT's memory for scratch; default: half of what is free, at most 2048.",
    )
    dla_core: Optional[int] = Field(
        None,
        ge=0,
        le=7,
        description="Run on this deep-learning accelerator, and on the GPU what it cannot do. "
        "Fixes the batch at opt_batch.",
    )
    sparse_weights: bool = Field(
        False, description="Use 2:4 sparse kernels, where the GPU (Ampere or newer) has them."
    )
    tactic_sources: Optional[List[TacticSource]] = Field(
        None, min_length=1, description="Where TensorRT may take kernels from; default: its own."
    )


class CalibrationMethod(str, Enum):
    """How value ranges come out of the calibration images."""

    ENTROPY = "entropy"
    MINMAX = "minmax"


class CalibrationConfig(Section):
    """The images an INT8 engine learns its value ranges from."""

    folder: Optional[Path] = Field(
        None,
        description="Folder of .jpg, .png or .bmp frames of these cameras, relative to this file; "
        "500 or more. Without it nothing runs in INT8.",
    )
    method: Optional[CalibrationMethod] = Field(
        None,
        description="entropy cuts rare values off, minmax nothing. Default: entropy on tensorrt, "
        "minmax on onnxruntime.",
    )
    batch: int = Field(8, ge=1, le=64, description="Images of one calibration batch.")
    holdout: float = Field(
        0.2,
        ge=0.05,
        le=0.5,
        description="Share of the images kept out of the calibration, for the gate to judge by.",
    )


class GateConfig(Section):
    """Whether a faster engine is still as good; one that is not never serves."""

    max_loss: float = Field(
        0.01,
        ge=0,
        le=1,
        description="AP50 that may be lost against the more precise engine, over all classes.",
    )
    min_boxes: int = Field(
        500,
        ge=1,
        le=1_000_000,
        description="With fewer boxes on the held-out images there is not enough evidence.",
    )


class Window(str, Enum):
    """How long a batch waits for more frames."""

    FIXED = "fixed"
    AUTO = "auto"


class BatchingConfig(Section):
    """How frames of many cameras become one batch."""

    target: int = Field(
        8,
        ge=1,
        le=64,
        description="A batch leaves at once at this size; without the key, the size that "
        "`edge bench --tune` chose goes before the default.",
    )
    max_wait_ms: float = Field(
        10.0,
        ge=0,
        le=1000,
        description="A smaller batch leaves when its first frame has waited this long.",
    )
    window: Window = Field(
        Window.FIXED,
        description="fixed: always wait max_wait_ms; auto: follow the cameras' rates and wait only "
        "as long as more frames are likely to come, at most max_wait_ms.",
    )
    align_ms: Optional[float] = Field(
        None,
        ge=0.1,
        le=1000,
        description="Only frames captured within this time of each other share a batch; "
        "default: any frames do.",
    )
    tune: bool = Field(
        False,
        description="Follow the load with smaller targets and windows than these, down to 1 "
        "frame and 0 ms, and back up to them.",
    )
    max_frames_per_camera: int = Field(
        1, ge=1, le=64, description="Frames of one camera in one batch."
    )
    priority_burst: int = Field(
        4,
        ge=1,
        le=1000,
        description="After this many priority frames in a row a waiting batch goes first.",
    )
    letterbox_threads: int = Field(
        2, ge=1, le=16, description="Threads that resize frames into the batch."
    )


class PostprocessConfig(Section):
    """Which boxes are worth telling."""

    score_threshold: float = Field(0.25, ge=0, le=1, description="Boxes scored below are dropped.")
    iou_threshold: float = Field(
        0.5, gt=0, le=1, description="Of two boxes of one class overlapping more, one is dropped."
    )
    max_detections: int = Field(300, ge=1, le=3840, description="Boxes reported per frame.")
    classes: Optional[List[str]] = Field(
        None, min_length=1, description="Only these classes are reported; default: all."
    )


class Config(Section):
    """The whole file."""

    device: DeviceConfig = DeviceConfig()
    model: ModelConfig
    engine: EngineConfig = EngineConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    gate: GateConfig = GateConfig()
    batching: BatchingConfig = BatchingConfig()
    cameras: List[CameraConfig] = Field(min_length=1, description="One entry per camera.")
    postprocess: PostprocessConfig = PostprocessConfig()
    mqtt: MqttConfig = MqttConfig()
    commands: CommandsConfig = CommandsConfig()
    outbox: OutboxConfig = OutboxConfig()
    health: HealthConfig = HealthConfig()
    governor: GovernorConfig = GovernorConfig()
