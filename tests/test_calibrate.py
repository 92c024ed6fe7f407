"""`edge calibrate` with a real model, a real clip, real folders and a synthetic camera."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge.building.image_file import look_at
from edge.building.likeness import is_alike
from edge.calibrate import Collector, Schedule, even_shares, write_frame
from edge.cli import main
from edge.config.load import load
from edge.demo.show import ASSETS
from edge.errors import CaptureError, ConfigError
from edge.records import Frame, FrameInfo, TimestampSource
from tests.building.calibration_folder import encoded, fill, picture

CLIP = {"name": "belt", "uri": str(ASSETS / "belt.mp4")}
LIVE = {"name": "live", "uri": "synthetic://3?size=96x64", "fps": 20}
GONE = {"name": "gone", "uri": "none.mp4"}
HANG_S = 60.0


def write(folder: Path, **changes: Any) -> Path:
    content: Dict[str, Any] = {
        "device": {"id": "nx", "state_dir": str(folder / "state")},
        "model": {"path": str(ASSETS / "parts.onnx")},
        "calibration": {"folder": "frames"},
        "cameras": [CLIP],
        **changes,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def still(folder: Path, name: str = "still", loop: bool = True) -> Dict[str, Any]:
    """A camera that shows the same picture again and again."""
    (folder / name).mkdir()
    (folder / name / "a.png").write_bytes(encoded(picture(1), ".png"))
    return {"name": name, "uri": name, "fps": 50, "loop": loop}


def collected(
    config: Path, seconds: float, images: int, stop: Optional[threading.Event] = None
) -> List[str]:
    collector = Collector(load(config, {}), config.parent, seconds, images)
    return list(collector.lines(stop or threading.Event()))


# --- the schedule ------------------------------------------------------------------------------


@given(st.integers(1, 50), st.integers(1, 10_000), st.integers(1, 200))
def test_with_a_frame_always_there_each_part_of_the_span_gives_one(
    count: int, span_ns: int, step_ns: int
) -> None:
    schedule = Schedule(1000, span_ns, count)
    taken: List[int] = []
    for now_ns in range(1000, 1000 + span_ns, step_ns):
        if schedule.is_due(now_ns):
            schedule.fill(now_ns)
            taken.append((now_ns - 1000) * count // span_ns)
    assert taken == sorted(set(taken))
    assert set(taken) == {(at * count) // span_ns for at in range(0, span_ns, step_ns)}
    assert not schedule.is_due(1000 + span_ns)


def test_a_missed_part_is_not_made_up_for() -> None:
    schedule = Schedule(0, 100, 10)
    assert schedule.is_due(35)
    schedule.fill(35)
    assert not schedule.is_due(39)
    assert schedule.is_due(40)


def test_a_refused_picture_is_tried_again_within_its_part() -> None:
    schedule = Schedule(0, 1000, 10)
    schedule.put_off(300)
    assert not schedule.is_due(309)
    assert schedule.is_due(310)


def test_the_last_part_ends_it_and_no_part_is_never_due() -> None:
    schedule = Schedule(0, 100, 2)
    schedule.fill(10)
    assert not schedule.is_over
    schedule.fill(50)
    assert schedule.is_over
    assert Schedule(0, 100, 0).is_over
    assert not Schedule(0, 100, 0).is_due(0)


@pytest.mark.parametrize(
    ("total", "parts", "expected"),
    [(500, 3, [167, 167, 166]), (2, 3, [1, 1, 0]), (6, 3, [2, 2, 2]), (5, 1, [5])],
)
def test_even_shares(total: int, parts: int, expected: List[int]) -> None:
    assert even_shares(total, parts) == expected


# --- collecting --------------------------------------------------------------------------------


def test_all_cameras_give_their_share_of_different_frames(tmp_path: Path) -> None:
    cameras = [CLIP, LIVE, still(tmp_path), GONE, {**GONE, "name": "off", "enabled": False}]
    lines = collected(write(tmp_path, cameras=cameras), 2.0, 32)
    files = sorted((tmp_path / "frames").iterdir())
    of = {name: [f for f in files if f.name.startswith(f"{name}-")] for name in ("belt", "live")}
    assert 2 <= len(of["belt"]) <= 8
    assert 2 <= len(of["live"]) <= 8
    for path in files:
        assert re.fullmatch(r"(belt|live|still)-\d{8}T\d{6}Z-\d{4}\.jpg", path.name)
    looks = [look_at(path.read_bytes()) for path in of["belt"]]
    thumbnails = [
        look.thumbnail for look in looks if look is not None and look.size_wh == (1280, 720)
    ]
    assert len(thumbnails) == len(of["belt"])
    assert not any(is_alike(one, other) for one, other in zip(thumbnails, thumbnails[1:]))
    text = "\n".join(lines)
    assert lines[0].endswith("32 images from 4 cameras over 2 s; Ctrl-C ends and keeps them")
    assert re.search(r"kept, \d+ skipped as alike; gone is offline$", text, re.M)
    assert re.search(r"^camera    still: 1 kept, [1-9]\d* skipped as alike$", text, re.M)
    assert re.search(r"gone: 0 kept, 0 skipped as alike; offline: .*none.mp4", text)
    assert "off:" not in text
    assert lines[-1] == f"kept      {len(files)} of 32 in {tmp_path / 'frames'}"


def test_a_second_time_overwrites_nothing(tmp_path: Path) -> None:
    config = write(tmp_path, cameras=[LIVE])
    collected(config, 1.0, 4)
    before = {path: path.read_bytes() for path in (tmp_path / "frames").iterdir()}
    collected(config, 1.0, 4)
    after = {path: path.read_bytes() for path in (tmp_path / "frames").iterdir()}
    assert len(after) > len(before) > 0
    assert {path: after[path] for path in before} == before


def test_it_is_over_when_the_recordings_are(tmp_path: Path) -> None:
    lines = collected(write(tmp_path, cameras=[still(tmp_path, loop=False)]), 3600, 3600)
    assert lines[0].endswith("3600 images from 1 cameras over 1 h; Ctrl-C ends and keeps them")
    assert lines[-1].startswith("kept      1 of 3600")
    assert "ended: the recording is over" in lines[-2]


def test_it_is_over_when_every_share_is_taken(tmp_path: Path) -> None:
    lines = collected(write(tmp_path, cameras=[LIVE]), 3600, 1)
    assert lines[-1].startswith("kept      1 of 1")


def test_no_frame_of_any_camera_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="no camera has delivered a frame"):
        collected(write(tmp_path, cameras=[GONE]), 0.3, 4)


def test_a_stop_keeps_what_there_is(tmp_path: Path) -> None:
    stop = threading.Event()
    collector = Collector(load(write(tmp_path, cameras=[LIVE, GONE]), {}), tmp_path, 30.0, 300)
    seen: List[str] = []
    for line in collector.lines(stop):
        seen.append(line)
        if " %   " in line:
            stop.set()
    kept = len(list((tmp_path / "frames").iterdir()))
    assert kept > 0
    assert seen[-1].startswith(f"kept      {kept} of 300")


def test_ctrl_c_ends_the_command_in_order(tmp_path: Path) -> None:
    config = write(tmp_path, cameras=[LIVE])
    arguments = ("calibrate", "-c", str(config), "--collect", "--hours", "0.01", "--images", "500")
    command = [sys.executable, "-m", "edge", *arguments]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    deadline_s = time.monotonic() + HANG_S
    while not list(tmp_path.glob("frames/*.jpg")):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    text, _ = running.communicate(timeout=HANG_S)
    assert running.returncode == 0
    assert re.search(r"^kept      [1-9]\d* of 500 in ", text, re.M)


def full_disk(arguments: List[str], limit_bytes: int) -> subprocess.CompletedProcess[str]:
    """Runs the command where no file may become larger, as on a disk that is full."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.run(
        [sys.executable, "-B", "-m", "edge", "--log-level", "error", *arguments],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        preexec_fn=limit,
    )


def test_a_full_disk_is_one_line_and_leaves_no_half_image(tmp_path: Path) -> None:
    config = write(tmp_path)
    ended = full_disk(
        ["calibrate", "-c", str(config), "--collect", "--seconds", "5", "--images", "20"], 4096
    )
    assert ended.returncode == 78
    assert re.fullmatch(
        r"edge calibrate: cannot write .*frames/belt-\S+\.jpg: File too large; make room, or "
        r"choose another calibration\.folder \(0 images are kept\)\n",
        ended.stderr,
    )
    assert list((tmp_path / "frames").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    config = write(tmp_path, calibration={"folder": "file/frames"})
    assert main(["calibrate", "-c", str(config), "--collect", "--seconds", "1"]) == 78
    seen = capsys.readouterr()
    assert "file/frames cannot be written: Not a directory; make it writable" in seen.err
    assert len(seen.err.splitlines()) == 1


def test_a_file_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    info = FrameInfo("gate", 0, (96, 64), 0, 1_700_000_000_999, TimestampSource.RECEIVE)
    frame = Frame(info, picture(1))
    (tmp_path / "gate-20231114T221320Z-0007.jpg").write_text("older")
    path = write_frame(tmp_path, frame, 7)
    assert path.name == "gate-20231114T221320Z-0008.jpg"
    image = cv2.imread(str(path))
    assert np.abs(np.asarray(image, np.int16) - picture(1)).mean() < 3
    assert (tmp_path / "gate-20231114T221320Z-0007.jpg").read_text() == "older"


def test_a_folder_that_vanishes_is_said(tmp_path: Path) -> None:
    collector = Collector(load(write(tmp_path, cameras=[LIVE]), {}), tmp_path, 30.0, 300)
    lines: Iterator[str] = collector.lines(threading.Event())
    next(lines)
    shutil.rmtree(tmp_path / "frames")
    with pytest.raises(ConfigError, match=r"No such file or directory.*\(0 images are kept\)$"):
        list(lines)


# --- the lint ----------------------------------------------------------------------------------


def test_the_lint_holds_images_against_model_and_cameras(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill(tmp_path / "frames", 40)
    (folder / "000.txt").write_text("6 .5 .5 .5 .5\n0 .5 .5 .1 .1")
    config = write(tmp_path, cameras=[CLIP, GONE])
    assert main(["calibrate", "-c", str(config)]) == 0
    text = capsys.readouterr().out
    for expected in (
        f"folder    {folder}\n",
        "model     parts, input 320x320, 7 classes\n",
        "camera    belt: 1280x720, brightness ",
        "camera    gone: not compared: ",
        "images    40: 96x64 40\n",
        "labels    of 1 images, 2 objects\n",
        "! 460 images short of the 500",
        "! 40 images are smaller than the model's input, 320x320",
        "! 40 images are of another shape than any camera's frames (1280x720)",
        "! no image has the shape of camera belt's frames, 1280x720",
        "! 39 images are without a label file",
    ):
        assert expected in text
    calibration, held_out = map(int, re.findall(r"split     (\d+) to .*, (\d+) to judge", text)[0])
    assert calibration + held_out == 40
    assert re.search(r"^content   [0-9a-f]{64}$", text, re.M)
    assert re.search(r"^\d+ to mend$", text, re.M)


BAD: Dict[str, Any] = {
    "no folder given": ({"calibration": {}}, "calibration.folder is not given"),
    "missing": ({"calibration": {"folder": "none"}}, "none does not exist"),
    "empty": ({"calibration": {"folder": "empty"}}, "empty has no images"),
    "not a folder": ({"calibration": {"folder": "config.yaml"}}, "config.yaml is not a folder"),
    "empty name": ({"calibration": {"folder": ""}}, "calibration.folder: must not be empty"),
    "one image": ({"calibration": {"folder": "one"}}, "only 1 of its 1 images can be used"),
    "bad labels": ({}, "000.txt:1: class 7 does not exist: the model has 0 to 6"),
    "no model": ({"model": {"path": "none.onnx"}}, "none.onnx"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_one_line_and_exit_78(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, expected = BAD[name]
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "one", 1)
    (fill(tmp_path / "frames", 20) / "000.txt").write_text("7 .5 .5 .5 .5")
    config = write(tmp_path, **{"cameras": [LIVE], **changes})
    assert main(["calibrate", "-c", str(config)]) == 78
    seen = capsys.readouterr().err
    assert expected in seen
    assert len(seen.splitlines()) == 1


def test_cameras_are_needed_to_collect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, cameras=[{**LIVE, "enabled": False}])
    assert main(["calibrate", "-c", str(config), "--collect"]) == 78
    assert "none is enabled" in capsys.readouterr().err


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", "--help"])
    assert ended.value.code == 0
    assert "--collect" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--seconds", "5"], id="time without collecting"),
        pytest.param(["--images", "5"], id="count without collecting"),
        pytest.param(["--collect", "--seconds", "5", "--hours", "1"], id="two times"),
        pytest.param(["--collect", "--images", "0"], id="no images"),
        pytest.param(["--collect", "--images", "2.5"], id="half an image"),
        pytest.param(["--collect", "--hours", "-1"], id="negative hours"),
    ],
)
def test_wrong_use_is_exit_2(
    arguments: List[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", "-c", str(write(tmp_path)), *arguments])
    assert ended.value.code == 2
    assert "usage: edge calibrate" in capsys.readouterr().err


def test_the_folder_is_relative_to_the_file(tmp_path: Path) -> None:
    config = load(write(tmp_path), os.environ)
    assert config.calibration.folder == tmp_path / "frames"
