"""Every pipeline of a Jetson, run by real GStreamer with its own elements substituted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
import pytest

from edge.capture.gstreamer import CustomPipeline, HardwareCamera, HardwareVideo, Origin, check_line
from edge.capture.pipelines import (
    HardwareFeed,
    Pipeline,
    csi_feed,
    file_feed,
    launch_line,
    quoted,
    rtsp_feed,
    v4l2_feed,
)
from edge.capture.source import Source
from edge.config.camera import CameraConfig
from edge.config.camera_uri import CsiSpec, RtspSpec, V4l2Spec
from edge.errors import CaptureError
from edge.geometry import Image
from tests.capture.conftest import Media, ffmpeg, lavfi_pattern
from tests.capture.conftest import media as media  # a fixture
from tests.capture.rtsp_camera import RtspCamera
from tests.gstreamer.substitutes import in_software
from tests.gstreamer.system_opencv import SystemCapture, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

# GStreamer's bars, as BGR, from left to right.
BARS_BGR = (
    (255, 255, 255),
    (0, 255, 255),
    (255, 255, 0),
    (0, 255, 0),
    (255, 0, 255),
    (0, 0, 255),
    (255, 0, 0),
)


class Opener:
    """Opens pipelines in the other interpreter, one at a time."""

    def __init__(self) -> None:
        self._capture = SystemCapture()

    def pipeline(self, pipeline: Pipeline) -> SystemCapture:
        return self.line(launch_line(in_software(pipeline)))

    def line(self, line: str) -> SystemCapture:
        check_line(line)
        self._capture.open(line)
        return self._capture

    def quit(self) -> None:
        self._capture.quit()


@pytest.fixture(scope="module")
def opener() -> Iterator[Opener]:
    made = Opener()
    yield made
    made.quit()


def camera(uri: str, **keys: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": "gate", "uri": uri, **keys})


def csi(**keys: object) -> HardwareFeed:
    return csi_feed(CsiSpec(0), camera("csi://0", **keys))


def usb(**keys: object) -> HardwareFeed:
    return v4l2_feed(V4l2Spec(Path("/dev/video0")), camera("/dev/video0", **keys))


def shown(source: Source, count: int = 1) -> List[Image]:
    source.open()
    pictures = [source.read() for _ in range(count)]
    source.close()
    return [picture.image for picture in pictures if picture is not None]


def bars(image: Image) -> List[Tuple[int, ...]]:
    """The colours in the middle of the seven bars, in the upper half."""
    height, width = image.shape[:2]
    columns = [int(width * (2 * n + 1) / 14) for n in range(7)]
    return [tuple(int(v) for v in image[height // 4, x]) for x in columns]


SD_TOLERANCE = 6
# What is higher than SD GStreamer's test picture paints in BT.709, and we take it for BT.601.
HD_TOLERANCE = 45


def assert_bars(image: Image, tolerance: int = SD_TOLERANCE) -> None:
    assert np.abs(np.subtract(bars(image), BARS_BGR)).max() <= tolerance, bars(image)


SD = {"size_wh": [640, 480]}
FEEDS: Dict[str, Tuple[Callable[[], HardwareFeed], Tuple[int, int]]] = {
    "csi": (lambda: csi(**SD), (320, 240)),
    "csi at its rate, mode and exposure": (
        lambda: csi(**SD, capture_fps=29.97, sensor_mode=1, exposure_ms=5),
        (320, 240),
    ),
    "csi of 1080p": (lambda: csi(), (320, 180)),
    "csi of an odd size": (lambda: csi(size_wh=[1366, 769]), (320, 180)),
    "usb mjpeg": (lambda: usb(**SD, pixel_format="mjpeg", capture_fps=15), (320, 240)),
    "usb yuyv": (lambda: usb(**SD, pixel_format="yuyv", exposure_ms=2), (320, 240)),
    "usb of its own size": (lambda: usb(pixel_format="yuyv"), (320, 240)),
}


@pytest.mark.parametrize(("make_feed", "size_wh"), FEEDS.values(), ids=FEEDS)
def test_cameras_come_out_in_the_letterboxed_size(
    opener: Opener, make_feed: Callable[[], HardwareFeed], size_wh: Tuple[int, int]
) -> None:
    source = HardwareCamera(make_feed, (320, 320), Origin("it", "?"), opener.pipeline)
    for image in shown(source, 3):
        assert image.shape == (size_wh[1], size_wh[0], 3)
        assert image.flags.c_contiguous
        assert_bars(image, SD_TOLERANCE if size_wh == (320, 240) else HD_TOLERANCE)


def test_without_a_model_the_size_stays(opener: Opener) -> None:
    source = HardwareCamera(lambda: csi(**SD), None, Origin("it", "?"), opener.pipeline)
    assert shown(source)[0].shape == (480, 640, 3)


def test_a_width_that_rows_do_not_fill_is_trimmed(opener: Opener) -> None:
    source = HardwareCamera(
        lambda: usb(size_wh=[642, 482], pixel_format="yuyv"),
        None,
        Origin("it", "?"),
        opener.pipeline,
    )
    image = shown(source)[0]
    assert image.shape == (482, 640, 3)
    assert_bars(image)


@pytest.mark.parametrize(
    ("degrees", "turns", "size_wh"),
    [(0, 0, (320, 240)), (90, 1, (240, 320)), (180, 2, (320, 240)), (270, 3, (240, 320))],
)
def test_turning_is_clockwise(
    opener: Opener, degrees: int, turns: int, size_wh: Tuple[int, int]
) -> None:
    source = HardwareCamera(
        lambda: csi(**SD, rotate=degrees), (320, 320), Origin("it", "?"), opener.pipeline
    )
    image = shown(source)[0]
    assert image.shape == (size_wh[1], size_wh[0], 3)
    # numpy turns anticlockwise: back again.
    assert_bars(np.rot90(image, turns), SD_TOLERANCE if turns % 2 == 0 else HD_TOLERANCE)


def test_nv12_shows_what_bgr_shows(opener: Opener) -> None:
    by_nv12 = shown(
        HardwareCamera(lambda: csi(**SD), (320, 320), Origin("it", "?"), opener.pipeline)
    )[0]
    pipeline = in_software(csi(**SD).pipeline((320, 240)))
    line = launch_line(pipeline).replace("format=NV12,width=320", "format=BGR,width=320")
    by_bgr = shown(CustomPipeline(line, opener.line))[0]
    # The lower quarter's noise is another one each time; colours run at the edges of the bars.
    difference = np.abs(by_nv12.astype(int) - by_bgr.astype(int))[:150]
    assert np.percentile(difference, 90) <= 4


@pytest.fixture(scope="module")
def h265_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("h265") / "clip.mp4"
    pattern = lavfi_pattern(1.2, size="320x240")
    ffmpeg(*pattern[:-4], "-c:v", "libx265", "-x265-params", "log-level=error", "-g", "10",
           "-pix_fmt", "yuv420p", str(path))  # fmt: skip
    return path


def first_frame(path: Path) -> Image:
    from edge.capture.video import VideoFile

    return shown(VideoFile(path, loop=False))[0]


def test_a_file_is_played_to_its_end(opener: Opener, media: Media) -> None:
    feed = file_feed(media.clip, camera(str(media.clip)))
    source = HardwareVideo(
        media.clip, feed, None, loop=False, realtime=True, open_pipeline=opener.pipeline
    )
    source.open()
    pictures = [source.read() for _ in range(13)]
    source.close()
    assert [p.media_s for p in pictures if p] == [pytest.approx(n / 10) for n in range(12)]
    assert pictures[12] is None
    first = pictures[0]
    assert first is not None
    difference = np.abs(first.image.astype(int) - first_frame(media.clip).astype(int))
    assert difference.mean() < 3


def test_a_file_loops_as_fast_as_it_decodes(opener: Opener, h265_clip: Path) -> None:
    feed = file_feed(h265_clip, camera(str(h265_clip)))
    source = HardwareVideo(
        h265_clip, feed, (160, 160), loop=True, realtime=False, open_pipeline=opener.pipeline
    )
    source.open()
    pictures = [source.read() for _ in range(30)]
    source.close()
    assert [p and p.media_s for p in pictures] == [None] * 30
    assert {p.image.shape for p in pictures if p} == {(120, 160, 3)}
    first, again, second = (pictures[n] for n in (0, 12, 13))
    assert first is not None
    assert again is not None
    assert second is not None
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, second.image)


def test_text_is_no_video(opener: Opener, media: Media) -> None:
    feed = file_feed(media.text, camera(str(media.text)))
    source = HardwareVideo(
        media.text, feed, None, loop=True, realtime=True, open_pipeline=opener.pipeline
    )
    with pytest.raises(CaptureError, match=r"text\.mp4: is it a video"):
        source.open()


@pytest.mark.parametrize("codec", ["auto", "h264"])
def test_a_network_camera_is_decoded(
    opener: Opener, media: Media, tmp_path: Path, codec: str
) -> None:
    with RtspCamera(media.clip, tmp_path) as server:
        play_network_camera(opener, server, codec, (120, 160, 3))


@pytest.mark.parametrize("codec", ["auto", "h265"])
def test_a_network_camera_of_h265_is_decoded(
    opener: Opener, h265_clip: Path, tmp_path: Path, codec: str
) -> None:
    with RtspCamera(h265_clip, tmp_path) as server:
        play_network_camera(opener, server, codec, (240, 320, 3))


def play_network_camera(
    opener: Opener, server: RtspCamera, codec: str, shape: Tuple[int, ...]
) -> None:
    address = f"127.0.0.1:{server.port}"
    spec = RtspSpec(f"rtsp://viewer:s%22cr%20et@{address}/stream", address)
    feed = rtsp_feed(spec, camera("rtsp://h/s", codec=codec, latency_ms=50))
    source = HardwareCamera(lambda: feed, None, Origin(address, "check it"), opener.pipeline)
    assert [image.shape for image in shown(source, 3)] == [shape] * 3


HOSTILE_NAMES = (
    'a"b', "a'b", "a b", "a\\b", "a\\\\b", 'a\\"b', "a ! fakesink", 'a" ! fakesink name="x',
    "a=b", "a\nb", "a\tb", "ä", "$x", "%s", "trail\\", '"', "a;b", "(a)", "a,b",
)  # fmt: skip


def test_no_name_gets_out_of_its_quotes(opener: Opener, media: Media, tmp_path: Path) -> None:
    line = "filesrc name=source location={} ! parsebin ! decodebin"
    for name in HOSTILE_NAMES:
        path = tmp_path / name
        shutil.copy(media.clip, path)
        source = CustomPipeline(line.format(quoted(str(path))), opener.line)
        assert shown(source)[0].shape == (120, 160, 3), name


RAW: Dict[str, Tuple[str, Any]] = {
    "completed": ("videotestsrc is-live=true ! video/x-raw,width=64,height=48", (48, 64, 3)),
    "complete": (
        "videotestsrc ! video/x-raw,format=BGR,width=64,height=48 ! appsink sync=false",
        (48, 64, 3),
    ),
}


@pytest.mark.parametrize(("line", "shape"), RAW.values(), ids=RAW)
def test_a_users_own_pipeline(opener: Opener, line: str, shape: Tuple[int, ...]) -> None:
    assert [image.shape for image in shown(CustomPipeline(line, opener.line), 3)] == [shape] * 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nosuchelement", 'no element "nosuchelement"'),
        ("videotestsrc ! video/x-raw,format=GRAY8 ! appsink", "not BGR"),
        ("videotestsrc num-buffers=2", "ended"),
        ("rtspsrc location=rtsp://u:secret@h/s user-pw=secret ! rtpdepay", "no element"),
    ],
)
def test_a_users_own_pipeline_that_fails(opener: Opener, line: str, words: str) -> None:
    source = CustomPipeline(line, opener.line)
    with pytest.raises(CaptureError, match=words) as caught:
        shown(source, 5)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_new_size_is_an_error_until_it_is_opened_again(opener: Opener, tmp_path: Path) -> None:
    clips = [tmp_path / "small.ts", tmp_path / "large.ts"]
    for clip, size in zip(clips, ("160x120", "320x240")):
        ffmpeg(*lavfi_pattern(1, size=size), "-pix_fmt", "yuv420p", str(clip))
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(clip.read_bytes() for clip in clips))
    feed = file_feed(both, camera(str(both)))
    source = HardwareCamera(lambda: feed, None, Origin("gate", "?"), opener.pipeline)
    with pytest.raises(CaptureError, match="gate changed its picture's size"):
        shown(source, 20)
