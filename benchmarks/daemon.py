"""The real daemon inside the benchmark's process: all of it but what decodes and what infers.

In place of decoding, cameras hand out pictures from memory; in place of a network, an engine
sleeps for a constant time, as a thread does that waits for a GPU, and finds a busy picture's
candidates in every frame. Readers, batcher, pipeline, postprocess, publisher, health reports and
the broker are the real ones.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Sequence, Tuple, Type

import numpy as np
from numpy.typing import NDArray

from benchmarks.candidates import CLASS_COUNT, busy_picture
from benchmarks.network import write_detector
from edge.app import App, Substitutes
from edge.config.schema import Config
from edge.geometry import Image
from edge.inference.engine import Synchronous
from edge.records import CameraCounters, EngineInfo, FrameResult, PublisherCounters
from edge.threads import SupervisedThread

MODEL_WH = (640, 640)

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0


class EngineDouble(Synchronous):
    """An engine that takes `infer_s` for any batch."""

    info = EngineInfo("benchmark", "1", "cpu", "fp32", max_batch=8)
    input_wh = MODEL_WH

    def __init__(self, infer_s: float) -> None:
        self._infer_s = infer_s
        self._candidates = busy_picture(MODEL_WH)
        self.calls: Deque[Tuple[int, int]] = deque(maxlen=65536)
        """When each call returned, monotonic, and how long it took; nanoseconds."""

    def infer(self, frames: Image) -> NDArray[np.float32]:
        """Candidates float32 [n, K, 6] that belong to the caller."""
        start_ns = time.monotonic_ns()
        if self._infer_s > 0:
            time.sleep(self._infer_s)
        found = np.repeat(self._candidates[np.newaxis], len(frames), axis=0)
        done_ns = time.monotonic_ns()
        self.calls.append((done_ns, done_ns - start_ns))
        return found

    def close(self) -> None:
        """Holds nothing."""


@dataclass(frozen=True)
class MemoryCamera:
    """A camera that decodes for nothing.

    `before_frame` may hold a picture back; it gets the picture's index, and runs on the camera's
    thread.
    """

    images: Sequence[Image]
    fps: float
    before_frame: Callable[[int], None] = lambda index: None

    def render(self, index: int) -> Image:
        """The picture of an index."""
        self.before_frame(index)
        return self.images[index % len(self.images)]


class Daemon:
    """Runs between enter and exit; on entering, every camera's first result has come.

    `sections` are those of the config file, beside what the benchmark itself decides.
    """

    def __init__(
        self,
        cameras: Sequence[MemoryCamera],
        engine: EngineDouble,
        broker_port: int,
        on_result: Callable[[FrameResult], None] = lambda result: None,
        sections: Optional[Mapping[str, Any]] = None,
    ) -> None:
        self._cameras = cameras
        self._engine = engine
        self._broker_port = broker_port
        self._on_result = on_result
        self._sections = sections or {}
        self._stop = threading.Event()
        self._frames = 0
        self._first_results: Dict[str, threading.Event] = {}
        self._failure: Optional[BaseException] = None
        self._cleanup = contextlib.ExitStack()

    @property
    def frames(self) -> int:
        """Frames whose results are out."""
        return self._frames

    def counters(self) -> PublisherCounters:
        """What was handed to the broker."""
        return self._app.publisher_counters()

    def camera_counters(self) -> Mapping[str, CameraCounters]:
        """What each camera did."""
        return self._app.counters().cameras

    def frames_lost(self) -> int:
        """Frames that were read but have no result, and messages that were not delivered."""
        cameras = self._app.counters().cameras.values()
        dropped = sum(sum(camera.dropped.values()) for camera in cameras)
        return dropped + sum(self.counters().dropped.values())

    def __enter__(self) -> Daemon:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            config = self._config(folder)
            self._first_results = {camera.name: threading.Event() for camera in config.cameras}
            substitutes = Substitutes(self._engine, self._renderer)
            self._app = App(
                config, folder, self._stop, on_result=self._count, substitutes=substitutes
            )
            self._thread = SupervisedThread("daemon", self._app.run, self._failed)
            self._thread.start()
            stack.callback(self._end)
            self._await_cameras()
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._cleanup.close()
        if self._failure is not None and error is None:
            raise self._failure

    def _config(self, folder: Path) -> Config:
        model = folder / "detector.onnx"
        write_detector(model, MODEL_WH, CLASS_COUNT)
        return Config.model_validate(
            {
                "device": {"id": "benchmark", "state_dir": folder},
                "model": {"path": model},
                "cameras": [self._camera_section(i) for i in range(len(self._cameras))],
                "mqtt": {"host": "127.0.0.1", "port": self._broker_port},
                **self._sections,
            }
        )

    def _camera_section(self, index: int) -> Dict[str, Any]:
        camera = self._cameras[index]
        height, width = camera.images[0].shape[:2]
        # The seed carries the camera's number to `_renderer`.
        uri = f"synthetic://{index}?size={width}x{height}"
        return {"name": f"cam{index}", "uri": uri, "fps": camera.fps}

    def _renderer(self, seed: int, size_wh: Tuple[int, int]) -> Callable[[int], Image]:
        return self._cameras[seed].render

    def _count(self, result: FrameResult) -> None:
        self._frames += 1
        self._first_results[result.info.camera].set()
        self._on_result(result)

    def _failed(self, thread: str, error: BaseException) -> None:
        self._failure = error

    def _await_cameras(self) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        for camera, event in self._first_results.items():
            while not event.wait(0.1):
                if self._failure is not None:
                    raise self._failure
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"no result of {camera} within {_START_TIMEOUT_S:g} s")

    def _end(self) -> None:
        self._stop.set()
        self._thread.join(_STOP_TIMEOUT_S)


def staggered(index: int, cameras: int, fps: float) -> Callable[[int], None]:
    """Delays a camera's first picture, so that the cameras' pictures come evenly spread."""
    delay_s = index / (cameras * fps)

    def wait(frame: int) -> None:
        if frame == 0:
            time.sleep(delay_s)

    return wait


def noise(size_wh: Tuple[int, int], count: int) -> List[Image]:
    """Pictures of their own memory each, uint8 BGR, as a decoder hands them out."""
    width, height = size_wh
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]
