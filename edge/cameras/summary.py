"""What was found, as one JSON object: edge.cameras/1."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from edge.capture.survey.csi_sensors import CsiSensor
from edge.capture.survey.finding import Finding
from edge.capture.survey.probe import ProbeResult
from edge.capture.survey.v4l2_devices import PixelFormat, V4l2Device
from edge.clock import rfc3339
from edge.config.schema import CameraConfig

SCHEMA = "edge.cameras/1"


def device_object(device: V4l2Device) -> Dict[str, Any]:
    """A V4L2 device; sizes in pixels, rates in frames per second."""
    return {
        "device": str(device.node),
        "stable_name": None if device.stable_name is None else str(device.stable_name),
        "card": device.card,
        "driver": device.driver,
        "bus": device.bus,
        "is_csi_sensor": device.is_csi_sensor,
        "formats": [_format(pixels) for pixels in device.formats],
        **_finding(device.trouble),
    }


def sensor_object(sensor: CsiSensor) -> Dict[str, Any]:
    """A CSI sensor; `sensor_id` is null where its driver did not find it."""
    return {
        "name": sensor.name,
        "sensor_id": sensor.sensor_id,
        "device": None if sensor.node is None else str(sensor.node),
        **_finding(sensor.trouble),
    }


def result_object(result: ProbeResult) -> Dict[str, Any]:
    """A configured camera and what came of its probe."""
    view = result.view
    return {
        "name": result.camera.name,
        "uri": str(result.camera.uri),
        "state": result.state.value,
        "size_wh": None if view is None else list(view.size_wh),
        "fps": None if view is None or view.fps is None else round(view.fps, 2),
        "first_frame_s": None if view is None else round(view.first_frame_s, 3),
        "taken_at": None if view is None else rfc3339(view.taken_unix_ms),
        **_finding(result.finding),
    }


def suggestion_objects(cameras: Sequence[CameraConfig]) -> Sequence[Dict[str, str]]:
    """Entries for the list `cameras` of the configuration."""
    return [{"name": camera.name, "uri": str(camera.uri)} for camera in cameras]


def _format(pixels: PixelFormat) -> Dict[str, Any]:
    sizes = [{"size_wh": list(size.size_wh), "fps": list(size.fps)} for size in pixels.sizes]
    return {
        "fourcc": pixels.fourcc,
        "description": pixels.description,
        "is_range": pixels.is_range,
        "sizes": sizes,
    }


def _finding(finding: Optional[Finding]) -> Dict[str, Optional[str]]:
    return {
        "reason": finding.reason or None if finding else None,
        "advice": finding.advice or None if finding else None,
    }
