from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import cv2
import pytest

from edge.cameras.command import CameraSurvey
from edge.capture.hardware import Abilities
from edge.capture.source import Source
from edge.config.schema import Config
from edge.demo.show import ASSETS
from edge.errors import CaptureError, ConfigError
from tests.capture.survey.test_csi_sensors import argus, bound

BELT = {"name": "belt", "uri": str(ASSETS / "belt.mp4")}
PATIENT_S = 60.0


def config_of(*cameras: Dict[str, Any]) -> Config:
    sections = {"model": {"path": ASSETS / "parts.onnx"}, "cameras": list(cameras)}
    return Config.model_validate(sections)


def survey(root: Path, config: Optional[Config], sheet: Optional[Path] = None) -> CameraSurvey:
    return CameraSurvey(config, root, PATIENT_S, sheet, root)


def test_every_camera_gives_a_frame(tmp_path: Path) -> None:
    looked = survey(tmp_path, config_of(BELT, {**BELT, "name": "off", "enabled": False}))
    lines = list(looked.lines())
    assert any(line.startswith("camera    belt  ok ") and "25.0 fps" in line for line in lines)
    assert any(line.startswith("camera    off   disabled") for line in lines)
    assert looked.exit_code == 0
    summary = looked.summary()
    assert summary["schema"] == "edge.cameras/1"
    assert [found["state"] for found in summary["cameras"]] == ["ok", "disabled"]
    assert summary["sheet"] is None


def test_one_that_gives_none_is_exit_1_and_on_the_sheet(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.jpg"
    missing = {"name": "gone", "uri": "/dev/video4711"}
    looked = survey(tmp_path, config_of(BELT, missing), sheet)
    lines = list(looked.lines())
    assert "          /dev/video4711 is not connected" in lines
    assert lines[-1] == f"sheet     {sheet}"
    assert sheet.read_bytes()[:2] == b"\xff\xd8"
    assert looked.exit_code == 1
    assert looked.summary()["sheet"] == str(sheet)


def test_a_camera_whose_keys_must_change_is_exit_78(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Source:
        raise ConfigError("cameras front: needs an OpenCV with GStreamer")

    monkeypatch.setattr("edge.cameras.command.open_source", refuse)
    looked = survey(tmp_path, config_of({"name": "front", "uri": "csi://0"}))
    assert any("needs an OpenCV with GStreamer" in line for line in looked.lines())
    assert looked.exit_code == 78


@pytest.mark.parametrize(
    ("model", "is_jetson", "model_wh"),
    [
        pytest.param("parts.onnx", True, (320, 320), id="a Jetson scales to the model"),
        pytest.param("parts.onnx", False, None, id="software does not scale"),
        pytest.param("absent.onnx", True, None, id="without its model"),
    ],
)
def test_the_pipeline_that_is_tried_is_the_daemons(
    model: str,
    is_jetson: bool,
    model_wh: Optional[Tuple[int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: List[object] = []

    def opened(*arguments: object) -> Source:
        asked.append(arguments[-1])
        raise CaptureError("no camera here")

    machine = Abilities(is_jetson, is_jetson, "OpenCV")
    monkeypatch.setattr(Abilities, "of_this_machine", lambda: machine)
    monkeypatch.setattr("edge.cameras.command.open_source", opened)
    config = config_of({"name": "front", "uri": "csi://0"})
    wanted = config.model.model_copy(update={"path": ASSETS / model})
    looked = survey(tmp_path, config.model_copy(update={"model": wanted}))
    lines = list(looked.lines())
    assert asked == [model_wh]
    is_said = any(line.startswith("model     ") and "own size" in line for line in lines)
    assert is_said is (model == "absent.onnx")
    assert looked.exit_code == 1


def test_without_a_configuration_the_connected_ones_are_suggested(tmp_path: Path) -> None:
    argus(tmp_path)
    bound(tmp_path, 0, "vi-output, imx219 9-0010")
    looked = survey(tmp_path, None)
    lines = list(looked.lines())
    assert "connected csi://0  imx219 9-0010" in lines
    assert lines[-3:] == ["cameras:", "  - name: imx219", "    uri: csi://0"]
    assert looked.exit_code == 0
    assert looked.summary()["suggestions"] == [{"name": "imx219", "uri": "csi://0"}]
    assert looked.summary()["cameras"] == []


def test_a_sheet_without_a_configuration_opens_what_is_connected(tmp_path: Path) -> None:
    (tmp_path / "dev/video0").mkdir(parents=True)  # cannot be opened, whoever runs the tests
    sheet = tmp_path / "sheets/all.jpg"
    looked = survey(tmp_path, None, sheet)
    lines = list(looked.lines())
    assert any(line.startswith("camera    video0  FAILED") for line in lines)
    assert sheet.is_file()
    assert looked.exit_code == 1


@pytest.mark.parametrize(
    ("release", "gstreamer", "is_warned"),
    [
        ("# R35 (release), REVISION: 4.1, GCID: 1", "NO", True),
        ("# R35 (release), REVISION: 4.1, GCID: 1", "YES (1.16.3)", False),
        (None, "NO", False),
    ],
    ids=["a Jetson with pip's OpenCV", "a Jetson with JetPack's", "a laptop"],
)
def test_an_opencv_that_hides_jetpacks(
    release: Optional[str],
    gstreamer: str,
    is_warned: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if release is not None:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc/nv_tegra_release").write_text(release)
    built = f"  Video I/O:\n    GStreamer:                   {gstreamer}\n"
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: built)
    lines: List[str] = list(survey(tmp_path, None).lines())
    assert any("pip uninstall opencv-python" in line for line in lines) is is_warned
