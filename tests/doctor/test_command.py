"""`edge doctor` as a whole, on every machine's files and as the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Optional

import pytest
import yaml

from edge.cli import main
from edge.config.schema import Config
from edge.demo.show import ASSETS
from edge.doctor import libraries
from edge.doctor.command import Doctor
from edge.doctor.libraries import Libraries
from tests.doctor.test_software import GOOD
from tests.health.roots import ROOTS
from tests.health.sysfs_files import write_files
from tests.mosquitto import Broker

ALWAYS = [
    *("Python", "numpy", "OpenCV", "GStreamer", "TensorRT", "pycuda", "GPU", "ONNX Runtime"),
    *("network", "video nodes", "GPU nodes", "Argus", "jtop", "disk", "clock", "RTC"),
    *("memory", "CPU", "tasks", "MIG", "MPS", "sparsity"),
]
JETSONS = ["module", "JetPack", "power mode", "jetson_clocks"]


def config_of(state_dir: Path, port: int, **keys: Any) -> Dict[str, Any]:
    return {
        "device": {"id": "nx", "state_dir": str(state_dir)},
        "model": {"path": str(ASSETS / "parts.onnx")},
        "cameras": [{"name": "a", "uri": "synthetic://1"}],
        "mqtt": {"port": port},
        **keys,
    }


def look(root: Path, config: Optional[Dict[str, Any]] = None) -> Doctor:
    doctor = Doctor(None if config is None else Config.model_validate(config), root, root)
    lines = list(doctor.lines())
    found = doctor.summary()["findings"]
    assert len(lines) == len(found) + 1
    return doctor


def verdicts(doctor: Doctor) -> Dict[str, str]:
    return {found["subject"]: found["verdict"] for found in doctor.summary()["findings"]}


@pytest.fixture
def good_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    def survey() -> Libraries:
        return GOOD

    monkeypatch.setattr(libraries, "survey", survey)


@pytest.mark.usefixtures("good_libraries")
@pytest.mark.parametrize("name", ROOTS)
def test_every_machine_without_a_configuration(tmp_path: Path, name: str) -> None:
    found = verdicts(look(write_files(tmp_path, ROOTS[name])))
    is_jetson = name != "laptop"
    first = JETSONS if is_jetson else ["module"]
    assert list(found) == [*first, *ALWAYS, "broker", "calibration", "engines"]
    assert found["jtop"] == ("warning" if is_jetson else "not here")
    assert found["Argus"] == ("warning" if is_jetson else "not here")
    assert found["GPU nodes"] == ("fault" if is_jetson else "not here")
    assert {found[name] for name in ("broker", "calibration", "engines")} == {"not here"}


@pytest.mark.usefixtures("good_libraries")
def test_a_csi_camera_needs_argus(tmp_path: Path) -> None:
    root = write_files(tmp_path, ROOTS["xavier nx"])
    cameras = [{"name": "front", "uri": "csi://0"}, {"name": "usb", "uri": "/dev/video0"}]
    config = config_of(tmp_path, 1, cameras=cameras)
    doctor = look(root, config)
    found = verdicts(doctor)
    assert (found["Argus"], found["video nodes"]) == ("fault", "fault")
    assert doctor.exit_code == 1
    for camera in cameras:
        camera["enabled"] = False  # type: ignore[assignment]
    found = verdicts(look(root, config))
    assert (found["Argus"], found["video nodes"]) == ("warning", "not here")


@pytest.mark.usefixtures("good_libraries")
def test_what_a_configuration_names(tmp_path: Path, broker: Broker) -> None:
    calibration = {"folder": str(tmp_path)}
    config = config_of(tmp_path, broker.port, calibration=calibration)
    found = verdicts(look(write_files(tmp_path, ROOTS["laptop"]), config))
    assert found["broker access"] == "ok"
    assert found["calibration"] == "fault"
    assert found["engines"] == "not here"


def write(path: Path, config: Dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(config))
    return str(path)


def test_command_as_json(
    tmp_path: Path, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "config.yaml", config_of(tmp_path, broker.port))
    code = main(["doctor", "--json", "-c", path])
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "edge.doctor/1"
    assert said["exit_code"] == code
    assert code == (1 if said["counts"]["fault"] else 0)
    found = {finding["subject"]: finding["verdict"] for finding in said["findings"]}
    assert found["broker access"] == found["network"] == "ok"


def test_command_with_a_fault_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "config.yaml", config_of(tmp_path / "state", 1))
    assert main(["doctor", "-c", path]) == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]
    lines = said.out.splitlines()
    assert any(line.startswith("fault     broker port   1: Connection refused") for line in lines)
    assert " fault" in lines[-1]


def test_a_wrong_configuration_is_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "config.yaml", {"cameras": 3})
    assert main(["doctor", "-c", path]) == 78
    assert main(["doctor", "-c", str(tmp_path / "absent.yaml")]) == 78
    assert capsys.readouterr().out == ""


# All but what reads a configuration.
BARE = """
import sys
sys.modules.update(dict.fromkeys(
    ("cv2", "numpy", "psutil", "paho", "onnx", "onnxruntime", "ddsketch", "prometheus_client")
))
from edge.cli import main
sys.exit(main(["doctor", "--json", "-c", sys.argv[1]]))
"""


def test_it_runs_where_libraries_are_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "config.yaml", config_of(tmp_path, 1))
    ended = subprocess.run(
        [sys.executable, "-c", BARE, path], capture_output=True, timeout=120, check=False
    )
    said = json.loads(ended.stdout)
    assert ended.returncode == said["exit_code"]
    found = {finding["subject"]: finding for finding in said["findings"]}
    assert "paho" in found["broker"]["words"]
    assert found["disk"]["verdict"] == "ok"
    assert b"Traceback" not in ended.stderr
