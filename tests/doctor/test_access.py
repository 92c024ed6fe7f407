"""Device nodes and sockets, and whether this user may open them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict

import pytest

from edge.doctor.access import Access, Node, judge_access, look_at_access
from tests.health.sysfs_files import write_files

OPEN = (Node("/dev/a", "video", True),)
SHUT = (Node("/dev/a", "video", True), Node("/dev/b", "render", False), Node("/dev/c", "9", False))
JETSON = {"is_jetson": True, "needs_argus": False, "needs_camera": False}
LAPTOP = {**JETSON, "is_jetson": False}
CSI = {**JETSON, "needs_argus": True}
USB = {**LAPTOP, "needs_camera": True}

ROWS: Dict[str, Any] = {
    "cameras": ({"cameras": OPEN}, LAPTOP, "video nodes", "ok", "eve may open /dev/a"),
    "no camera": ({}, LAPTOP, "video nodes", "not here", "no USB camera"),
    "no camera, and one is wanted": ({}, USB, "video nodes", "fault", "--device /dev/video0"),
    "not in its group": (
        {"cameras": SHUT}, LAPTOP, "video nodes", "fault",
        "may not open /dev/b and 1 more; sudo usermod -aG 9,render eve",
    ),
    "a GPU": ({"gpu": OPEN}, JETSON, "GPU nodes", "ok", ""),
    "a GPU not ours": ({"gpu": SHUT}, JETSON, "GPU nodes", "warning", "--group-add 9,render"),
    "a container without its GPU": ({}, JETSON, "GPU nodes", "fault", "--runtime nvidia"),
    "no GPU": ({}, LAPTOP, "GPU nodes", "not here", ""),
    "Argus": ({"argus": OPEN}, CSI, "Argus", "ok", ""),
    "Argus is not ours": ({"argus": SHUT}, CSI, "Argus", "fault", "usermod"),
    "no Argus": ({}, JETSON, "Argus", "warning", "nvargus-daemon"),
    "no Argus, and a CSI camera": ({}, CSI, "Argus", "fault", "nvargus-daemon"),
    "no Argus elsewhere": ({}, LAPTOP, "Argus", "not here", "only a Jetson"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "setting", "subject", "verdict", "said"), ROWS.values(), ids=ROWS
)
def test_row(
    nodes: Dict[str, Any], setting: Dict[str, bool], subject: str, verdict: str, said: str
) -> None:
    found = {f.subject: f for f in judge_access(Access("eve", **nodes), **setting)}
    assert len(found) == 3
    assert found[subject].verdict.value == verdict
    assert said in f"{found[subject].words}; {found[subject].fix}"


def test_nodes(tmp_path: Path) -> None:
    names = ("dev/video0", "dev/video10", "dev/videology", "dev/nvhost-ctrl-gpu", "dev/nvmap")
    files = {
        name: ""
        for name in (*names, "dev/nvgpu/igpu0/as", "dev/nvgpu/igpu0/prof", "tmp/argus_socket")
    }
    looked = look_at_access(write_files(tmp_path, files))
    assert [node.path for node in looked.cameras] == [
        str(tmp_path / name) for name in ("dev/video0", "dev/video10")
    ]
    assert len(looked.gpu) == 3
    assert [node.is_open for node in looked.argus] == [True]
    assert looked.user


def test_nodes_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path, {"dev/video0": ""})
    monkeypatch.setattr(os, "access", lambda path, how: False)  # root may open everything
    (node,) = look_at_access(tmp_path).cameras
    assert not node.is_open


def test_a_number_without_a_name(tmp_path: Path) -> None:
    path = write_files(tmp_path, {"dev/video0": ""}) / "dev/video0"
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(path, -1, 54321)
    (node,) = look_at_access(tmp_path).cameras
    assert node.group == "54321"
