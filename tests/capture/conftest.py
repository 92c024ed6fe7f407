"""Real videos and pictures, made once by FFmpeg."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

import cv2
import numpy as np
import pytest


def ffmpeg(*arguments: str) -> None:
    command = ("ffmpeg", "-v", "error", "-nostdin", "-y", *arguments)
    subprocess.run(command, check=True, timeout=60)


def lavfi_pattern(seconds: float, size: str = "160x120", rate: str = "10") -> Tuple[str, ...]:
    # Not testsrc2, which rounds an odd size down.
    source = f"testsrc=size={size}:rate={rate}:duration={seconds}"
    return ("-f", "lavfi", "-i", source, "-c:v", "libx264", "-g", "10")


@dataclass(frozen=True)
class Media:
    """Files of one folder; `clip` has 12 frames of 160 x 120 at 10 frames a second."""

    folder: Path
    clip: Path
    one_frame: Path
    odd_size: Path
    cut_short: Path
    torn: Path
    text: Path
    audio: Path
    picture_of_text: Path
    raw: Path


def make_pictures(folder: Path) -> None:
    """Grey levels 10, 20, 30 in three formats, among a broken file and a stranger."""
    folder.mkdir()
    for name, level in (("a.PNG", 10), ("b.jpeg", 20), ("d.bmp", 30)):
        encoded = cv2.imencode(Path(name).suffix.lower(), np.full((24, 32, 3), level, np.uint8))[1]
        (folder / name).write_bytes(encoded.tobytes())
    (folder / "c.jpg").write_bytes(b"\xff\xd8 not a picture")
    (folder / "notes.txt").write_text("not a picture either")


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    root = tmp_path_factory.mktemp("media")
    clip, one_frame, odd_size = root / "clip.mp4", root / "one.mp4", root / "odd.mp4"
    index_first, raw = root / "index_first.mp4", root / "raw.h264"
    ffmpeg(*lavfi_pattern(1.2), "-pix_fmt", "yuv420p", str(clip))
    ffmpeg("-i", str(clip), "-frames:v", "1", str(one_frame))
    ffmpeg(*lavfi_pattern(0.3, size="161x121"), "-pix_fmt", "yuv444p", str(odd_size))
    ffmpeg("-i", str(clip), "-c", "copy", "-movflags", "+faststart", str(index_first))
    ffmpeg("-i", str(clip), "-c", "copy", str(raw))
    audio = root / "audio.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", str(audio))
    cut_short, torn = root / "cut_short.mp4", root / "torn.mp4"
    whole = clip.read_bytes()
    cut_short.write_bytes(whole[: len(whole) // 2])  # its index is at the lost end
    whole = index_first.read_bytes()
    torn.write_bytes(whole[: len(whole) * 7 // 10])
    text, picture_of_text = root / "text.mp4", root / "text.jpg"
    text.write_text("no video at all")
    picture_of_text.write_text("no picture at all")
    make_pictures(root / "pictures")
    return Media(
        root, clip, one_frame, odd_size, cut_short, torn, text, audio, picture_of_text, raw
    )
