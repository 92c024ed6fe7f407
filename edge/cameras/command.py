"""Looks at what is connected, probes what is configured, and collects what to tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from edge.atomic_file import replace_bytes
from edge.building.graph import deploy
from edge.cameras.sheet import render_sheet
from edge.cameras.suggestions import suggest, yaml_lines
from edge.cameras.summary import (
    SCHEMA,
    device_object,
    result_object,
    sensor_object,
    suggestion_objects,
)
from edge.cameras.words import camera_line, connected_lines, finding_lines
from edge.capture import open_source
from edge.capture.hardware import Abilities
from edge.capture.opencv import has_gstreamer, opencv_in_words
from edge.capture.survey.csi_sensors import CsiSensor, find_sensors
from edge.capture.survey.diagnosis import diagnose
from edge.capture.survey.finding import Finding
from edge.capture.survey.probe import Job, ProbeResult, ProbeState, probe_all
from edge.capture.survey.v4l2_devices import V4l2Device, find_devices
from edge.clock import SystemClock
from edge.config.schema import CameraConfig, Config
from edge.errors import EXIT_CONFIG, CaptureError, ConfigError, ModelError
from edge.health.machine import read_machine
from edge.line import render_scene

_EXIT_SOME_FAILED = 1
_HIDDEN_GSTREAMER = Finding(
    "CSI sensors and the hardware decoder need JetPack's OpenCV, which pip's hides",
    "pip uninstall opencv-python opencv-python-headless; sudo apt install python3-opencv",
)


class CameraSurvey:
    """One look at the cameras; without a configuration, at those that are connected."""

    def __init__(
        self,
        config: Optional[Config],
        base_dir: Path,
        timeout_s: float,
        sheet: Optional[Path],
        root: Path = Path("/"),
    ) -> None:
        self._config = config
        self._base_dir = base_dir
        self._timeout_s = timeout_s
        self._sheet = sheet
        self._root = root
        self._devices: List[V4l2Device] = []
        self._sensors: List[CsiSensor] = []
        self._suggested: List[CameraConfig] = []
        self._results: List[ProbeResult] = []
        self._has_config_fault = False
        self._model_wh: Optional[Tuple[int, int]] = None

    @property
    def exit_code(self) -> int:
        """78 if a camera's keys must change, 1 if an enabled one gave no frame, else 0."""
        if self._has_config_fault:
            return EXIT_CONFIG
        failed = [result for result in self._results if result.state is ProbeState.FAILED]
        return _EXIT_SOME_FAILED if failed else 0

    def lines(self) -> Iterator[str]:
        """The findings, as they are made; a folder that cannot be written to is an OSError."""
        yield from self._opencv_lines()
        yield from self._model_lines()
        self._devices, self._sensors = find_devices(self._root), find_sensors(self._root)
        yield from connected_lines(self._devices, self._sensors)
        configured = [] if self._config is None else self._config.cameras
        self._suggested = suggest(self._devices, self._sensors, configured, self._base_dir)
        # Without a configuration cameras are opened only for their pictures.
        probed = self._suggested if self._config is None and self._sheet else configured
        yield from self._probe(probed)
        yield from self._suggestion_lines()
        if self._sheet is not None and self._results:
            replace_bytes(self._sheet, render_sheet(self._results))
            yield f"sheet     {self._sheet}"

    def summary(self) -> Dict[str, Any]:
        """What `lines` found, as JSON."""
        return {
            "schema": SCHEMA,
            "opencv": {"build": opencv_in_words(), "gstreamer": has_gstreamer()},
            "devices": [device_object(device) for device in self._devices],
            "csi_sensors": [sensor_object(sensor) for sensor in self._sensors],
            "cameras": [result_object(result) for result in self._results],
            "suggestions": suggestion_objects(self._suggested),
            "sheet": str(self._sheet) if self._sheet is not None and self._results else None,
        }

    def _opencv_lines(self) -> Iterator[str]:
        with_it = has_gstreamer()
        yield f"software  {opencv_in_words()}, {'with' if with_it else 'without'} GStreamer"
        if not with_it and read_machine(self._root).l4t is not None:
            yield from finding_lines(_HIDDEN_GSTREAMER)

    def _model_lines(self) -> Iterator[str]:
        """Learns the size to which hardware scales; software leaves pictures as they are."""
        if self._config is None or not Abilities.of_this_machine().nvidia_elements:
            return
        try:
            graph = deploy(self._config.model.path, self._config.model)
            self._model_wh = graph.preprocessing.input_wh
        except ModelError as error:
            yield f"model     {error}; cameras are tried in their own size"

    def _probe(self, cameras: Sequence[CameraConfig]) -> Iterator[str]:
        jobs = [self._job(camera) for camera in cameras]
        clock = SystemClock()
        for result in probe_all(jobs, self._diagnose, clock, self._timeout_s):
            self._results.append(result)
            yield camera_line(result, cameras)
            yield from finding_lines(result.finding)

    def _job(self, camera: CameraConfig) -> Job:
        if not camera.enabled:
            return Job(camera, None)
        try:
            return Job(camera, open_source(camera, self._base_dir, render_scene, self._model_wh))
        except ConfigError as error:
            self._has_config_fault = True
            return Job(camera, None, Finding(str(error)))
        except CaptureError as error:
            return Job(camera, None, Finding(str(error)))

    def _diagnose(self, camera: CameraConfig) -> Optional[Finding]:
        return diagnose(camera, self._root)

    def _suggestion_lines(self) -> Iterator[str]:
        if self._suggested:
            known = "" if self._config is None else "; these are connected and not there yet"
            yield f"config    for the list of cameras{known}:"
            yield "cameras:"
            yield from yaml_lines(self._suggested)
