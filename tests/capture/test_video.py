from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import List

import numpy as np
import pytest

from edge.capture.source import Picture, Source
from edge.capture.v4l2_camera import V4l2Camera
from edge.capture.video import RtspStream, VideoFile, playback_fps
from edge.clock import NS_PER_MS, SystemClock
from edge.config.camera import Transport
from edge.errors import CaptureError
from edge.records import TimestampSource
from tests.capture.conftest import Media, ffmpeg, lavfi_pattern
from tests.capture.rtsp_camera import RtspCamera


def play(source: Source, limit: int = 100) -> List[Picture]:
    source.open()
    pictures: List[Picture] = []
    while len(pictures) < limit:
        picture = source.read()
        if picture is None:
            break
        pictures.append(picture)
    source.close()
    return pictures


def exhaust(source: Source) -> None:
    for _ in range(1000):
        source.read()


def stream(url: str, address: str, transport: Transport = Transport.TCP) -> RtspStream:
    return RtspStream(url, address, transport, SystemClock())


def media_times(pictures: List[Picture]) -> List[float]:
    return [round(picture.media_s or 0.0, 6) for picture in pictures]


def test_plays_every_frame_once_at_the_files_pace(media: Media) -> None:
    pictures = play(VideoFile(media.clip, loop=False))
    assert media_times(pictures) == [round(0.1 * n, 6) for n in range(12)]
    for picture in pictures:
        assert picture.image.shape == (120, 160, 3)
        assert picture.image.dtype == np.uint8
        assert picture.image.flags.c_contiguous


def test_frames_do_not_share_memory(media: Media) -> None:
    first, second = play(VideoFile(media.clip, loop=False), limit=2)
    assert not np.shares_memory(first.image, second.image)
    assert not np.array_equal(first.image, second.image)


@pytest.mark.parametrize("name", ["clip.mp4", "raw.h264"])
def test_loop_repeats_the_frames_while_time_goes_on(media: Media, name: str) -> None:
    pictures = play(VideoFile(media.folder / name, loop=True), limit=30)
    times = np.diff(media_times(pictures))
    assert len(pictures) == 30
    assert np.allclose(times, times[0], atol=1e-5)
    assert times[0] > 0
    for early, late in zip(pictures[:18], pictures[12:]):
        assert np.array_equal(early.image, late.image)


def test_as_fast_as_it_decodes_there_is_no_time(media: Media) -> None:
    pictures = play(VideoFile(media.clip, loop=True, realtime=False), limit=15)
    assert [picture.media_s for picture in pictures] == [None] * 15


def test_a_new_size_in_mid_stream_does_not_end_it(media: Media, tmp_path: Path) -> None:
    clips = [tmp_path / "small.ts", tmp_path / "large.ts"]
    for clip, size in zip(clips, ("160x120", "320x240")):
        ffmpeg(*lavfi_pattern(1, size=size), "-pix_fmt", "yuv420p", str(clip))
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(clip.read_bytes() for clip in clips))
    pictures = play(VideoFile(both, loop=False))
    assert len(pictures) == 20
    # OpenCV 4.5.4 hands over the new size; newer ones stretch it to the first.
    assert {picture.image.shape for picture in pictures[10:]} <= {(240, 320, 3), (120, 160, 3)}
    assert not np.array_equal(pictures[18].image, pictures[19].image)


def test_opening_again_starts_over(media: Media) -> None:
    source = VideoFile(media.clip, loop=False)
    before, after = play(source, limit=5), play(source)
    assert len(after) == 12
    assert after[0].media_s == 0
    assert np.array_equal(before[0].image, after[0].image)


def test_a_video_of_one_frame_loops(media: Media) -> None:
    assert len(play(VideoFile(media.one_frame, loop=False))) == 1
    assert len(play(VideoFile(media.one_frame, loop=True), limit=5)) == 5


def test_odd_sizes_keep_their_last_row_and_column(media: Media) -> None:
    assert play(VideoFile(media.odd_size, loop=False))[0].image.shape == (121, 161, 3)


def test_a_torn_recording_plays_what_is_there(media: Media) -> None:
    assert 0 < len(play(VideoFile(media.torn, loop=False))) < 12


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("absent.mp4", "No such file", id="missing"),
        pytest.param("pictures", "Is a directory", id="a folder"),
        pytest.param("text.mp4", "not a video", id="text"),
        pytest.param("audio.mp4", "not a video", id="sound only"),
        pytest.param("cut_short.mp4", "cut short", id="without its index"),
        pytest.param("text.jpg", "no frame", id="a picture that is none"),
    ],
)
def test_a_bad_file_is_named_with_the_reason(media: Media, name: str, words: str) -> None:
    source = VideoFile(media.folder / name, loop=True)
    with pytest.raises(CaptureError, match=words) as caught:
        play(source)
    assert str(media.folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    source.close()


def test_a_file_that_vanishes_while_looping_is_an_error(media: Media, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(media.clip.read_bytes())
    source = VideoFile(path, loop=True)
    source.open()
    path.unlink()
    for _ in range(12):
        assert source.read() is not None
    with pytest.raises(CaptureError, match="No such file"):
        source.read()
    source.close()


@pytest.mark.parametrize(
    ("reported", "fps"),
    [
        (29.97, 29.97),
        (0.2, 0.2),
        (240.0, 240.0),
        (240.1, 25.0),
        (90_000.0, 25.0),
        (0.0, 25.0),
        (-1.0, 25.0),
        (math.nan, 25.0),
        (math.inf, 25.0),
    ],
)
def test_an_absurd_pace_is_replaced(reported: float, fps: float) -> None:
    assert playback_fps(reported) == fps


def test_closing_is_always_allowed(media: Media) -> None:
    for source in (
        VideoFile(media.clip, loop=True),
        stream("rtsp://h", "h"),
        V4l2Camera(media.clip),
    ):
        source.close()
        source.close()


def test_a_camera_that_refuses_is_named_without_its_password() -> None:
    # Port 9 (discard) of this machine refuses at once.
    source = stream("rtsp://user:secret@127.0.0.1:9/stream", "127.0.0.1:9")
    with pytest.raises(CaptureError, match=r"127\.0\.0\.1:9") as caught:
        source.open()
    assert "secret" not in str(caught.value)


def assert_times_of_the_camera(source: Source) -> None:
    """Its frames are 100 ms apart, or less where one came faster than all before."""
    pictures = [picture for picture in (source.read() for _ in range(6)) if picture]
    assert {picture.ts_source for picture in pictures} == {TimestampSource.PTS}
    times = [picture.captured_ns for picture in pictures if picture.captured_ns is not None]
    gaps_ms = [(late - early) / NS_PER_MS for early, late in zip(times, times[1:])]
    assert len(gaps_ms) == 5
    assert all(0 <= gap_ms < 100.1 for gap_ms in gaps_ms), gaps_ms
    assert times[-1] <= SystemClock().monotonic_ns()


def test_a_network_camera_delivers_until_it_breaks_off(media: Media, tmp_path: Path) -> None:
    with RtspCamera(media.clip, tmp_path) as camera:
        address = f"127.0.0.1:{camera.port}"
        source = stream(f"rtsp://{address}/stream", address)
        source.open()
        picture = source.read()
        assert picture is not None
        assert picture.image.shape == (120, 160, 3)
        assert picture.media_s is None
        assert_times_of_the_camera(source)
    with pytest.raises(CaptureError, match=f"{address} broke off"):
        exhaust(source)
    source.close()


@pytest.mark.parametrize(
    ("device", "words"),
    [("/dev/video4711", "No such file"), ("/dev/null", "no camera")],
    ids=["absent", "no camera"],
)
def test_a_device_that_is_no_camera_is_named(device: str, words: str) -> None:
    with pytest.raises(CaptureError, match=words) as caught:
        V4l2Camera(Path(device)).open()
    assert device in str(caught.value)


SILENT_SCRIPT = """
import sys, cv2
from pathlib import Path
from edge.capture.opencv import silence_decoders
from edge.capture.video import VideoFile
from edge.errors import CaptureError
silence_decoders()
try:
    VideoFile(Path(sys.argv[1]), loop=False).open()
except CaptureError as error:
    print(error)
"""


def has_adjustable_logging() -> bool:
    import cv2

    return hasattr(cv2.utils, "logging")


@pytest.mark.skipif(not has_adjustable_logging(), reason="this OpenCV cannot be silenced")
def test_decoders_keep_off_the_terminal(media: Media) -> None:
    command = [sys.executable, "-c", SILENT_SCRIPT, str(media.cut_short)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "cut short" in done.stdout
    assert done.stderr == ""
