from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import List

import cv2
import numpy as np
import pytest

from edge.demo.gallery import Gallery
from edge.errors import ConfigError
from edge.geometry import Image
from tests.demo.results import frame_result

NAMES = ("bolt", "nut", "washer", "gear")


def picture() -> Image:
    return np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)


def unexpected(name: str, error: BaseException) -> None:
    raise AssertionError(f"{name}: {error!r}")


def gallery(folder: Path) -> Gallery:
    return Gallery(folder, lambda: NAMES)


def test_saves_one_frame_per_second_and_a_contact_sheet(tmp_path: Path) -> None:
    shown = gallery(tmp_path / "new" / "folder")
    shown.start(unexpected)
    for frame_id in range(31):  # three seconds at ten a second
        shown.offer(frame_result(frame_id, frame_id / 10, count=frame_id % 4, image=picture()))
    saved = shown.finish(10)
    names = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert names == [
        "cam-000000.jpg",
        "cam-000010.jpg",
        "cam-000020.jpg",
        "cam-000030.jpg",
        "contact-sheet.jpg",
    ]
    assert saved["pictures"] == 4
    assert saved["dropped"] == 0
    sheet = cv2.imread(saved["contact_sheet"])
    assert sheet is not None
    assert sheet.shape[1] == 3 * 480


def test_the_contact_sheet_shows_the_fullest_frames(tmp_path: Path) -> None:
    shown = gallery(tmp_path)
    shown.start(unexpected)
    for second, count in enumerate((0, 3, 1, 2, 0)):
        shown.offer(frame_result(second, second, count=count, image=picture()))
    shown.finish(10)
    assert sorted(kept.count for kept in shown._kept["cam"]) == [1, 2, 3]


def test_without_a_picture_there_is_no_sheet(tmp_path: Path) -> None:
    shown = gallery(tmp_path)
    shown.start(unexpected)
    shown.offer(frame_result(0, 0.0))  # the source frame was not kept
    assert shown.finish(10) == {"pictures": 0, "dropped": 0, "contact_sheet": None}


def test_a_folder_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--save .*file.*Not a directory|File exists"):
        gallery(tmp_path / "file" / "out").start(unexpected)


FULL_DISK = """
import json, logging, resource, sys
from pathlib import Path
from tests.demo.test_gallery import frame_result, gallery, picture, unexpected

logging.basicConfig(stream=sys.stderr, format="%(message)s")
# Every write to a file fails beyond 100 bytes, as on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
shown = gallery(Path(sys.argv[1]))
shown.start(unexpected)
for second in range(3):
    shown.offer(frame_result(second, second, image=picture()))
print(json.dumps(shown.finish(10)))
"""


def test_a_full_disk_is_said_once_and_counted(tmp_path: Path) -> None:
    # In a process of its own: the limit would hit the test run's log file as well.
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(ended.stdout) == {"pictures": 0, "dropped": 3, "contact_sheet": None}
    assert list(tmp_path.iterdir()) == []
    assert ended.stderr.count("cannot save") == 1


def test_a_slow_disk_costs_pictures_but_never_blocks(tmp_path: Path) -> None:
    shown = gallery(tmp_path)
    held = threading.Event()
    names_asked: List[int] = []

    def slow_names() -> tuple[str, ...]:
        names_asked.append(1)
        held.wait(10)
        return NAMES

    shown = Gallery(tmp_path, slow_names)
    shown.start(unexpected)
    for second in range(40):
        shown.offer(frame_result(second, second, image=picture()))
    assert shown.dropped >= 40 - 1 - 16 - 1
    held.set()
    saved = shown.finish(20)
    assert saved["pictures"] + saved["dropped"] == 40
