"""Keys that are right one by one and make no sense together."""

from __future__ import annotations

from typing import Iterator, List, Tuple

from edge.config.camera_keys import misplaced_keys
from edge.config.faults import Key
from edge.config.mqtt_keys import contradicting_keys
from edge.config.schema import Backend, CameraConfig, Config, Device, Window

Contradiction = Tuple[Key, str]
"""Where, and what is wrong."""


def fillable_rows(config: Config) -> int:
    """How many rows of a batch the cameras without priority can fill at most."""
    shared = sum(camera.enabled for camera in _shared(config))
    return shared * config.batching.max_frames_per_camera


def contradictions(config: Config) -> Iterator[Contradiction]:
    """What the file asks for in both of two ways that exclude each other."""
    if config.engine.backend is Backend.TENSORRT and config.engine.device is Device.CPU:
        yield ("engine", "device"), "tensorrt has no CPU: leave the key out, or use onnxruntime"
    for number, camera in enumerate(config.cameras):
        yield from ((("cameras", number, key), why) for key, why in misplaced_keys(camera))
    yield from ((("mqtt", *key), why) for key, why in contradicting_keys(config.mqtt))
    yield from _stale_by_waiting(config)


def _stale_by_waiting(config: Config) -> Iterator[Contradiction]:
    if "max_wait_ms" not in config.batching.model_fields_set or _is_window_moving(config):
        return
    for number, camera in enumerate(config.cameras):
        if _is_stale_by_waiting(camera, config):
            key: Key = ("cameras", number, "max_staleness_ms")
            yield key, f"{_staleness_words(camera, config)}: make the one longer or the other less"


def idle_keys(config: Config, target: int) -> Iterator[str]:
    """What the file asks for without effect, in words; `target` is the size of a full batch."""
    yield from _idle_for_lack_of_batches(config, target)
    batching = config.batching
    if batching.window is Window.AUTO and batching.max_wait_ms == 0:
        yield "batching.window does nothing: max_wait_ms is 0, so no batch waits at all"
    if batching.max_frames_per_camera > target:
        yield (
            f"batching.max_frames_per_camera is {batching.max_frames_per_camera}, but a batch is "
            f"full at {target} frames"
        )
    if not any(_stale_by_waiting(config)):
        for camera in config.cameras:
            if _is_stale_by_waiting(camera, config):
                yield f"cameras {camera.name}: max_staleness_ms {_staleness_words(camera, config)}"


def _idle_for_lack_of_batches(config: Config, target: int) -> Iterator[str]:
    asked = {"tune": config.batching.tune, "align_ms": config.batching.align_ms is not None}
    if not _shared(config):
        reason = "every camera has priority and travels alone"
    elif min(target, fillable_rows(config)) <= 1:
        reason = "no batch can hold more than one frame"
    else:
        return
    yield from (f"batching.{key} does nothing: {reason}" for key in asked if asked[key])


def _shared(config: Config) -> List[CameraConfig]:
    return [camera for camera in config.cameras if not camera.priority]


def _is_window_moving(config: Config) -> bool:
    """Whether `max_wait_ms` is the longest wait only, not every one."""
    return config.batching.tune or config.batching.window is Window.AUTO


def _is_stale_by_waiting(camera: CameraConfig, config: Config) -> bool:
    if camera.priority or camera.max_staleness_ms is None:
        return False
    rows = min(config.batching.target, fillable_rows(config))
    return rows > 1 and camera.max_staleness_ms <= config.batching.max_wait_ms


def _staleness_words(camera: CameraConfig, config: Config) -> str:
    return (
        f"is {camera.max_staleness_ms:g}, and a batch waits up to "
        f"{config.batching.max_wait_ms:g} ms (batching.max_wait_ms), after which its first frame "
        "is dropped as stale"
    )
