"""A TensorRT engine on the host: what the double of TensorRT answers when it runs."""

from __future__ import annotations

import json
from typing import Any, Dict, Tuple

import numpy as np
from numpy.typing import NDArray

from tests.inference.host_cuda import HostCuda
from tests.inference.tensorrt_api.double import World

HEIGHT, WIDTH, CANDIDATES = 6, 8, 4
PLAN: Dict[str, Any] = {
    "profile": [1, 2, 4],
    "dims": -1,
    "frames": "UINT8",
    "detections": "FLOAT",
    "activations": 1000,
}


def plan(**changes: Any) -> bytes:
    """A plan as the double reads it."""
    return json.dumps({**PLAN, **changes}).encode()


def expected(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the double's network detects: each row tells of its own frame."""
    means = frames.reshape(len(frames), -1).mean(axis=1, dtype=np.float32)
    rows = np.arange(CANDIDATES, dtype=np.float32)
    return np.repeat((means[:, None] + rows)[:, :, None], 6, axis=2).astype(np.float32)


class RuntimeWorld(World):
    """Reads a plan, and runs its network when the stream gets there."""

    def __init__(self, host: HostCuda) -> None:
        super().__init__()
        self.host = host
        self.trt: Any = None
        self.plan: Dict[str, Any] = {}
        self.logger: Any = None
        self.bound: Dict[str, int] = {}
        self.rows: Tuple[int, ...] = ()
        self.refuse = ""
        self.nan = False

    def Runtime___init__(self, this: Any, logger: Any) -> None:
        self.logger = logger

    def Runtime_deserialize_cuda_engine(self, this: Any, data: bytes) -> Any:
        self.host.require_current("deserialize")
        try:
            self.plan = json.loads(data)
        except ValueError:
            self.logger.log(Severity("ERROR"), "4: magicTagRead == kMAGIC_TAG failed.")
            return None
        return self.trt.ICudaEngine()

    def ICudaEngine_num_io_tensors(self, this: Any) -> int:
        return 2

    def ICudaEngine_get_tensor_name(self, this: Any, index: int) -> str:
        return ("frames", self.plan.get("output", "detections"))[index]

    def ICudaEngine_get_tensor_dtype(self, this: Any, name: str) -> Any:
        return getattr(self.trt.DataType, self.plan[name if name == "frames" else "detections"])

    def ICudaEngine_get_tensor_profile_shape(self, this: Any, name: str, index: int) -> Any:
        return [(batch, HEIGHT, WIDTH, 3) for batch in self.plan["profile"]]

    def ICudaEngine_get_tensor_shape(self, this: Any, name: str) -> Any:
        batch = self.plan["dims"]
        return (batch, HEIGHT, WIDTH, 3) if name == "frames" else (batch, CANDIDATES, 6)

    def ICudaEngine_device_memory_size(self, this: Any) -> int:
        return int(self.plan["activations"])

    ICudaEngine_device_memory_size_v2 = ICudaEngine_device_memory_size

    def ICudaEngine_create_execution_context(self, this: Any) -> Any:
        if self.refuse == "context":
            self.logger.log(Severity("ERROR"), "Requested amount of GPU memory (9 bytes) ...")
            return None
        return self.trt.IExecutionContext()

    def IExecutionContext_set_input_shape(self, this: Any, name: str, shape: Any) -> bool:
        self.rows = shape
        smallest, _, largest = self.plan["profile"]
        return smallest <= shape[0] <= largest and self.refuse != "shape"

    def IExecutionContext_set_tensor_address(self, this: Any, name: str, address: int) -> bool:
        self.bound[name] = address
        return True

    def IExecutionContext_execute_async_v3(self, this: Any, stream: int) -> bool:
        bound, count = dict(self.bound), self.rows[0]
        self.host.enqueue(stream, lambda: self._run(bound, count))
        return True

    def _run(self, bound: Dict[str, int], count: int) -> None:
        nbytes = count * HEIGHT * WIDTH * 3
        frames = self.host.bytes_at(bound["frames"], nbytes).reshape(count, HEIGHT, WIDTH, 3)
        detections = expected(frames)
        if self.nan:
            detections[...] = np.nan
        target = self.host.bytes_at(bound["detections"], detections.nbytes)
        target[:] = np.frombuffer(detections.tobytes(), np.uint8)


class Severity:
    """A log line's severity."""

    def __init__(self, name: str) -> None:
        self.name = name
