"""`edge cameras` as a process: files, folders, scenes, and network cameras that go wrong."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import yaml

from edge.demo.show import ASSETS
from tests.capture.survey.rtsp_responder import RtspResponder, reply, script
from tests.e2e.daemon import MODEL, Edge
from tests.mosquitto import wait_for

StartEdge = Callable[..., Edge]

GOOD: List[Dict[str, Any]] = [
    {"name": "belt", "uri": str(ASSETS / "belt.mp4")},
    {"name": "images", "uri": str(ASSETS / "images"), "fps": 4},
    {"name": "scene", "uri": "synthetic://7?size=320x240"},
]
OFF = {"name": "yard", "uri": "/dev/video4711", "enabled": False}
REFUSES = reply(401, 'WWW-Authenticate: Digest realm="camera", nonce="n"')


def write(folder: Path, cameras: List[Dict[str, Any]]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"model": {"path": str(MODEL)}, "cameras": cameras}))
    return path


def test_all_is_well(tmp_path: Path, edge: StartEdge) -> None:
    sheet = tmp_path / "sheet.jpg"
    process = edge("cameras", "-c", write(tmp_path, [*GOOD, OFF]), "--sheet", sheet)
    assert process.wait() == 0, process.stderr
    text = process.stdout()
    cameras = [line.split() for line in text.splitlines() if line.startswith("camera ")]
    assert [line[1:4] for line in cameras] == [
        ["belt", "ok", "1280x720"],
        ["images", "ok", "480x640"],
        ["scene", "ok", "320x240"],
        ["yard", "disabled", "-"],
    ]
    assert [line[4] for line in cameras[:3]] == ["25.0", "4.0", "10.0"]
    assert sheet.read_bytes().startswith(b"\xff\xd8")


@pytest.mark.timeout(240)
def test_what_is_wrong_and_what_to_do(tmp_path: Path, edge: StartEdge) -> None:
    with RtspResponder(script(DESCRIBE=REFUSES)) as login, RtspResponder(
        script(DESCRIBE=reply(404))
    ) as path, RtspResponder(script(OPTIONS=None)) as silent, socket.create_server(
        ("127.0.0.1", 0)
    ) as free:
        closed_port = free.getsockname()[1]
        free.close()
        addresses = {
            "login": login.address,
            "path": path.address,
            "silent": silent.address,
            "closed": f"127.0.0.1:{closed_port}",
        }
        cameras = [
            {"name": name, "uri": f"rtsp://admin:secret@{address}/live"}
            for name, address in addresses.items()
        ]
        config = write(tmp_path, [GOOD[0], *cameras, {"name": "gone", "uri": "none.mp4"}])
        process = edge("cameras", "-c", config, "--json", "--timeout", "4")
        assert process.wait(timeout_s=120) == 1, process.stderr
    text = process.stdout()
    assert "secret" not in text + process.stderr
    found = {camera["name"]: camera for camera in json.loads(text)["cameras"]}
    assert found["belt"]["state"] == "ok"
    expected = {
        "login": "does not accept the user or the password",
        "path": "has no such stream",
        "silent": "takes the connection, but does not answer",
        "closed": "refuses the connection",
        "gone": "No such file",
    }
    for name, words in expected.items():
        assert found[name]["state"] == "failed"
        assert words in found[name]["reason"], found[name]
    for name in addresses:
        assert found[name]["advice"]
        assert found[name]["uri"] == f"rtsp://***@{addresses[name]}/live"


def test_without_a_configuration(edge: StartEdge) -> None:
    process = edge("cameras", "--json")
    assert process.wait() == 0, process.stderr
    found = json.loads(process.stdout())
    assert found["schema"] == "edge.cameras/1"
    assert found["cameras"] == []
    assert isinstance(found["opencv"]["gstreamer"], bool)


@pytest.mark.parametrize(
    ("cameras", "words"),
    [
        ([{"name": "a", "uri": "http://h/s"}], "unknown kind http://"),
        ([{"name": "a", "uri": "csi://0"}], "a csi:// camera needs"),
    ],
    ids=["no source", "what this machine lacks"],
)
def test_a_wrong_configuration_is_exit_78(
    cameras: List[Dict[str, Any]], words: str, tmp_path: Path, edge: StartEdge
) -> None:
    process = edge("cameras", "-c", write(tmp_path, cameras))
    assert process.wait() == 78
    assert words in process.stdout() + process.stderr


def test_a_sheet_that_cannot_be_written_is_one_line(tmp_path: Path, edge: StartEdge) -> None:
    config = write(tmp_path, GOOD[2:])
    process = edge("cameras", "-c", config, "--sheet", tmp_path / "config.yaml" / "x.jpg")
    assert process.wait() == 70
    assert process.stderr.startswith("edge cameras: cannot write: ")
    assert len(process.stderr.splitlines()) == 1


def test_ctrl_c_ends_it_while_a_camera_hangs(tmp_path: Path, edge: StartEdge) -> None:
    with RtspResponder(script(OPTIONS=None)) as silent:
        hanging = {"name": "silent", "uri": f"rtsp://{silent.address}/live"}
        process = edge("cameras", "-c", write(tmp_path, [hanging]), "--timeout", "300")
        wait_for(lambda: bool(silent.methods), "the camera to be asked")
        process.signal(signal.SIGINT)
        assert process.wait() == -signal.SIGINT
