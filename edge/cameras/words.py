"""What was found, in lines for people."""

from __future__ import annotations

from typing import Iterator, Optional, Sequence

from edge.capture.survey.csi_sensors import CsiSensor
from edge.capture.survey.finding import Finding
from edge.capture.survey.probe import ProbeResult, ProbeState, View
from edge.capture.survey.v4l2_devices import FrameSize, PixelFormat, V4l2Device
from edge.config.schema import CameraConfig

_INDENT = "          "
_SIZES_SHOWN = 4
_STATES = {
    ProbeState.OK: "ok",
    ProbeState.FAILED: "FAILED",
    ProbeState.DISABLED: "disabled",
}


def connected_lines(devices: Sequence[V4l2Device], sensors: Sequence[CsiSensor]) -> Iterator[str]:
    """Everything that is plugged in."""
    if not devices and not sensors:
        yield (
            "connected nothing: no USB camera and no CSI sensor (a container sees those that "
            "docker run --device gives it)"
        )
    for sensor in sensors:
        yield from _sensor_lines(sensor)
    for device in devices:
        if not device.is_csi_sensor:  # named as a sensor already
            yield from _device_lines(device)


def camera_line(result: ProbeResult, cameras: Sequence[CameraConfig]) -> str:
    """One configured camera; the columns fit all of `cameras`."""
    width = max(len(camera.name) for camera in cameras)
    view = result.view
    size = "-" if view is None else "{}x{}".format(*view.size_wh)
    name, state = result.camera.name, _STATES[result.state]
    return (
        f"camera    {name:<{width}}  {state:<8}  {size:>9}  {rate_words(view):>9}  "
        f"{result.camera.uri}"
    )


def rate_words(view: Optional[View]) -> str:
    """The measured frames per second."""
    return "-" if view is None or view.fps is None else f"{view.fps:.1f} fps"


def finding_lines(finding: Optional[Finding]) -> Iterator[str]:
    """The reason and what to do, indented."""
    if finding is not None and finding.reason:
        yield f"{_INDENT}{finding.reason}"
    if finding is not None and finding.advice:
        yield f"{_INDENT}fix: {finding.advice}"


def _sensor_lines(sensor: CsiSensor) -> Iterator[str]:
    uri = "csi://?" if sensor.sensor_id is None else f"csi://{sensor.sensor_id}"
    yield f"connected {uri}  {sensor.name}"
    yield from finding_lines(sensor.trouble)


def _device_lines(device: V4l2Device) -> Iterator[str]:
    about = ", ".join(part for part in (device.driver, device.bus) if part)
    yield f"connected {device.node}  {device.card}{f' ({about})' if about else ''}"
    if device.stable_name is not None:
        yield f"{_INDENT}{device.stable_name}"
    for pixels in device.formats:
        yield f"{_INDENT}{pixels.fourcc:<5} {_sizes(pixels)}"
    yield from finding_lines(device.trouble)


def _sizes(pixels: PixelFormat) -> str:
    if not pixels.sizes:
        return pixels.description
    if pixels.is_range:
        return " to ".join(_size(size) for size in pixels.sizes)
    largest_first = sorted(
        pixels.sizes, key=lambda size: size.size_wh[0] * size.size_wh[1], reverse=True
    )
    more = len(largest_first) - _SIZES_SHOWN
    shown = ", ".join(_size(size) for size in largest_first[:_SIZES_SHOWN])
    return f"{shown}, and {more} smaller" if more > 0 else shown


def _size(size: FrameSize) -> str:
    width, height = size.size_wh
    return f"{width}x{height}" + (f" {size.fps[0]:g} fps" if size.fps else "")
